"""Masks as polygons and back, exactly: vertices lie on pixel corners, a pixel is inside when its centre is.

Coordinates are pixels, x to the right and y down; the centre of the top left pixel is (0.5, 0.5). Holes are not kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from refine.types import Mask

Point = tuple[int, int]

_STEPS: tuple[Point, ...] = ((1, 0), (0, 1), (-1, 0), (0, -1))  # clockwise on the screen


def trace(mask: Mask) -> list[list[float]]:
    """The outer outline of every 4-connected part as [x1, y1, x2, y2, …], corners only, clockwise."""
    labels, count = ndimage.label(mask)
    return [_outline(np.pad(labels == part, 1)) for part in range(1, count + 1)]


def fill(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> Mask:
    """(H, W) bool, the union of polygons [x1, y1, …] in a picture of ``size`` (width, height); even-odd rule within each."""
    mask = np.zeros((size[1], size[0]), np.bool_)
    for polygon in polygons:
        mask |= _fill_one(np.asarray(polygon, np.float64).reshape(-1, 2), size)
    return mask


def _fill_one(points: np.ndarray[tuple[int, ...], np.dtype[np.float64]], size: tuple[int, int]) -> Mask:
    """Toggle every pixel to the right of each edge, row by row; an odd number of toggles is inside."""
    width, height = size
    toggles = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        top, bottom = sorted((y0, y1))
        rows = np.arange(max(0, int(np.ceil(top - 0.5))), min(height, int(np.ceil(bottom - 0.5))))
        if len(rows) == 0:
            continue
        crossing = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        np.add.at(toggles, (rows, np.clip(np.ceil(crossing - 0.5), 0, width).astype(int)), 1)
    return np.asarray(np.cumsum(toggles, axis=1)[:, :width] % 2 == 1)


def _outline(padded: Mask) -> list[float]:
    """Walk along pixel edges with the inside on the right hand, from the first pixel's top left corner back to it."""
    row, column = np.argwhere(padded)[0]
    start: Point = (int(column), int(row))
    corners, here, heading = [start], (start[0] + 1, start[1]), 0
    while here != start or heading == 0:
        turn = _turn(padded, here, heading)
        if turn != heading:
            corners.append(here)
        heading = turn
        here = (here[0] + _STEPS[heading][0], here[1] + _STEPS[heading][1])
    return [float(value - 1) for corner in corners for value in corner]  # less the padding


def _turn(padded: Mask, here: Point, heading: int) -> int:
    """The next heading: right where the pixel ahead on the right is outside, left where both pixels ahead are inside, else on."""
    x, y = here
    ahead_left, ahead_right = (
        ((x, y - 1), (x, y)), ((x, y), (x - 1, y)), ((x - 1, y), (x - 1, y - 1)), ((x - 1, y - 1), (x, y - 1))
    )[heading]  # fmt: skip
    if not padded[ahead_right[1], ahead_right[0]]:
        return (heading + 1) % 4
    return (heading - 1) % 4 if padded[ahead_left[1], ahead_left[0]] else heading
