"""Saved folders that can be moved: weights beside the configuration that names them, and the line of code that loads it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from refine import hints, plugins, trees
from refine.errors import CheckpointError, OutputError
from refine.pipeline.roles import Spec, rewards_of

INDEX, CODE = "model_index.json", "pipeline.py"
HERE = "./"  # begins a path within the saved folder


def write_code(path: Path, name: str) -> None:
    """The module that ``custom_pipeline`` runs."""
    path.write_text(f"from refine.pipeline import {name}\n\n__all__ = [{name!r}]\n", encoding="utf-8")


def portable(folder: Path, spec: Spec) -> None:
    """Copy the weights that controller, rewards, reviser and the plugins within them are loaded from into a saved folder, and name them in
    its index.

    Only paths of this machine are copied; embedded references and hub names mean the same everywhere. Raises OutputError.
    """
    rewards = dict(rewards_of(spec.rewards))
    nodes = trees.spelled_out({"controller": spec.controller, "reviser": spec.reviser, "rewards": rewards})
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index |= {role: _packed(folder, role, role, nodes[role]) for role in ("controller", "reviser")}
        index["rewards"] = {name: _packed(folder, "reward", f"rewards/{name}", node) for name, node in nodes["rewards"].items()}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot save into {folder}: {error}. Make room or choose another folder.") from error


def _packed(folder: Path, kind: str, place: str, node: Mapping[str, Any]) -> dict[str, Any]:
    """A node whose paths, and those of the nodes within it, lead into the folder."""
    known = plugins.schema(plugins.find(kind, node["use"]))
    packed = dict(node)
    for name, value in node.items():
        hint = known[name].hint if name in known else None
        role = hints.plugged(hint)
        if role and isinstance(value, str | Mapping):
            packed[name] = _within(folder, f"{place}/{name}", value, *role)
        elif isinstance(value, str | Path) and (hint is Path or Path in get_args(hint)):
            packed[name] = _copied(folder, f"{place}/{name}", value)
    return packed


def _within(folder: Path, place: str, value: Any, kind: str, many: bool) -> Any:
    """A plugin's node within another's, or a mapping of names to them."""
    if many:
        named = {name: {"use": name} | dict(one) if isinstance(one, Mapping) else one for name, one in value.items() if one is not None}
        return {name: _within(folder, f"{place}/{name}", one, kind, False) for name, one in named.items()}
    return _packed(folder, kind, place, {"use": value} if isinstance(value, str) else value)


def _copied(folder: Path, place: str, value: str | Path) -> str:
    """The path within the folder of a copy; a value that is no path here, as it is."""
    source = Path(value).expanduser()
    if not source.exists():
        return str(value)
    target = folder / place if source.is_dir() else folder / place / source.name
    if source.resolve() != target.resolve():
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        else:
            shutil.copy2(source, target)
    return HERE + target.relative_to(folder).as_posix()


def located(spec: Spec, folder: str | None) -> Spec:
    """The spec with paths within a saved folder made whole; as it is where it was not loaded from one (``folder`` None). Raises
    CheckpointError where the folder is not on this machine."""
    if not folder:
        return spec
    rewards = {name: _found(given, folder) for name, given in rewards_of(spec.rewards)}
    return replace(spec, controller=_found(spec.controller, folder), rewards=rewards, reviser=_found(spec.reviser, folder))


def _found(given: Any, folder: str) -> Any:
    """A node with its paths whole, and those of the nodes within it; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    inside = {name: value for name, value in given.items() if isinstance(value, str) and value.startswith(HERE)}
    if inside and not Path(folder).is_dir():
        raise CheckpointError(
            f"{next(iter(inside.values()))} lies in the folder that this pipeline was saved to, and {folder!r} is no folder here. "
            "Download it first (huggingface_hub.snapshot_download) and load it from there."
        )
    return {name: str(Path(folder) / value) if name in inside else _found(value, folder) for name, value in given.items()}
