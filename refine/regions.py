"""From a controller's masks to the pixels that a repair may touch, and back.

All functions are pure. Masks are (H, W) bool in the frame of one image; boxes are XYXY with exclusive ends, in pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import ndimage

from refine.types import Box, Critique, Heat, Image, Mask, Region

Alpha = npt.NDArray[np.float32]
Plane = TypeVar("Plane", Mask, Heat)
EIGHT = np.ones((3, 3), bool)
RING, LEAST_RING = 8, 16  # pixels: width of the ring where colours are compared, and the fewest that say anything
LARGEST_TINT = 10.0  # levels of 255; on 80 repaints by the embedded generator the tint was 2 (median) and never above 8


def box_of(mask: Mask) -> Box:
    """The tightest box around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert rows.size, "an empty mask has no box"
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def grow(box: Box, by: float, size: tuple[int, int]) -> Box:
    """A box with ``by`` pixels more on each side, cut at the image's border. ``size`` is (width, height)."""
    pad = round(by)
    return max(0, box[0] - pad), max(0, box[1] - pad), min(size[0], box[2] + pad), min(size[1], box[3] + pad)


def overlap(a: Box, b: Box) -> bool:
    """True where two boxes share at least one pixel."""
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


def dilate(mask: Mask, pixels: float) -> Mask:
    """Every pixel within ``pixels`` (Euclidean) of the mask."""
    if pixels <= 0 or not mask.any():
        return mask.copy()
    near: Mask = ndimage.distance_transform_edt(~mask) <= pixels
    return near


def fill(mask: Mask) -> Mask:
    """The mask without holes."""
    filled: Mask = ndimage.binary_fill_holes(mask)
    return filled


def feather(mask: Mask, pixels: float) -> Alpha:
    """(H, W) float32 in [0, 1]: 0 outside the mask, rising to 1 over ``pixels`` towards its inside.

    The ramp lies inside the mask, so whatever is outside stays untouched; the image's border does not count as an edge.
    """
    if pixels <= 0 or mask.all():
        return mask.astype(np.float32)
    inward = ndimage.distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]
    ramp: Alpha = np.clip(inward / (pixels + 1), 0, 1).astype(np.float32)
    return ramp


def parts(region: Region, min_pixels: float) -> list[Region]:
    """The connected parts (8-neighbourhood) of a region, small ones dropped."""
    labels, count = ndimage.label(region.mask, EIGHT)
    masks = (labels == index for index in range(1, count + 1))
    return [replace(region, mask=mask) for mask in masks if mask.sum() >= min_pixels]


def scatter(region: Region, seed: int) -> Region:
    """The region moved to a random place where all of it lies in the image: same shape, same size, same words."""
    x0, y0, x1, y1 = box_of(region.mask)
    height, width = region.mask.shape
    rng = np.random.default_rng(seed)
    x, y = int(rng.integers(width - (x1 - x0) + 1)), int(rng.integers(height - (y1 - y0) + 1))
    mask = np.zeros_like(region.mask)
    mask[y : y + y1 - y0, x : x + x1 - x0] = region.mask[y0:y1, x0:x1]
    return replace(region, mask=mask)


def margin(mask: Mask, share: float, least: float) -> float:
    """How far to dilate a mask: ``share`` of its box's longer side, at least ``least`` pixels."""
    x0, y0, x1, y1 = box_of(mask)
    return max(least, share * max(x1 - x0, y1 - y0))


def union(regions: Sequence[Region]) -> Region:
    """One region for several: all their pixels, the words of the highest-scored one first."""
    ordered = sorted(regions, key=lambda region: -region.score)
    words = list(dict.fromkeys(region.phrase for region in ordered if region.phrase))
    reasons = list(dict.fromkeys(region.explanation for region in ordered if region.explanation))
    mask = np.logical_or.reduce([region.mask for region in ordered])
    return replace(ordered[0], mask=mask, phrase=" and ".join(words), explanation=" ".join(reasons))


def merge(regions: Sequence[Region], share: float, least: float) -> list[Region]:
    """Join regions whose dilated boxes overlap, until none do."""
    groups: list[tuple[Box, list[Region]]] = []
    for region in regions:
        height, width = region.mask.shape
        box, members = grow(box_of(region.mask), margin(region.mask, share, least), (width, height)), [region]
        while touching := [group for group in groups if overlap(group[0], box)]:
            boxes = [box, *(group[0] for group in touching)]
            box = (min(b[0] for b in boxes), min(b[1] for b in boxes), max(b[2] for b in boxes), max(b[3] for b in boxes))
            members = [*(one for group in touching for one in group[1]), *members]
            groups = [group for group in groups if all(group is not other for other in touching)]
        groups.append((box, members))
    return [union(members) if len(members) > 1 else members[0] for _, members in groups]


