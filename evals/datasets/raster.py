"""Regions as pixels, the way the published evaluations draw them (OpenCV's ``fillPoly`` and ``rectangle``), without OpenCV.

Vertices are cut to integers (towards zero) and name pixels, not corners of pixels; the outline belongs to the region. That makes a
polygon about half a pixel larger on each side than ``refine.stilllife.polygons.fill``, which takes a pixel whose centre is inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refine.stilllife.polygons import fill
from refine.types import Mask


def polygon(points: Sequence[float], size: tuple[int, int]) -> Mask:
    """(H, W) bool of one polygon [x1, y1, …] in a picture of ``size`` (width, height); even-odd rule, outline included."""
    corners = np.asarray(points, np.float32).reshape(-1, 2).astype(np.int32)
    mask = fill([(corners + 0.5).ravel().tolist()], size)
    for (x0, y0), (x1, y1) in zip(corners.tolist(), np.roll(corners, -1, axis=0).tolist(), strict=True):
        _line(mask, (x0, y0), (x1, y1))
    return mask


def box(x: float, y: float, width: float, height: float, size: tuple[int, int]) -> Mask:
    """(H, W) bool of a box given as its corner and its extent; its last row and column belong to it, as in ``rectangle``."""
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[max(0, int(y)) : max(0, int(y + height) + 1), max(0, int(x)) : max(0, int(x + width) + 1)] = True
    return mask


def _line(mask: Mask, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Mark the pixels of Bresenham's line, which goes from left to right; what lies outside the picture is left out."""
    (x0, y0), (x1, y1) = sorted((start, end), key=lambda point: point[0])
    across, down, sign = x1 - x0, abs(y1 - y0), 1 if y1 >= y0 else -1
    long, short = max(across, down), min(across, down)
    step = np.arange(long + 1)
    aside = -((long - 2 * step * short) // max(1, 2 * long))
    x, y = (x0 + step, y0 + sign * aside) if across >= down else (x0 + aside, y0 + sign * step)
    inside = (x >= 0) & (x < mask.shape[1]) & (y >= 0) & (y < mask.shape[0])
    mask[y[inside], x[inside]] = True
