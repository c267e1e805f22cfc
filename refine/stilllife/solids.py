"""Ray intersections with four convex solids in their own frame (base on y = 0, about two units tall).

A ray is origin + t · direction; both are (3, N) float32 arrays, one row per axis. ``span`` gives the interval of t inside the solid
(Kay and Kajiya 1986, slabs; quadrics by their discriminant), ``normal`` the outward normal of a surface point.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

CUBE_HALF = 0.82
CYLINDER_RADIUS = 0.86
HEIGHT = {"cube": 2 * CUBE_HALF, "sphere": 2.0, "cylinder": 1.8, "cone": 2.1}
FAR = np.float32(1e9)
TINY = np.float32(1e-6)


def span(shape: str, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """(near, far), each (N,): the ray is inside the solid for near < t < far; near >= far means that it misses."""
    if shape == "sphere":
        return _sphere(origin, direction, np.float32(1.0), np.float32(1.0))
    low, high = _slab(origin[1], direction[1], 0.0, HEIGHT[shape])
    if shape == "cube":
        for axis in (0, 2):
            near, far = _slab(origin[axis], direction[axis], -CUBE_HALF, CUBE_HALF)
            low, high = np.maximum(low, near), np.minimum(high, far)
        return low, high
    near, far = _quadric(origin, direction, 0.0 if shape == "cylinder" else 1 / HEIGHT["cone"])
    return np.maximum(low, near), np.minimum(high, far)


def ball(centre: Floats, radius: float, origin: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """(near, far) of a ball with any centre (3,) and radius."""
    moved = origin - centre[:, None]
    return _sphere(moved, direction, np.float32(0.0), np.float32(radius))


def normal(shape: str, point: Floats) -> Floats:
    """(3, N) outward unit normal at surface points (3, N)."""
    x, y, z = point
    if shape == "sphere":
        return np.stack([x, y - 1, z])
    if shape == "cube":
        offset = np.stack([x, y - CUBE_HALF, z]) / CUBE_HALF
        face = np.abs(offset).argmax(0)
        return np.where(np.arange(3)[:, None] == face, np.sign(offset), 0).astype(np.float32)
    slope = 1 / HEIGHT["cone"] if shape == "cone" else 0.0
    side = np.stack([x, np.hypot(x, z) * np.float32(slope), z])
    side /= np.sqrt((side * side).sum(0)) + TINY
    top = (y > HEIGHT["cylinder"] - 1e-3) & (shape == "cylinder")
    return np.where(top, np.array([[0], [1], [0]], np.float32), side)


def _slab(origin: Floats, direction: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    inverse = 1 / np.where(np.abs(direction) < TINY, TINY, direction)
    first, second = (np.float32(low) - origin) * inverse, (np.float32(high) - origin) * inverse
    return np.minimum(first, second), np.maximum(first, second)


def _sphere(origin: Floats, direction: Floats, height: np.float32, radius: np.float32) -> tuple[Floats, Floats]:
    x, y, z = origin[0], origin[1] - height, origin[2]
    a = (direction * direction).sum(0)
    b = x * direction[0] + y * direction[1] + z * direction[2]
    return _roots(a, b, x * x + y * y + z * z - radius * radius)


def _quadric(origin: Floats, direction: Floats, slope: float) -> tuple[Floats, Floats]:
    """Upright cylinder (slope 0) or cone of base radius 1 whose radius shrinks by ``slope`` per unit of height."""
    base = np.float32(CYLINDER_RADIUS if slope == 0 else 1.0)
    k = np.float32(slope)
    radius, shrink = base - k * origin[1], -k * direction[1]
    a = direction[0] ** 2 + direction[2] ** 2 - shrink**2
    b = origin[0] * direction[0] + origin[2] * direction[2] - radius * shrink
    return _roots(np.maximum(a, TINY), b, origin[0] ** 2 + origin[2] ** 2 - radius**2)


def _roots(a: Floats, b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Both t with a t² + 2 b t + c = 0; (FAR, -FAR) where there are none."""
    square = b * b - a * c
    root = np.sqrt(np.maximum(square, 0))
    hit = square > 0
    return np.where(hit, (-b - root) / a, FAR), np.where(hit, (-b + root) / a, -FAR)
