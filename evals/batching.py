"""What every scorer shares: batches that fit, and features that are computed once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor

from refine.types import Image

Item = TypeVar("Item")


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


class FeatureCache(Generic[Item]):
    """Encoded items by a key of theirs; the least recently used go first, once there are more than ``capacity``."""

    def __init__(self, encode: Callable[[Sequence[Item]], Tensor], key: Callable[[Item], Hashable], batch_size: int, capacity: int) -> None:
        self._encode, self._key, self._batch_size, self._capacity = encode, key, batch_size, capacity
        self._rows: OrderedDict[Hashable, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __call__(self, items: Sequence[Item]) -> Tensor:
        """(B, ...) one row for each item, in order; B >= 1."""
        keys = [self._key(item) for item in items]
        new = {key: item for key, item in zip(keys, items, strict=True) if key not in self._rows}
        if new:
            # Cloned: a row must not keep the whole batch that it was computed in.
            encoded = (row.clone() for row in in_batches(self._encode, list(new.values()), self._batch_size))
            self._rows.update(zip(new, encoded, strict=True))
        rows = torch.stack([self._rows[key] for key in keys])
        for key in keys:
            self._rows.move_to_end(key)
        while len(self._rows) > self._capacity:
            self._rows.popitem(last=False)
        return rows


def content(image: Image) -> bytes:
    """A key of an image's pixels: equal for equal pictures, whatever object holds them."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()
