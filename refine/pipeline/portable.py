"""Saved folders that can be moved: weights beside the configuration that names them, and the line of code that loads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from refine import plugins
from refine.errors import CheckpointError, OutputError
from refine.pipeline.roles import Spec, is_node, rewards_of

INDEX, CODE = "model_index.json", "pipeline.py"
HERE = "./"  # begins a path within the saved folder


def write_code(path: Path, name: str) -> None:
    """The module that ``custom_pipeline`` runs."""
    path.write_text(f"from refine.pipeline import {name}\n\n__all__ = [{name!r}]\n", encoding="utf-8")


def portable(folder: Path, spec: Spec) -> None:
    """Copy the weights that controller and rewards are loaded from into a saved folder, and name them there in its index.

    Only paths of this machine are copied; embedded references and hub names mean the same everywhere. Raises OutputError.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["controller"] = _packed(folder, "controller", "controller", spec.controller)
        index["rewards"] = {name: _packed(folder, "reward", f"rewards/{name}", given) for name, given in rewards_of(spec.rewards)}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot save into {folder}: {error}. Make room or choose another folder.") from error


def _packed(folder: Path, kind: str, place: str, given: Any) -> Any:
    """A node whose paths lead into the folder."""
    node = {"use": given} if isinstance(given, str) else dict(given)
    for name in _paths(kind, node):
        source = Path(str(node[name])).expanduser()
        if not source.exists():
            continue
        target = folder / place / name if source.is_dir() else folder / place / name / source.name
        if source.resolve() != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)
        node[name] = HERE + target.relative_to(folder).as_posix()
    return node


def _paths(kind: str, node: Mapping[str, Any]) -> list[str]:
    """The arguments of a node that may name a file or a folder."""
    known = plugins.schema(plugins.find(kind, node["use"]))
    hints = {name: known[name].hint for name, value in node.items() if name in known and isinstance(value, str | Path)}
    return [name for name, hint in hints.items() if hint is Path or Path in get_args(hint)]


def located(spec: Spec, folder: str | None) -> Spec:
    """The spec with paths within a saved folder made whole. Raises CheckpointError where the folder is not on this machine."""
    rewards = {name: _found(given, folder) for name, given in rewards_of(spec.rewards)}
    return replace(spec, controller=_found(spec.controller, folder), rewards=rewards)


def _found(given: Any, folder: str | None) -> Any:
    if not is_node(given) or isinstance(given, str):
        return given
    inside = {name: value for name, value in given.items() if isinstance(value, str) and value.startswith(HERE)}
    if inside and not (folder and Path(folder).is_dir()):
        raise CheckpointError(
            f"{next(iter(inside.values()))} lies in the folder that this pipeline was saved to, and {folder!r} is no folder here. "
            "Download it first (huggingface_hub.snapshot_download) and load it from there."
        )
    return {**given, **{name: str(Path(str(folder)) / value) for name, value in inside.items()}}
