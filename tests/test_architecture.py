"""The arrows of who may import whom, the shape of the package, and the habits that a machine can check."""

from __future__ import annotations

import ast
import io
import re
import resource
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from refine import errors

ROOT = Path(__file__).parent.parent
SIBLINGS = ("configs", "controllers", "evals", "generators")
HEAVY = ("torch", "diffusers", "transformers", "accelerate", "peft", "scipy")

NOUNS = ("refine.types", "refine.errors", "refine.seeds", "refine.regions", "refine.overlap", "refine.adapters", "refine.replies")
METHOD = tuple(f"refine.{name}" for name in ("gate", "policy", "policies", "repair", "reviser", "stages", "walk", "loop"))
SETTINGS = tuple(f"refine.{name}" for name in ("trees", "presets", "hints", "embedded", "plugins", "config", "versions"))
FILES = tuple(f"refine.{name}" for name in ("images", "metadata", "synthetic", "prompts", "jobs", "overlay", "record", "durable", "store"))
DEMANDS = tuple(f"refine.{name}" for name in ("device", "sizes", "memory", "machine", "needs"))
MODELS = ("refine.controllers", "refine.generators", "refine.evals")
TOP = tuple(f"refine.{name}" for name in ("__main__", "cli", "commands", "display", "evaluation", "runner", "pipeline", "ui"))
ENGINE = ("refine.engine", "refine.shards")

# module or package -> what it may import of refine, beside itself; the longest name that fits counts. None: everything.
ARROWS: dict[str, tuple[str, ...] | None] = {
    "refine.types": (),
    "refine.errors": (),
    "refine.seeds": (),
    "refine.training": (),
    "refine.trunk": (),
    "refine.configs": (),
    "refine.regions": ("refine.types",),
    "refine.overlap": ("refine.types", "refine.errors"),
    "refine.adapters": ("refine.types", "refine.errors"),
    "refine.replies": (),
    "refine.chats": NOUNS,
    "refine.rewriter": (*NOUNS, "refine.reviser", "refine.chats"),
    "refine.stilllife": NOUNS,
    **dict.fromkeys(METHOD, (*NOUNS, *METHOD)),
    **dict.fromkeys(MODELS, (*NOUNS, "refine.stilllife", "refine.training", "refine.trunk", "refine.embedded", "refine.device")),
    "refine.evals.datasets": (*NOUNS, "refine.stilllife", "refine.images"),
    **dict.fromkeys(SETTINGS, (*NOUNS, *METHOD, *SETTINGS, "refine.device")),
    **dict.fromkeys(FILES, (*NOUNS, *METHOD, *SETTINGS, *FILES)),
    **dict.fromkeys(DEMANDS, (*NOUNS, *SETTINGS, *DEMANDS, "refine.runner")),
    "refine.report": (*NOUNS, *METHOD, *FILES),
    "refine.engine": (*NOUNS, *METHOD),
    "refine.isolation": ("refine.errors",),
    "refine.shards": ("refine.errors",),
    "refine.bench": (*NOUNS, *METHOD, *SETTINGS, *FILES, *ENGINE, "refine.isolation", "refine.evals", "refine.report", "refine.stilllife"),
    **dict.fromkeys(TOP),
}

# What a class may inherit from: contracts, errors, plain data, and what the host libraries demand.
BASES = re.compile(
    r"Protocol|Exception|\w*Error|UnknownName|MissingDependency|Enum|StrEnum|NamedTuple|TypedDict|Generic|Module|Dataset"
    r"|PreTrainedModel|PreTrainedConfig|PretrainedConfig|ProcessorMixin|ConfigMixin|DiffusionPipeline|ImagePipelineOutput|ModularPipelineBlocks|HTMLParser"
)


def module_name(path: Path) -> str:
    """``controllers/legion/model.py`` → ``refine.controllers.legion.model``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "refine" else ("refine", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, Path]:
    """Module name → file, for the whole package."""
    files = [path for folder in ("refine", *SIBLINGS) for path in sorted((ROOT / folder).rglob("*.py"))]
    return {module_name(path): path for path in files}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(nodes: Iterator[ast.AST], package: str) -> Iterator[str]:
    """Full names of what the import statements among ``nodes`` bring in; relative ones are resolved against ``package``."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str:
    return name if sources()[name].name == "__init__.py" else name.rpartition(".")[0]


