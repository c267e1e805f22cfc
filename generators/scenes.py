"""Training data of the mini generator: renders of still-life scenes and what is known of them, cached in chunks.

A chunk ``scenes_<first seed>.npz`` holds, for N consecutive seeds: ``images`` (N, 128, 128, 3) uint8 RGB; ``layout`` (N, 16, 16) int8,
per latent cell the index of the solid that covers most of it, -1 where none covers a quarter; ``attributes`` (N, 3, 4) int8, per solid the
indices of shape, colour, size and material (-1: no such solid); ``captions`` (N, CAPTIONS) str, the canonical one first. Seeds below
1,000,000 are for training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from refine.stilllife.captions import caption
from refine.stilllife.render import Rendered, render
from refine.stilllife.scene import ATTRIBUTES, Scene, sample_scene

SIDE = 128  # pixels
CELL = 8  # pixels a latent cell covers
CAPTIONS = 8  # per scene: the canonical one and paraphrases
SOLIDS = 3
COVERED = 0.25  # share of a cell that a solid must cover to own it
GROUPS = tuple(ATTRIBUTES.values())

Chunk = dict[str, npt.NDArray[Any]]


def cache(folder: Path, count: int, first: int = 0, chunk: int = 2000) -> None:
    """Render ``count`` scenes from seed ``first`` on; chunks that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(first, first + count, chunk):
        path = folder / f"scenes_{start:06d}.npz"
        if not path.exists():
            write(path, make_chunk(range(start, min(start + chunk, first + count))))


def make_chunk(seeds: range) -> Chunk:
    """Render the scenes of these seeds."""
    rows = [_row(seed) for seed in seeds]
    return {key: np.stack([row[key] for row in rows]) for key in rows[0]}


def load(folder: Path, *keys: str) -> Chunk:
    """These arrays of every chunk in the folder, joined in the order of seeds."""
    chunks = list(_read(folder, keys))
    if not chunks:
        raise FileNotFoundError(f"No scenes in {str(folder)!r}. Make them first: python -m refine.generators.training cache")
    return {key: np.concatenate([chunk[key] for chunk in chunks]) for key in keys}


def _read(folder: Path, keys: tuple[str, ...]) -> Iterator[Chunk]:
    for path in sorted(folder.glob("scenes_*.npz")):
        with np.load(path) as file:
            yield {key: file[key] for key in keys}


def write(path: Path, chunk: Chunk) -> None:
    """Write under another name, then rename, so that a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **chunk)  # type: ignore[arg-type]
    os.replace(partial, path)


def _row(seed: int) -> Chunk:
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    rendered = render(scene, SIDE)
    captions = [caption(scene)] + [caption(scene, rng) for _ in range(CAPTIONS - 1)]
    return {
        "images": np.asarray(rendered.image),
        "layout": _layout(rendered),
        "attributes": _attributes(scene),
        "captions": np.array(captions, dtype="U256"),
    }


def _layout(rendered: Rendered) -> npt.NDArray[np.int8]:
    """(16, 16) index of the solid that owns each cell, -1 for none."""
    count = rendered.coverage.shape[0]
    share = rendered.coverage.reshape(count, SIDE // CELL, CELL, SIDE // CELL, CELL).mean((2, 4))
    return np.where(share.max(0) >= COVERED, share.argmax(0), -1).astype(np.int8)


def _attributes(scene: Scene) -> npt.NDArray[np.int8]:
    """(3, 4) indices into GROUPS, -1 for solids that are not there."""
    table = np.full((SOLIDS, len(GROUPS)), -1, np.int8)
    for index, solid in enumerate(scene.solids):
        table[index] = [group.index(word) for group, word in zip(GROUPS, solid.kind, strict=True)]
    return table
