"""Seeds of one family: every random choice in an image's story comes from the image's seed and its place in the story."""

from __future__ import annotations

import hashlib

BITS = 31


def derive(seed: int, *path: int | str) -> int:
    """A 31-bit seed for one draw of many, from the image's seed and where in its story the draw happens."""
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> (64 - BITS)


def chance(seed: int, *path: int | str) -> float:
    """A number in [0, 1) that is as good as random, always the same for the same seed and place."""
    return float(derive(seed, *path) / 2**BITS)
