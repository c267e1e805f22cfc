"""What README, docs/ and the examples say: code runs, commands parse, names exist, links lead somewhere, messages are the code's.

A block that cannot run here stands under a line that the reader sees, ``*Not run in the tests: reason.*``; its commands must still parse
and pass the configuration's check, its Python must compile and import.
"""

from __future__ import annotations

import ast
import contextlib
import glob
import importlib
import io
import os
import pydoc
import re
import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from refine import cli, config, memory, needs, presets, sizes
from refine.gate import REASONS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
BLOCK = re.compile(
    r"^(?:\*Not run in the tests: (?P<reason>[^\n]+)\.\*\n\n)?```(?P<language>sh|python)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL
)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
CALL = re.compile(r"\s*(?:[A-Z_]+=\S+ )*(?:accelerate launch .*-m )?(?:\S*/)?refine (?=\w)")
REASON = re.compile(r"(needs|installs|downloads|takes minutes|starts processes)\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page; ``reason``: why it is not run (None: it is)."""

    page: Path
    language: str
    text: str
    reason: str | None

    @property
    def lines(self) -> list[str]:
        """A shell block's lines, continued ones joined, without comments and empty ones."""
        return [line for line in self.text.replace("\\\n", " ").splitlines() if line.split("#")[0].strip()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(page, one["language"], one["text"], one["reason"]) for one in BLOCK.finditer(text)]


def arguments(line: str) -> list[str] | None:
    """What stands behind ``refine`` in a shell line, patterns expanded as a shell does; None where the line does not call it."""
    found = CALL.match(line)
    if found is None:
        return None
    words = shlex.split(line[found.end() :].split(" > ")[0], comments=True)
    return [part for word in words for part in (sorted(glob.glob(word)) if "*" in word else [word])]


ALL = [block for page in PAGES for block in blocks(page)]
RUN = [page for page in PAGES if any(block.page == page and block.reason is None for block in ALL)]


def test_most_blocks_run_and_the_others_say_why() -> None:
    marked = [block for block in ALL if block.reason is not None]
    assert len(ALL) > 30 and len(marked) <= 0.4 * len(ALL)
    assert [block.reason for block in marked if not REASON.match(block.reason or "")] == []
    fences = {name_of(page): len(re.findall(r"^```(?:sh|python|bash|console|py)\n", page.read_text(), re.MULTILINE)) for page in PAGES}
    assert fences == {name_of(page): len(blocks(page)) for page in PAGES}, "a block that the pattern above does not see"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page):
        if block.reason is not None:
            continue
        if block.language == "python":
            exec(compile(block.text, name_of(page), "exec"), names)
            continue
        for line in block.lines:
            run_line(line)


def run_line(line: str) -> None:
    """Run a call of refine; of other commands, check that what they name is there."""
    words = arguments(line)
    if words is None:
        assert stands(shlex.split(line, comments=True)), f"{line!r} is no command that can be checked: mark its block with the reason"
        return
    said = io.StringIO()
    here = [str(Path.cwd())] if "PYTHONPATH=. " in line else []
    sys.path[:0] = here
    try:
        with contextlib.redirect_stderr(said):
            code = cli.main(words)
    finally:
        sys.path[:] = sys.path[len(here) :]
    assert code == 0, f"refine {shlex.join(words)}: {code}\n{said.getvalue()}"


def stands(words: list[str]) -> bool:
    """True for a target of the Makefile, and for ``python -m`` of a module that imports."""
    words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if words[0] == "make":
        return all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in words[1:] if "=" not in target)
    return words[0].endswith("python") and words[1] == "-m" and importlib.import_module(words[2]) is not None


def parsed() -> Iterator[tuple[str, str]]:
    """Every call of refine that no test runs: in marked blocks, and in indented ones."""
    for block in ALL:
        if block.reason is not None and block.language == "sh":
            yield from ((name_of(block.page), line) for line in block.lines if arguments(line) is not None)
    for page in PAGES:
        indented = re.findall(r"^ {4}.*", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
        yield from ((name_of(page), line) for line in indented if arguments(line) is not None)


@pytest.mark.parametrize(("page", "line"), list(parsed()), ids=lambda text: text[:50])
def test_a_command_that_is_not_run_parses_and_its_keys_exist(page: str, line: str) -> None:
    args = parse(arguments(line) or [], page)
    named = getattr(args, "preset", None) or []
    known = [name for name in named if not name.endswith(".yaml")]
    assert [name for name in known if name not in presets.names()] == [], page
    if known == named and "rewards.vlm" not in line:  # rewards.vlm is the example package's, which is not installed
        config.load(known, getattr(args, "set", None) or [])


MARKED = [block for block in ALL if block.reason is not None and block.language == "python"]


@pytest.mark.parametrize("block", MARKED, ids=lambda block: name_of(block.page))
def test_python_that_is_not_run_compiles_and_what_it_imports_exists(block: Block) -> None:
    imports = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert imports, "it should show where its names come from"
    exec(compile(ast.Module(imports, []), name_of(block.page), "exec"), {})


def parse(words: list[str], page: str) -> Namespace:
    try:
        return cli.parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"{page}: refine {shlex.join(words)}")


