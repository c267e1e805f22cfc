"""Rendered training data in one file, so that epochs do not draw the same pictures again.

An ``.npz`` holds, for N images of S × S pixels with R faults in all:
    images (N, S, S, 3) uint8 · ids (N, S/2, S/2) int8, the solid seen in the undamaged picture, -1 none · solids (N, 3, 4) uint8,
    indices of shape, colour, size and material · light (N,) uint8 · owner (R,) int32, which image a fault is in ·
    masks (R, S·S/8) uint8, packed bits · phrases, explanations (R,) text · categories (R,) uint8 · kinds (R,) uint8, index into ``KINDS``
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from refine.errors import InputError
from refine.stilllife.damage import CATALOGUE, REPAINTED, Sample, sample_damage
from refine.stilllife.render import render
from refine.stilllife.scene import COLOURS, LIGHTS, MATERIALS, SHAPES, SIZES, Scene
from refine.types import CATEGORIES, Region

Array = npt.NDArray[np.generic]
FIELDS = ("images", "ids", "solids", "light", "owner", "masks", "phrases", "explanations", "categories", "kinds")
KINDS: tuple[str, ...] = (*CATALOGUE, *REPAINTED, "other")
ATTRIBUTES: tuple[tuple[str, ...], ...] = (SHAPES, COLOURS, SIZES, MATERIALS)


@dataclass(frozen=True, eq=False)
class Cache:
    """The arrays of the file, see above."""

    images: npt.NDArray[np.uint8]
    ids: npt.NDArray[np.int8]
    solids: npt.NDArray[np.uint8]
    light: npt.NDArray[np.uint8]
    owner: npt.NDArray[np.int32]
    masks: npt.NDArray[np.uint8]
    phrases: npt.NDArray[np.str_]
    explanations: npt.NDArray[np.str_]
    categories: npt.NDArray[np.uint8]
    kinds: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def side(self) -> int:
        return int(self.images.shape[1])

    def faults(self, index: int) -> npt.NDArray[np.intp]:
        """Rows of the faults of one image, in the order in which they are told."""
        return np.flatnonzero(self.owner == index)

    def mask(self, row: int | npt.NDArray[np.intp]) -> npt.NDArray[np.bool_]:
        """(S, S) bool of one fault, or (n, S, S) of several."""
        bits = np.unpackbits(self.masks[row], axis=-1)
        return bits.reshape(*bits.shape[:-1], self.side, self.side).astype(np.bool_)

    def regions(self, index: int) -> tuple[Region, ...]:
        """The truth of one image."""
        return tuple(
            Region(self.mask(int(r)), str(self.phrases[r]), str(self.explanations[r]), CATEGORIES[self.categories[r]])
            for r in self.faults(index)
        )


def cached(samples: Iterable[Sample]) -> Cache:
    """Pack samples. Damage done by a renderer and by a model look the same here."""
    samples = list(samples)
    regions = [(i, region) for i, sample in enumerate(samples) for region in sample.regions]
    side = samples[0].image.width
    return Cache(
        images=np.stack([np.asarray(sample.image, np.uint8) for sample in samples]),
        ids=np.stack([render(sample.scene, side).ids[::2, ::2] for sample in samples]),
        solids=np.stack([_solids(sample.scene) for sample in samples]),
        light=np.array([LIGHTS.index(sample.scene.light) for sample in samples], np.uint8),
        owner=np.array([i for i, _ in regions], np.int32),
        masks=np.array([np.packbits(region.mask) for _, region in regions], np.uint8).reshape(len(regions), -1),
        phrases=np.array([region.phrase for _, region in regions], np.str_),
        explanations=np.array([region.explanation for _, region in regions], np.str_),
        categories=np.array([CATEGORIES.index(region.category or "distortion") for _, region in regions], np.uint8),
        kinds=np.array([kind for sample in samples for kind in _kinds(sample)], np.uint8),
    )


def _kinds(sample: Sample) -> list[int]:
    """Index of the kind of every region; damage that is not in the catalogue is of the kind "other"."""
    names = sample.kinds or ("other",) * len(sample.regions)
    return [KINDS.index(name if name in KINDS else "other") for name in names]


def _solids(scene: Scene) -> npt.NDArray[np.uint8]:
    table = np.zeros((3, 4), np.uint8)
    for row, solid in zip(table, scene.solids, strict=False):
        row[:] = [names.index(value) for names, value in zip(ATTRIBUTES, solid.kind, strict=True)]
    return table


def draw(seed: int, clean: float, size: int) -> Iterator[Sample]:
    """The training images of one seed: one with one to three faults and, with probability ``clean``, the same scene undamaged."""
    rng = np.random.default_rng(seed)
    twin = rng.random() < clean
    sample = sample_damage(rng, size=size, faults=int(rng.choice((1, 2, 3), p=(0.5, 0.35, 0.15))))
    yield sample
    if twin:
        yield replace(sample, image=sample.clean, regions=(), kinds=(), severities=())


def _part(clean: float, size: int, seeds: Sequence[int]) -> Cache:
    return cached(chain.from_iterable(draw(seed, clean, size) for seed in seeds))


def build(count: int, first_seed: int = 0, clean: float = 0.45, size: int = 128, processes: int = 1, chunk: int = 200) -> Cache:
    """Draw the images of ``count`` seeds, from ``first_seed`` on; about ``clean`` / (1 + ``clean``) of them are undamaged."""
    seeds = range(first_seed, first_seed + count)
    chunks = [seeds[i : i + chunk] for i in range(0, count, chunk)]
    work = partial(_part, clean, size)
    if processes == 1:
        return concatenate([work(part) for part in chunks])
    with ProcessPoolExecutor(processes) as pool:
        return concatenate(list(pool.map(work, chunks)))


def concatenate(caches: Sequence[Cache]) -> Cache:
    """One cache behind the other."""
    starts = np.cumsum([0, *(len(cache) for cache in caches)])
    joined = {name: np.concatenate([getattr(cache, name) for cache in caches]) for name in FIELDS if name != "owner"}
    owner = np.concatenate([cache.owner + start for cache, start in zip(caches, starts, strict=False)]).astype(np.int32)
    return Cache(owner=owner, **joined)


def save(cache: Cache, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{name: getattr(cache, name) for name in FIELDS})


def load(paths: Sequence[Path]) -> Cache:
    """Read caches and join them. Raises InputError for a file that is not one."""
    return concatenate([_load(path) for path in paths])


def _load(path: Path) -> Cache:
    try:
        with np.load(path) as file:
            return Cache(**{name: file[name] for name in FIELDS})
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no cache of training images ({error}). Make one with the command 'cache'.") from error


def texts(cache: Cache) -> Iterator[str]:
    """Every distinct text of a cache, in a fixed order."""
    return iter(sorted(set(chain(cache.phrases.tolist(), cache.explanations.tolist()))))
