"""Where the weights that ship with the package lie.

A reference ``family:model`` (``mini:generator``) names the folder ``refine/weights/<family>/<model>``; it means the same on any machine,
so configurations and records hold references, never paths.
"""

from __future__ import annotations

from pathlib import Path

from refine.errors import CheckpointError, unknown

WEIGHTS = Path(__file__).parent / "weights"


def families() -> dict[str, list[str]]:
    """The embedded families and their models."""
    folders = [folder for folder in sorted(WEIGHTS.iterdir()) if folder.is_dir()] if WEIGHTS.is_dir() else []
    return {family.name: sorted(model.name for model in family.iterdir() if model.is_dir()) for family in folders}


def is_reference(text: str) -> bool:
    """True for ``family:model`` where a family of that name ships with the package."""
    return text.partition(":")[0] in families() and ":" in text


def locate(reference: str) -> Path:
    """The folder of an embedded model. Raises CheckpointError where there is none of that name."""
    family, _, model = reference.partition(":")
    known = families()
    if model not in known.get(family, []):
        names = [f"{one}:{name}" for one, models in known.items() for name in models]
        raise CheckpointError(unknown("embedded model", reference, names))
    return WEIGHTS / family / model


def resolve(text: str) -> str:
    """The folder's path for a reference; any other text (a path, a hub name) as it is."""
    return str(locate(text)) if is_reference(text) else text
