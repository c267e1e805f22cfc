"""What README and docs/ say can be typed: commands parse, presets exist, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from refine import cli, presets

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


CALL = re.compile(r"\s*(?:[A-Z_]+=\S+ )*(?:accelerate launch .*-m )?refine (?=\w)")


def commands(page: Path) -> list[str]:
    """Lines of the page's code that call refine, continued lines joined; what stands in front of the call is left out."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    indented = re.findall(r"^ {4}.*", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    lines = [*indented, *(line for block in BLOCK.findall(text) for line in block.splitlines())]
    return [line[match.end() :] for line in lines if (match := CALL.match(line))]


CALLS = [(page.name, line) for page in PAGES for line in commands(page)]


def test_there_is_something_to_check() -> None:
    assert len(CALLS) > 10


@pytest.mark.parametrize(("page", "line"), CALLS, ids=[f"{page}:{line[:40]}" for page, line in CALLS])
def test_a_command_of_the_docs_parses(page: str, line: str) -> None:
    try:
        args = cli.parser().parse_args(shlex.split(line, comments=True))
    except SystemExit:
        pytest.fail(f"{page}: refine {line}")
    for name in getattr(args, "preset", None) or []:
        assert name.endswith(".yaml") or name in presets.names(), f"{page}: there is no preset {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []
