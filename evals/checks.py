"""What every reward asks of its input. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence

from refine.errors import InputError


def check_pairs(images: Sequence[object], prompts: Sequence[object] | str) -> None:
    """One prompt for each image; a lone string is not a list of prompts."""
    if isinstance(prompts, str):
        raise InputError(f"prompts is one string ({prompts[:60]!r}); give one prompt per image in a list.")
    if len(images) != len(prompts):
        raise InputError(f"{len(images)} images but {len(prompts)} prompts; score() pairs them one to one. For all pairs use matrix().")
