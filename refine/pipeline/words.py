"""Prompts as a call takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine import images, metadata
from refine.errors import InputError
from refine.images import Picture


def prompt_list(prompt: Any) -> list[str]:
    """One prompt or many, with single blanks between words (as from a prompt file). Raises InputError."""
    prompts = [prompt] if isinstance(prompt, str) else prompt
    if not isinstance(prompts, Sequence) or not prompts:
        raise InputError(f"prompt is {prompt!r}; it must be a text, or a list of at least one.")
    for index, one in enumerate(prompts):
        if not isinstance(one, str) or not one.strip():
            raise InputError(f"Prompt {index} is {one!r}. Write what the image should show.")
    return [" ".join(one.split()) for one in prompts]


def prompts_for(prompts: Any, sources: Any, given: Sequence[Picture]) -> list[str]:
    """One prompt per image: those given, or (None) the images' own. Raises InputError where numbers differ or an image has none."""
    if prompts is None:
        return _own(sources, given)
    texts = prompt_list(prompts)
    if len(texts) not in (1, len(given)):
        raise InputError(f"{len(texts)} prompts for {len(given)} images. Give one per image, or a single one for all.")
    return texts * (len(given) // len(texts))


def _own(sources: Any, given: Sequence[Picture]) -> list[str]:
    """The prompts beside or in the images."""
    listed = list(sources) if isinstance(sources, list | tuple) else [sources] * len(given)
    found = [
        images.prompt_of(Path(source)) if isinstance(source, str | Path) else metadata.prompt_in(picture.texts)
        for source, picture in zip(listed, given, strict=True)
    ]
    if missing := [str(index) for index, text in enumerate(found) if not text]:
        raise InputError(f"No prompt came with image {', '.join(missing)}. Give prompts: one for all, or one per image.")
    return [text for text in found if text]
