"""What every scorer shares: pairs that match, batches that fit, and texts that are encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from refine.errors import InputError

Item = TypeVar("Item")


def check_pairs(images: Sequence[object], prompts: Sequence[object] | str) -> None:
    """One prompt for each image; a lone string is not a list of prompts."""
    if isinstance(prompts, str):
        raise InputError(f"prompts is one string ({prompts[:60]!r}); give one prompt per image in a list.")
    if len(images) != len(prompts):
        raise InputError(f"{len(images)} images but {len(prompts)} prompts; score() pairs them one to one. For all pairs use matrix().")


def in_batches(run: Callable[[Sequence[Item]], Tensor], items: Sequence[Item], size: int) -> Tensor:
    """``run`` over slices of ``items``, results joined along the first axis. Halves the slice when the accelerator is full."""
    parts: list[Tensor] = []
    start = 0
    while start < len(items):
        try:
            parts.append(run(items[start : start + size]))
            start += size
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
    return torch.cat(parts)


class TextCache:
    """Encoded texts by their cleaned form; the least recently used go first."""

    def __init__(self, encode: Callable[[Sequence[str]], Tensor], batch_size: int, capacity: int = 4096) -> None:
        self._encode, self._batch_size, self._capacity = encode, batch_size, capacity
        self._rows: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """(B, ...) one row for each text, in order."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        if new:
            self._rows.update(zip(new, in_batches(self._encode, new, self._batch_size), strict=True))
        rows = torch.stack([self._rows[text] for text in texts])
        for text in texts:
            self._rows.move_to_end(text)
        while len(self._rows) > self._capacity:
            self._rows.popitem(last=False)
        return rows