def slugs(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(FENCED.sub("", page.read_text(encoding="utf-8"))) if "://" not in target]
    for target in targets:
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in slugs(there), target


def test_every_page_is_in_the_navigation() -> None:
    def files(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            yield from files(child)

    listed = sorted(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert listed == sorted(path.name for path in DOCS.glob("*.md"))


@pytest.mark.parametrize("target", re.findall(r"^::: (\S+)", (DOCS / "api.md").read_text(), re.MULTILINE))
def test_the_reference_names_what_exists_and_is_documented(target: str) -> None:
    assert pydoc.locate(target).__doc__, target


def literals() -> list[str]:
    """Every text of the package, with … in the place of a value."""
    found: list[str] = []
    for folder in ("refine", "controllers", "generators", "evals"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return found


QUOTED = re.findall(r"^> `(.+)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_quoted_messages_are_those_of_the_code() -> None:
    texts = literals()
    assert len(QUOTED) > 30
    assert [message for message in QUOTED if not any(is_quote(message, text) for text in texts)] == []


# A mistake, and how the message that troubleshooting.md has for it begins.
MISTAKES = [
    ("run --preset sdlx", "Unknown"),
    ("run --preset painter --set budget.rounds", "--set …"),
    ("run --preset painter --set controller.use=null", "….use is missing"),
    ("run --preset painter --set controller=legion", "….… is required"),
    ("run --preset painter --set budget.rounds=many", "… is …; it must be"),
    ("run --preset painter --set controller=nowhere:Thing", "… …: there is no module"),
    ("run --preset painter --set policy=oracle-mask", "the policy oracle-mask"),
    ("run --preset painter gibberish", "… is no still life caption"),
    ("run --preset painter --images bad.png gibberish", "… is not an image"),
    ("run --preset painter --out full", "… exists already"),
    ("show full", "… is not the folder of a run"),
]


@pytest.mark.parametrize(("command", "start"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_mistake_is_told_as_quoted(command: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.png").write_text("no picture", encoding="utf-8")
    Path("full").mkdir()
    Path("full", "other.txt").touch()
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        assert cli.main(shlex.split(command)) in (2, 3)
    (quote,) = [message for message in QUOTED if message.startswith(start)]
    assert re.search(".+".join(map(re.escape, quote.split("…"))), said.getvalue().strip(), re.DOTALL), said.getvalue()


def is_quote(message: str, text: str) -> bool:
    """True where the message is the text or its end; a value may stand for what surrounds it."""
    parts = [re.escape(part) for part in message.split("…")]
    return len(text) > 12 and re.search(".*".join(parts) + r"$", text, re.DOTALL) is not None


def test_the_verdicts_are_those_of_the_gate() -> None:
    text = (DOCS / "numbers.md").read_text(encoding="utf-8")
    assert [reason for reason in REASONS if f"`{reason}`" not in text] == []


def test_the_presets_table_is_what_doctor_counts() -> None:
    text = (DOCS / "presets.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.MULTILINE)
    assert len(rows) == 7
    for name, *told in rows:
        tree = config.load([name]).tree
        download = sum(sizes.weights(need.repo) or 0.0 for need in needs.needs(tree))
        by = {demand.offload: demand for demand in memory.demands(memory.models(tree)[0])}
        counted = [download, by["none"].together, by["model"].together, by["none"].staged, by["group"].staged]
        assert told == [f"{value:.1f}" for value in counted], name
    missing = [name for name in presets.names() if f"`{name}`" not in text]
    assert missing == []


def test_the_site_builds(tmp_path: Path) -> None:
    for module in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(module, reason="pip install '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "<li><code>reviser</code>, <code>policy</code>" in reference, "the aligned lists of docstrings are lists"
    loads = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//""")
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 10 and [page.name for page in pages if loads.search(page.read_text(encoding="utf-8"))] == [], "asks a third party"
