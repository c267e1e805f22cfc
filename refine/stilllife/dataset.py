"""SynthScars' files: write samples in its layout, read its annotations and ours.

Layout: ``<root>/<split>/images/*`` and ``<root>/<split>/annotations/<split>.json``, a list of one-key objects
``{"<id>": {caption, img_file_name, refs: [{sentence, explanation, bbox: null, segmentation: [[x1, y1, …]]}]}}`` with pixel coordinates
of the image. The caption has the form of the published ones. Two keys are ours and optional: ``real`` (true for a picture that has no
fault because none was put in; absent means false) and ``prompt``. The published files name images by foreign absolute paths, so an image
is found by its base name; and the test annotations may lie under ``train``, where the reference loader wants them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from refine.errors import InputError
from refine.stilllife.damage import Sample
from refine.stilllife.polygons import fill, trace
from refine.types import Region

log = logging.getLogger(__name__)

HEADER = "Upon examining the image. I have found: "
LEAD = "To elaborate, I have found the following artifacts. "


@dataclass(frozen=True, slots=True, eq=False)
class SynthScarsItem:
    """One annotated picture. Masks are (H, W) bool in the picture's own frame; ``prompt`` is empty where the file has none."""

    image: Path
    regions: tuple[Region, ...]
    caption: str
    real: bool
    prompt: str = ""


def write_synthscars(root: Path, split: str, samples: Iterable[Sample]) -> Path:
    """Write images and annotations of one split; return the annotation file. Images are PNG, named by their index."""
    images, texts = root / split / "images", root / split / "annotations"
    for folder in (images, texts):
        folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for index, sample in enumerate(samples):
        name = f"{index:06d}.png"
        sample.image.save(images / name)
        entries.append({str(index): _entry(sample, name)})
    target = texts / f"{split}.json"
    target.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return target


def read_synthscars(root: Path, split: str, report: Callable[[str], None] = log.warning) -> list[SynthScarsItem]:
    """All usable entries of one split, in file order.

    What cannot be used is told to ``report`` and left out: an entry without its image or of another form, a region without a polygon
    of three corners that covers a pixel. A region without an explanation is kept and reported.
    """
    folders = image_folders(root, split)
    items = (_item(entry, folders, report) for entry in read_entries(annotation_file(root, split)))
    return [item for item in items if item is not None]


def read_entries(path: Path) -> list[object]:
    """The list that an annotation file holds, whatever its entries are. Raises InputError."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}). Download or write it again.") from error
    if not isinstance(entries, list):
        raise InputError(f"{path} holds a {type(entries).__name__}; SynthScars annotations are a list of objects with one key each.")
    return entries


def image_folders(root: Path, split: str) -> list[Path]:
    """Where the images of a split may lie, in this order."""
    return [root / split / "images", root / "train" / "images"]


def find_image(name: str, folders: Iterable[Path]) -> Path | None:
    """The file of that base name: the published names are absolute paths of another machine."""
    base = Path(name.replace("\\", "/")).name
    return next((folder / base for folder in folders if base and (folder / base).is_file()), None)


def full_caption(sample: Sample) -> str:
    """The text that SynthScars would give the picture: a sentence on the whole, then "phrase:explanation" groups."""
    if not sample.regions:
        return f"{HEADER}{sample.caption} without any artifact."
    groups = "".join(f"{region.phrase}:{region.explanation}" for region in sample.regions)
    return f"{HEADER}{sample.caption} with {len(sample.regions)} artifact{'s' * (len(sample.regions) > 1)}.\n{LEAD}{groups}"


def _entry(sample: Sample, name: str) -> dict[str, Any]:
    refs = [
        {"sentence": region.phrase, "explanation": region.explanation, "bbox": None, "segmentation": trace(region.mask)}
        for region in sample.regions
    ]
    extra = {"real": True} if not refs else {}
    return {"caption": full_caption(sample), "img_file_name": name, "refs": refs, "prompt": sample.caption, **extra}


def annotation_file(root: Path, split: str) -> Path:
    """The annotation file, under its own split or under train; "annoations" is the published spelling."""
    tried = [root / part / folder / f"{split}.json" for part in (split, "train") for folder in ("annotations", "annoations")]
    for path in tried:
        if path.is_file():
            return path
    raise InputError(f"No annotations of split {split!r} under {root}: looked for {tried[0]} and {tried[2]}.")


def _item(entry: object, folders: list[Path], report: Callable[[str], None]) -> SynthScarsItem | None:
    if not isinstance(entry, Mapping) or len(entry) != 1 or not isinstance(next(iter(entry.values())), Mapping):
        report(f"Skipped an entry that is not an object with one key: {str(entry)[:80]}")
        return None
    (key, body), = entry.items()
    name = str(body.get("img_file_name", ""))
    image = find_image(name, folders)
    if image is None:
        report(f"Skipped entry {key}: no image {name!r} in {folders[0]}")
        return None
    with PIL.Image.open(image) as opened:
        size = opened.size
    refs = body.get("refs") or ()
    regions = (_region(ref, size, f"{key}:{index}", report) for index, ref in enumerate(refs))
    kept = tuple(region for region in regions if region is not None)
    return SynthScarsItem(image, kept, str(body.get("caption", "")), bool(body.get("real", False)), str(body.get("prompt", "")))


def _region(ref: object, size: tuple[int, int], where: str, report: Callable[[str], None]) -> Region | None:
    """One region, or None (reported) where it has no phrase or no polygon."""
    if not isinstance(ref, Mapping):
        report(f"Skipped region {where}: it is a {type(ref).__name__}, not an object")
        return None
    try:
        polygons = [np.asarray(polygon, np.float64).ravel() for polygon in ref["segmentation"]]
        phrase, explanation = str(ref["sentence"]).strip(), str(ref.get("explanation") or "").strip()
    except (KeyError, TypeError, ValueError) as error:
        report(f"Skipped region {where}: not of the form of SynthScars ({type(error).__name__} {error})")
        return None
    whole = [p.tolist() for p in polygons if len(p) >= 6 and len(p) % 2 == 0 and np.isfinite(p).all()]
    mask = fill(whole, size)
    if not mask.any():
        report(f"Skipped region {where}: its polygons cover no pixel")
        return None
    if not explanation:
        report(f"Region {where} has no explanation")
    return Region(mask, phrase, explanation)
