"""Where the weights that ship with the package lie.

A reference ``family:model`` (``mini:generator``) names the folder ``refine/weights/<family>/<model>``; it means the same on any machine,
so configurations and records hold references, never paths.
"""

from __future__ import annotations

import re
from pathlib import Path

from refine.errors import CheckpointError, unknown

WEIGHTS = Path(__file__).parent / "weights"
FAMILIES = ("mini",)


def models() -> list[str]:
    """The reference of every embedded model."""
    folders = [WEIGHTS / family for family in FAMILIES if (WEIGHTS / family).is_dir()]
    return sorted(f"{family.name}:{model.name}" for family in folders for model in family.iterdir() if model.is_dir())


def is_reference(text: str) -> bool:
    """True for ``family:model`` where the family is an embedded one."""
    return bool(re.fullmatch(rf"({'|'.join(FAMILIES)}):[\w.-]+", text))


def locate(reference: str) -> Path:
    """The folder of an embedded model. Raises CheckpointError where there is none of that name."""
    if reference not in models():
        raise CheckpointError(unknown("embedded model", reference, models()))
    family, _, model = reference.partition(":")
    return WEIGHTS / family / model


def resolve(text: str) -> str:
    """The folder's path for a reference; any other text (a path, a hub name) as it is."""
    return str(locate(text)) if is_reference(text) else text
