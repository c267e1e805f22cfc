"""A mask as the path of an SVG: its exact outline along pixel edges, holes included."""

from __future__ import annotations

import numpy as np

from refine.types import Mask

Point = tuple[int, int]


def outline(mask: Mask) -> str:
    """The ``d`` of a path around the True pixels of a (H, W) mask, in pixel units, to be filled with the even-odd rule."""
    following = _edges(mask)
    parts: list[str] = []
    while following:
        start = next(iter(following))
        loop = [start]
        while (after := _step(following, loop)) != start:
            loop.append(after)
        parts.append(_path(loop))
    return "".join(parts)


def _edges(mask: Mask) -> dict[Point, list[Point]]:
    """Every pixel edge between inside and outside, directed with the inside on its right: start → ends."""
    padded = np.pad(mask, 1)
    down = padded[1:, 1:-1].astype(np.int8) - padded[:-1, 1:-1]  # (H+1, W): +1 where the mask begins below the edge
    right = padded[1:-1, 1:].astype(np.int8) - padded[1:-1, :-1]  # (H, W+1): +1 where the mask begins right of the edge
    following: dict[Point, list[Point]] = {}
    for y, x in np.argwhere(down).tolist():
        a, b = (x, y), (x + 1, y)
        start, end = (a, b) if down[y, x] > 0 else (b, a)
        following.setdefault(start, []).append(end)
    for y, x in np.argwhere(right).tolist():
        a, b = (x, y), (x, y + 1)
        start, end = (b, a) if right[y, x] > 0 else (a, b)
        following.setdefault(start, []).append(end)
    return following


def _step(following: dict[Point, list[Point]], loop: list[Point]) -> Point:
    """Take the next edge away; where two pixels touch at a corner, turn right, so that each keeps an outline of its own."""
    here = loop[-1]
    ends = following[here]
    if len(ends) > 1 and len(loop) > 1:
        dx, dy = here[0] - loop[-2][0], here[1] - loop[-2][1]
        ends.sort(key=lambda end: (end[0] - here[0], end[1] - here[1]) == (-dy, dx))
    end = ends.pop()
    if not ends:
        del following[here]
    return end


def _path(loop: list[Point]) -> str:
    """The corners of a closed loop as relative horizontal and vertical moves."""
    pairs = zip(loop, [*loop[1:], loop[0]], strict=True)
    runs: list[list[int]] = []  # [axis, length]
    for (x0, y0), (x1, y1) in pairs:
        axis, length = (0, x1 - x0) if y0 == y1 else (1, y1 - y0)
        if runs and runs[-1][0] == axis and runs[-1][1] * length > 0:
            runs[-1][1] += length
        else:
            runs.append([axis, length])
    return f"M{loop[0][0]} {loop[0][1]}" + "".join(f"{'hv'[axis]}{length}" for axis, length in runs) + "z"