def at_module_level(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement that runs when the module is imported; blocks of ``if TYPE_CHECKING`` do not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from at_module_level(child)


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def owner(name: str) -> str:
    """The longest entry of ARROWS that ``name`` belongs to."""
    return max((entry for entry in ARROWS if within(name, entry)), key=len, default="")


MODULES = sorted(name for name in sources() if name != "refine")


@pytest.mark.parametrize("name", MODULES)
def test_imports_follow_the_arrows(name: str) -> None:
    place = owner(name)
    assert place, f"{name} has no place in ARROWS: say what it may import"
    allowed = ARROWS[place]
    if allowed is None:
        return
    own = [other for other in imported(ast.walk(tree(sources()[name])), package_of(name)) if within(other, "refine")]
    modules = [other for other in own if other in sources() or other.rpartition(".")[0] in sources()]
    wrong = [other for other in modules if owner(other) and not any(within(other, prefix) for prefix in (*allowed, place))]
    assert not wrong, f"{name} must not import {wrong}; it may import {allowed}"


CORE = [name for name in MODULES if sources()[name].parent == ROOT / "refine" and name not in ("refine.training", "refine.trunk")]


@pytest.mark.parametrize("name", CORE)
def test_core_imports_nothing_heavy(name: str) -> None:
    got = imported(at_module_level(tree(sources()[name])), package_of(name))
    wrong = [other for other in got if other.split(".")[0] in HEAVY and other.split(".")[0] != "scipy"]
    assert not wrong, f"{name} imports {wrong} at module level"


def test_only_full_names_are_imported() -> None:
    files = [*sources().values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    wrong = [f"{path}: {other}" for path in files for other in imported(ast.walk(tree(path)), "") if other.split(".")[0] in SIBLINGS]
    assert not wrong


def test_package_list_equals_folders() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = sorted(module_name(path) for path in sources().values() if path.name == "__init__.py")
    assert declared == folders
    stray = {path.parent for path in sources().values() if not (path.parent / "__init__.py").exists()}
    assert not stray, "folders with modules and no __init__.py"


def test_nouns_are_frozen() -> None:
    for node in ast.walk(tree(sources()["refine.types"])):
        if isinstance(node, ast.ClassDef):
            marks = [ast.unparse(mark) for mark in node.decorator_list if "dataclass" in ast.unparse(mark)]
            assert all("frozen=True" in mark for mark in marks), f"{node.name} is not frozen"


def test_no_implementation_inheritance() -> None:
    for name, path in sources().items():
        for node in ast.walk(tree(path)):
            for base in node.bases if isinstance(node, ast.ClassDef) and name != "refine.errors" else ():
                root = base.value if isinstance(base, ast.Subscript) else base
                last = ast.unparse(root).rpartition(".")[2]
                assert BASES.fullmatch(last), f"{name}.{node.name} inherits from {last}"  # type: ignore[attr-defined]


def test_errors_are_one_documented_tree() -> None:
    found = list(descendants(errors.RefineError))
    assert found
    for error in found:
        assert error.__module__ == "refine.errors"
        assert error.__doc__, error
        assert error.__name__ in str(errors.__doc__), f"{error.__name__} is missing from the tree"
        assert 1 <= error.exit_code <= 125
    names = {error.__name__ for error in found} | {"RefineError"}
    for name, path in sources().items():
        bases = [ast.unparse(base) for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef) for base in node.bases]
        assert name == "refine.errors" or not {base.rpartition(".")[2] for base in bases} & names, f"{name} defines an error of its own"


def descendants(error: type[errors.RefineError]) -> Iterator[type[errors.RefineError]]:
    for child in error.__subclasses__():
        yield child
        yield from descendants(child)


def code_lines(path: Path) -> int:
    """Lines that hold code: not blank, not comment, not docstring."""
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline)
    lines = {line for token in tokens if token.type not in skip for line in range(token.start[0], token.end[0] + 1)}
    docs = (node.body[0] for node in ast.walk(tree(path)) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body)
    for doc in docs:
        if isinstance(doc, ast.Expr) and isinstance(doc.value, ast.Constant) and isinstance(doc.value.value, str):
            lines -= set(range(doc.lineno, (doc.end_lineno or doc.lineno) + 1))
    return len(lines)


def test_the_loop_fits_one_screen() -> None:
    assert code_lines(sources()["refine.loop"]) <= 80


def test_files_and_functions_are_short() -> None:
    lengths = []
    for name, path in sources().items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, f"{name} is too long"
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append((node.end_lineno or node.lineno) - node.lineno + 1)
                assert lengths[-1] <= 60, f"{name}.{node.name} has {lengths[-1]} lines"
    assert statistics.median(lengths) <= 12


def test_tests_use_no_mocks() -> None:
    files = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    wrong = [path.name for path in files if re.search(r"MagicMock|mock\.patch|create_autospec|SimpleNamespace", path.read_text())]
    assert not wrong


def seconds(*arguments: str) -> tuple[float, str]:
    """Processor time of the fastest of three fresh interpreters (other processes count little), and what the last one printed."""
    best = float("inf")
    for _ in range(3):
        before = spent_by_children()
        done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
        best = min(best, spent_by_children() - before)
    return best, done.stdout


def spent_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_import_is_quick_and_light() -> None:
    bare, _ = seconds("-c", "pass")
    spent, printed = seconds("-c", "import sys, refine; print(*sys.modules)")
    assert not set(printed.split()) & set(HEAVY)
    assert spent - bare < 0.3


def test_help_is_quick_and_light() -> None:
    spent, printed = seconds("-m", "refine", "--help")
    assert "run" in printed
    assert spent < 1.0
    code = "import sys, refine.cli\ntry: refine.cli.main(['--help'])\nexcept SystemExit: pass\nprint('#', *sys.modules)"
    _, printed = seconds("-c", code)
    assert not set(printed.partition("#")[2].split()) & set(HEAVY)