def candidates(
    critique: Critique, *, threshold: float, min_area: float, top_k: int, dilation: float, least_dilation: float
) -> list[Region]:
    """What is worth repairing: regions above ``threshold``, split, sorted out by size, merged, the ``top_k`` by score × area.

    ``min_area`` is a fraction of the image.
    """
    pixels = min_area * critique.size[0] * critique.size[1]
    pieces = [part for region in critique.regions if region.score >= threshold for part in parts(region, pixels)]
    merged = merge(pieces, dilation, least_dilation)
    return sorted(merged, key=lambda region: -region.score * float(region.mask.sum()))[:top_k]


def crop_box(box: Box, size: tuple[int, int], *, scale: float, least: int) -> Box:
    """A box ``scale`` times as large around ``box``, at least ``least`` pixels a side, moved and cut to lie in the image."""

    def span(low: int, high: int, limit: int) -> tuple[int, int]:
        length = min(limit, max(least, round((high - low) * scale), high - low))
        start = min(max(0, (low + high - length) // 2), limit - length)
        return start, start + length

    x0, x1 = span(box[0], box[2], size[0])
    y0, y1 = span(box[1], box[3], size[1])
    return x0, y0, x1, y1


def working_size(box: Box, native: int, grid: int) -> tuple[int, int]:
    """(width, height) to repaint a crop at: the crop's aspect, about native² pixels, both sides multiples of ``grid``."""
    width, height = box[2] - box[0], box[3] - box[1]
    zoom = native / float(np.sqrt(width * height))
    return max(grid, round(width * zoom / grid) * grid), max(grid, round(height * zoom / grid) * grid)


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Lanczos to (width, height); the image itself where the size is right already."""
    return image if image.size == size else image.resize(size, PIL.Image.Resampling.LANCZOS)


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at another size that covers at least what it covered before: any touched pixel counts."""
    height, width = mask.shape
    if (width, height) == size:
        return mask
    coverage = PIL.Image.fromarray(mask.astype(np.float32)).resize(size, PIL.Image.Resampling.BOX)
    shrinks = size[0] < width or size[1] < height
    resized: Mask = np.asarray(coverage) > 0 if shrinks else np.asarray(coverage) >= 0.5
    return resized


def resize_heat(heat: Heat, size: tuple[int, int]) -> Heat:
    """(H, W) float32 in [0, 1] at another size, bilinear."""
    resized: Heat = np.asarray(PIL.Image.fromarray(heat).resize(size, PIL.Image.Resampling.BILINEAR))
    return resized.clip(0, 1)


def cut(plane: Plane, box: Box) -> Plane:
    """The part of a mask or a heat inside a box, in the box's frame."""
    part: Plane = plane[box[1] : box[3], box[0] : box[2]]
    return part


def match_colour(patch: Image, source: Image, mask: Mask) -> Image:
    """Shift the patch's colour so that it agrees with the source around the mask (the tint of a VAE round trip).

    Patch, source and mask share one frame. The ring that is compared lies outside the mask. Where the two differ there by more than a
    tint, the repair has repainted what the mask did not cover, such as the rest of a fault: then nothing is shifted, because the old
    colours would wash the repair out.
    """
    ring = dilate(mask, RING) & ~mask
    if ring.sum() < LEAST_RING:
        return patch
    painted, wanted = (np.asarray(image, np.float32) for image in (patch, source))
    shift = np.median(wanted[ring] - painted[ring], axis=0)
    if np.abs(shift).max() > LARGEST_TINT:
        return patch
    return PIL.Image.fromarray(np.clip(painted + shift + 0.5, 0, 255).astype(np.uint8))


def paste(image: Image, patch: Image, box: Box, alpha: Alpha) -> Image:
    """Blend ``patch`` (the size of ``box``) into the image by ``alpha`` (the image's frame). Where alpha is 0 no byte changes."""
    base = np.asarray(image)
    weight = alpha[box[1] : box[3], box[0] : box[2], None]
    under = base[box[1] : box[3], box[0] : box[2]].astype(np.float32)
    blend = np.rint(under + weight * (np.asarray(patch, np.float32) - under)).astype(np.uint8)
    result = base.copy()
    result[box[1] : box[3], box[0] : box[2]] = blend
    return PIL.Image.fromarray(result)


def kept_hash(image: Image, mask: Mask | None) -> str:
    """SHA-256 of size and pixels outside ``mask``: equal hashes prove that kept pixels are identical byte for byte."""
    pixels = np.asarray(image)
    kept = pixels if mask is None else pixels[~mask]
    return hashlib.sha256(repr(image.size).encode() + np.ascontiguousarray(kept).tobytes()).hexdigest()


def heat_in(heat: Heat, mask: Mask | None) -> float:
    """Artifact mass, in pixels, inside a mask (None: in the whole image)."""
    return float(heat.sum() if mask is None else heat[mask].sum())


def area_of(masks: Iterable[Mask]) -> float:
    """Fraction of the image that the union of masks covers; 0 for none."""
    stack = list(masks)
    return float(np.logical_or.reduce(stack).mean()) if stack else 0.0
