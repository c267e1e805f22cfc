"""Samples as arrays: the training data of a controller in one ``.npz``, whoever made the faults.

Fields, for N images of S × S pixels with R faults in all:
    images (N, S, S, 3) uint8 · ids (N, S/2, S/2) int8, the solid seen in the undamaged picture, -1 none or not known · solids (N, 3, 4)
    uint8, indices of shape, colour, size and material · light (N,) uint8 · owner (R,) int32, which image a fault is in ·
    masks (R, S·S/8) uint8, packed bits · phrases, explanations (R,) text · categories (R,) uint8 · kinds (R,) uint8, index into ``KINDS``
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from refine.stilllife.damage import CATALOGUE, REPAINTED, Sample
from refine.stilllife.render import render
from refine.stilllife.scene import ATTRIBUTES, LIGHTS, Scene
from refine.types import CATEGORIES

FIELDS = ("images", "ids", "solids", "light", "owner", "masks", "phrases", "explanations", "categories", "kinds")
KINDS: tuple[str, ...] = (*CATALOGUE, *REPAINTED, "other")

Array = npt.NDArray[np.generic]


def pack(samples: Sequence[Sample], placed: bool = True) -> dict[str, Array]:
    """The fields of some samples of one size. ``placed`` False: their scenes tell what is in them, but not where it stands."""
    regions = [(i, region) for i, sample in enumerate(samples) for region in sample.regions]
    side = samples[0].image.width
    unknown = np.full((len(samples), side // 2, side // 2), -1, np.int8)
    return {
        "images": np.stack([np.asarray(sample.image, np.uint8) for sample in samples]),
        "ids": np.stack([render(sample.scene, side).ids[::2, ::2] for sample in samples]) if placed else unknown,
        "solids": np.stack([_solids(sample.scene) for sample in samples]),
        "light": np.array([LIGHTS.index(sample.scene.light) for sample in samples], np.uint8),
        "owner": np.array([i for i, _ in regions], np.int32),
        "masks": np.array([np.packbits(region.mask) for _, region in regions], np.uint8).reshape(len(regions), -1),
        "phrases": np.array([region.phrase for _, region in regions], np.str_),
        "explanations": np.array([region.explanation for _, region in regions], np.str_),
        "categories": np.array([CATEGORIES.index(region.category or "distortion") for _, region in regions], np.uint8),
        "kinds": np.array([kind for sample in samples for kind in _kinds(sample)], np.uint8),
    }


def save(fields: Mapping[str, Array], path: Path) -> None:
    """Write the fields; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **fields)  # type: ignore[arg-type]
    os.replace(partial, path)


def _kinds(sample: Sample) -> list[int]:
    """Index of the kind of every region; damage that is not in the catalogue is of the kind "other"."""
    names = sample.kinds or ("other",) * len(sample.regions)
    return [KINDS.index(name if name in KINDS else "other") for name in names]


def _solids(scene: Scene) -> npt.NDArray[np.uint8]:
    """(3, 4) indices of shape, colour, size and material; rows of solids that are not there are 0."""
    table = np.zeros((3, 4), np.uint8)
    for row, solid in zip(table, scene.solids, strict=False):
        row[:] = [names.index(value) for names, value in zip(ATTRIBUTES.values(), solid.kind, strict=True)]
    return table
