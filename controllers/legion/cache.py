"""Training data in one file, so that epochs do not draw the same pictures again. ``refine.stilllife.packing`` lists its fields."""

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
from refine.stilllife import packing
from refine.stilllife.damage import Sample, sample_damage
from refine.stilllife.packing import FIELDS
from refine.types import CATEGORIES, Region


@dataclass(frozen=True, eq=False)
class Cache:
    """The arrays of the file, as ``refine.stilllife.packing`` lists them."""

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
    return Cache(**packing.pack(list(samples)))  # type: ignore[arg-type]


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
    packing.save({name: getattr(cache, name) for name in FIELDS}, path)


def load(paths: Sequence[Path]) -> Cache:
    """Read caches and join them. Raises InputError for a file that is not one."""
    return concatenate([_load(path) for path in paths])


def _load(path: Path) -> Cache:
    try:
        with np.load(path) as file:
            return Cache(**{name: file[name] for name in FIELDS})
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} is no cache of training images ({error}). Make one with the command 'cache'.") from error
