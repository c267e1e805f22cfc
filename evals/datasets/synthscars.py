"""SynthScars (arXiv 2503.15264), as released; the layout is described in ``refine.stilllife.dataset``.

What is known of the published files, and what happens here:
    image names are absolute paths of another machine          found by base name, the ending included (twins a.png, a.jpg are two)
    test annotations may lie under train; "annoations"         both are looked at
    a degenerate polygon                                       the region is dropped and counted, the entry stays
    empty explanations; vertices a hair beyond the border      kept; the first is counted
    pictures with several annotations                          one item per entry, counted; the published evaluation unites their masks
    no content type, although the paper's table has one        no groups

Masks are drawn as in the published evaluation (see ``raster``); the reference text is the caption without its quotes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from refine.evals.datasets import raster
from refine.evals.datasets.items import Dataset, Entry, Fault, Item, picture, unique
from refine.stilllife.dataset import annotation_file, find_image, image_folders, read_entries
from refine.types import Mask

NAME = "SynthScars"
SLACK = 1.0  # pixels that a vertex may lie beyond the border without a note


def load(root: Path, split: str = "test") -> Dataset:
    """The entries of one split, in the file's order. Raises InputError where there are no annotations, or they are not JSON."""
    path = annotation_file(root, split)
    entries, faults = unique(_entries(read_entries(path), image_folders(root, split)))
    return Dataset(NAME, split, hashlib.sha256(path.read_bytes()).hexdigest(), entries, faults)


def _entries(listed: Sequence[object], folders: Sequence[Path]) -> Iterator[Entry | Fault]:
    stems: dict[str, str] = {}
    for index, entry in enumerate(listed):
        if not isinstance(entry, Mapping) or len(entry) != 1 or not isinstance(body := next(iter(entry.values())), Mapping):
            yield Fault(f"entry {index}", "form", f"not an object with one key: {str(entry)[:80]}")
            continue
        key = str(next(iter(entry)))
        stem = PurePosixPath(str(body.get("img_file_name", "")).replace("\\", "/")).stem
        again = (Fault(key, "same picture", f"entry {stems[stem]} names {stem} as well"),) if stem in stems else ()
        stems.setdefault(stem, key)
        yield Entry(key, partial(_read, key, body, folders, again))


def _read(key: str, body: Mapping[str, Any], folders: Sequence[Path], again: tuple[Fault, ...]) -> Item | Fault:
    name, refs = str(body.get("img_file_name", "")), body.get("refs")
    if not isinstance(refs, Sequence) or isinstance(refs, str):
        return Fault(key, "form", f"refs is {type(refs).__name__}, not a list")
    opened = picture(key, find_image(name, folders), name)
    if isinstance(opened, Fault):
        return opened
    image, notes = opened
    mask = np.zeros((image.height, image.width), np.bool_)
    parts: list[tuple[str, str]] = []
    faults: list[Fault] = [*again, *notes]
    for index, ref in enumerate(refs):
        drawn, remark = _region(ref, image.size, f"{key}:{index}")
        faults += remark
        if drawn is not None:
            mask |= drawn
            parts.append((str(ref.get("sentence", "")).strip(), str(ref.get("explanation") or "").strip()))
    if refs and not mask.any():
        return Fault(key, "no usable region", f"none of {len(refs)} regions covers a pixel")
    clean = bool(body.get("real", False))
    if not refs and not clean:
        faults.append(Fault(key, "no region", "refs is empty; the truth is an empty mask"))
    text = str(body.get("caption", "")).strip().strip("\"'").strip()
    return Item(key, image, mask, text, tuple(parts), fake=not clean, clean=clean, notes=tuple(faults))


def _region(ref: object, size: tuple[int, int], where: str) -> tuple[Mask | None, list[Fault]]:
    """The mask of one region (None: unusable) and what there is to say about it."""
    try:
        polygons = [np.asarray(one, np.float64).ravel() for one in ref["segmentation"]]  # type: ignore[index]
    except (KeyError, TypeError, ValueError) as error:
        return None, [Fault(where, "region dropped", f"no polygons ({type(error).__name__} {error})")]
    whole = [p for p in polygons if len(p) >= 6 and len(p) % 2 == 0 and np.isfinite(p).all()]
    mask = np.zeros((size[1], size[0]), np.bool_)
    for points in whole:
        mask |= raster.polygon(points.tolist(), size)
    if not mask.any():
        return None, [Fault(where, "region dropped", f"{len(polygons)} polygons cover no pixel")]
    faults = []
    if any(p.min() < -SLACK or (p.reshape(-1, 2) > np.array(size) + SLACK).any() for p in whole):
        faults.append(Fault(where, "beyond the border", f"a vertex lies outside {size[0]} × {size[1]}"))
    if isinstance(ref, Mapping) and not str(ref.get("explanation") or "").strip():
        faults.append(Fault(where, "no explanation", "its text is empty"))
    return mask, faults
