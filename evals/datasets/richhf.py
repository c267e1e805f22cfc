"""RichHF-18K (arXiv 2312.10240), as released: heat maps of artifacts in TFRecord files, the pictures apart.

Layout: ``<root>/{train,dev,test}.tfrecord`` with, per record, ``filename`` (of Pick-a-Pic v1) and ``artifact_map`` (an encoded grey
image, 512 × 512, 0 to 255); the pictures below ``<root>/images``, by that name or its base name.

A pixel is faulty where the map is above ``THRESHOLD`` = 0, as in LEGION's evaluation. The maps are blurred clicks, so that takes in
their whole skirt. The map is brought to the picture's frame by the nearest pixel. The set has no explanations.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image

from refine.evals.datasets import tfrecord
from refine.evals.datasets.items import Dataset, Entry, Fault, Item, picture, unique
from refine.evals.datasets.tfrecord import Slot
from refine.types import Mask

NAME = "RichHF-18K"
THRESHOLD = 0  # of 255: above it is faulty
REMARKS = (
    f"A pixel is faulty where the heat map is above {THRESHOLD} of 255.",
    "The LEGION paper evaluated 471 pictures and published no list of them; SynthScars takes many of its training pictures from this set.",
)


def load(root: Path, split: str = "test") -> Dataset:
    """The records of one split, in the file's order. Raises InputError where the file is missing, a Git LFS pointer or cut short."""
    path = root / f"{split}.tfrecord"
    slots = tfrecord.slots(path)
    entries, faults = unique(_entries(path, slots, root))
    lengths = hashlib.sha256(repr([slot.length for slot in slots]).encode()).hexdigest()
    return Dataset(NAME, split, lengths, entries, faults, REMARKS)


def _entries(path: Path, slots: list[Slot], root: Path) -> Iterator[Entry | Fault]:
    """Only names are decoded here; the payload is checked when the entry is read."""
    for index, slot in enumerate(slots):
        try:
            name = tfrecord.features(tfrecord.payload(path, slot, check=False) or b"")["filename"].decode()
        except (KeyError, ValueError) as error:
            yield Fault(f"record {index}", "form", f"no file name ({error})")
        else:
            yield Entry(name, partial(_read, name, path, slot, root))


def _read(name: str, path: Path, slot: Slot, root: Path) -> Item | Fault:
    data = tfrecord.payload(path, slot)
    if data is None:
        return Fault(name, "damaged record", f"the record at byte {slot.offset} does not fit its checksum")
    opened = picture(name, _find(name, root), name)
    if isinstance(opened, Fault):
        return opened
    image, notes = opened
    mask = _mask(tfrecord.features(data).get("artifact_map", b""), image.size)
    if mask is None:
        return Fault(name, "broken heat map", "artifact_map is missing or no image")
    stretched = () if _square(image.size) else (Fault(name, "another shape", f"the picture is {image.width} × {image.height}"),)
    empty = () if mask.any() else (Fault(name, "no region", "the heat map is 0 everywhere"),)
    return Item(name, image, mask, fake=True, notes=(*notes, *stretched, *empty))


def _find(name: str, root: Path) -> Path | None:
    base = PurePosixPath(name).name
    return next((path for path in (root / "images" / name, root / "images" / base, root / name) if base and path.is_file()), None)


def _mask(encoded: bytes, size: tuple[int, int]) -> Mask | None:
    """(H, W) bool in a picture of ``size`` (width, height)."""
    try:
        with PIL.Image.open(io.BytesIO(encoded)) as opened:
            heat = opened.convert("L").resize(size, PIL.Image.Resampling.NEAREST)
    except (OSError, SyntaxError, ValueError):
        return None
    return np.asarray(np.asarray(heat) > THRESHOLD)


def _square(size: tuple[int, int]) -> bool:
    return abs(size[0] - size[1]) <= 0.02 * max(size)
