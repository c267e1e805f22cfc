"""LOKI's annotated pictures (arXiv 2410.09732), as released.

Layout: ``<root>/open_ended_vqa.json`` (UTF-16), a list of ``{id, image_path, problems: {global: [{desc}], regional: [{region: [x, y, w, h],
desc}]}}``; ``image_path`` is relative to the root. Faults are boxes, so the "masks" are rectangles: no outline can reach an F1 of 1.
The paper's table counts 112 of the 229 pictures; which ones was not published. How it made a reference text is not published either;
here it is the global descriptions, then the regional ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refine.errors import InputError
from refine.evals.datasets import raster
from refine.evals.datasets.items import Dataset, Entry, Fault, Item, picture, unique

NAME = "LOKI"
FILE = "open_ended_vqa.json"
REMARKS = (
    "The truth is boxes, not outlines.",
    "The paper evaluated 112 of LOKI's pictures and published no list of them.",
    "The paper does not say how its reference texts were made; here: global, then regional descriptions.",
)


def load(root: Path, split: str = "all") -> Dataset:
    """The annotated pictures, in the file's order; there is one split. Raises InputError where the file is missing or no list in JSON."""
    path = root / FILE
    try:
        data = path.read_bytes()
        listed = json.loads(data)  # finds UTF-16 by its byte order mark
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}. LOKI's root holds {FILE} and the folders with its media.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Download it again.") from error
    if not isinstance(listed, list):
        raise InputError(f"{path} holds a {type(listed).__name__}; LOKI's annotations are a list of objects.")
    entries, faults = unique(_entries(listed, root))
    return Dataset(NAME, split, hashlib.sha256(data).hexdigest(), entries, faults, REMARKS)


def _entries(listed: Sequence[object], root: Path) -> Iterator[Entry | Fault]:
    for index, entry in enumerate(listed):
        if not isinstance(entry, Mapping) or not isinstance(name := entry.get("image_path"), str):
            yield Fault(f"entry {index}", "form", f"no image_path: {str(entry)[:80]}")
        else:
            yield Entry(name, partial(_read, name, entry, root))


def _read(name: str, entry: Mapping[str, Any], root: Path) -> Item | Fault:
    problems = entry.get("problems")
    regional = problems.get("regional") if isinstance(problems, Mapping) else None
    if not isinstance(problems, Mapping) or not isinstance(regional, list):
        return Fault(name, "form", "problems.regional is not a list")
    opened = picture(name, root / name)
    if isinstance(opened, Fault):
        return opened
    image, notes = opened
    mask = np.zeros((image.height, image.width), np.bool_)
    faults = list(notes)
    for index, region in enumerate(regional):
        try:
            x, y, width, height = (float(value) for value in region["region"])
            drawn = raster.box(x, y, width, height, image.size)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            faults.append(Fault(f"{name}:{index}", "region dropped", f"not a box [x, y, w, h] ({error})"))
            continue
        if not drawn.any():
            faults.append(Fault(f"{name}:{index}", "region dropped", f"[{x:g}, {y:g}, {width:g}, {height:g}] covers no pixel"))
        elif min(x, y) < -1 or x + width > image.width + 1 or y + height > image.height + 1:
            faults.append(Fault(f"{name}:{index}", "beyond the border", f"a box reaches outside {image.width} × {image.height}"))
        mask |= drawn
    if regional and not mask.any():
        return Fault(name, "no usable region", f"none of {len(regional)} boxes covers a pixel")
    if not regional:
        faults.append(Fault(name, "no region", "problems.regional is empty; the truth is an empty mask"))
    overall, parts = _descriptions(problems.get("global")), _descriptions(regional)
    return Item(name, image, mask, " ".join([*overall, *parts]), tuple(("", part) for part in parts), fake=True, notes=tuple(faults))


def _descriptions(problems: object) -> list[str]:
    listed = problems if isinstance(problems, list) else []
    texts = (" ".join(str(one.get("desc") or "").split()) for one in listed if isinstance(one, Mapping))
    return [text for text in texts if text]
