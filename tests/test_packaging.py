"""What a user installs: the contents of the wheel, and the installed command in an environment made from nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Mapping
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("refine", "configs", "controllers", "evals", "generators")
MIB = 2**20


def call(*command: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} → {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that no build folder of the checkout can leak into it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source, cwd=source)
    (path,) = out.glob("legion_refine-*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def shipped(path: Path) -> str:
    """Where a file of the checkout lies in the wheel."""
    relative = path.relative_to(ROOT)
    return relative.as_posix() if relative.parts[0] == "refine" else f"refine/{relative.as_posix()}"


def test_wheel_holds_every_file_and_one_import_name(names: set[str]) -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {name for name in names if ".dist-info/" not in name} == {shipped(path) for path in files}
    assert "refine/py.typed" in names


def test_wheel_metadata(wheel: Path, names: set[str]) -> None:
    (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
    assert f"{info}/licenses/LICENSE" in names
    with zipfile.ZipFile(wheel) as archive:
        head = Parser().parsestr(archive.read(f"{info}/METADATA").decode())
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert head["Name"] == "legion-refine"
    assert head["Requires-Python"] == ">=3.11"
    assert head["License-Expression"] == "Apache-2.0"
    assert "refine = refine.cli:main" in scripts
    assert not any(line.startswith("torchvision") for line in head.get_all("Requires-Dist", []))


def test_weights_stay_small() -> None:
    sizes = [path.stat().st_size for path in (ROOT / "refine" / "weights").rglob("*") if path.is_file()]
    assert max(sizes) <= 16 * MIB
    assert sum(sizes) <= 50_000_000


def test_constraints_pin_every_dependency() -> None:
    pins = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"], *project["optional-dependencies"]["train"]]
    assert {line.split(">=")[0] for line in wanted} <= pins


@pytest.mark.slow
def test_installed_command_runs_elsewhere(wheel: Path, tmp_path: Path) -> None:
    """A fresh environment, another folder, and in that folder a foreign ``evals`` that must not be picked up."""
    python, home = tmp_path / "env" / "bin" / "python", tmp_path / "elsewhere"
    (home / "evals").mkdir(parents=True)
    (home / "evals" / "__init__.py").write_text("raise AssertionError('a foreign package was imported')")
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")} | {"PYTHON": str(python)}
    call(sys.executable, "-m", "venv", tmp_path / "env", cwd=home)
    call(ROOT / ".ci" / "install-torch", cwd=home, env=env)
    call(python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", wheel, cwd=home, env=env)
    refine = python.with_name("refine")
    assert "run" in call(refine, "--help", cwd=home, env=env)
    call(refine, "run", "--out", home / "out", cwd=home, env=env)
    ledger = [json.loads(line) for line in (home / "out" / "ledger.jsonl").read_text().splitlines()]
    assert len(ledger) == 4
    assert (home / "out" / "report.html").stat().st_size > 10_000
