"""The sets by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from refine.errors import InputError, UnknownName
from refine.evals.datasets import fakedetect, loki, richhf, stilllife, synthscars
from refine.evals.datasets.items import Dataset


@dataclass(frozen=True, slots=True)
class Source:
    """How a set on disk is read: by its root and one of its splits, the first where none is named."""

    load: Callable[[Path, str], Dataset]
    splits: tuple[str, ...]


ON_DISK: Mapping[str, Source] = {
    synthscars.NAME: Source(synthscars.load, ("test", "train")),
    richhf.NAME: Source(richhf.load, ("test", "dev", "train")),
    loki.NAME: Source(loki.load, ("all",)),
    fakedetect.NAME: Source(fakedetect.load, ("test",)),
}


def open_dataset(name: str, root: Path | None = None, split: str | None = None, scenes: int = 64) -> Dataset:
    """A set by its name, upper or lower case. Raises InputError or UnknownName for what does not exist or does not go together."""
    known = {one.lower(): one for one in (*ON_DISK, stilllife.NAME)}
    if name.lower() not in known:
        raise UnknownName("dataset", name, known.values())
    chosen = known[name.lower()]
    if chosen == stilllife.NAME:
        if root is not None or split is not None:
            raise InputError("The set stilllife is drawn, not read: leave out --root and --split; --n says how many scenes.")
        return stilllife.load(scenes)
    source = ON_DISK[chosen]
    if root is None:
        raise InputError(f"The set {chosen} must be downloaded first; say where it lies with --root FOLDER.")
    if not root.is_dir():
        raise InputError(f"--root {root} is not a folder. It must hold the set {chosen} as it was released.")
    if split is not None and split not in source.splits:
        raise UnknownName(f"split of {chosen}", split, source.splits)
    return source.load(root, split or source.splits[0])
