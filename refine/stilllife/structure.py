"""Faults of form: solids that are bitten, fused, doubled, bent or melted. Same recipe form as ``physics``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from refine.stilllife import solids
from refine.stilllife.render import draw
from refine.stilllife.scene import COLOURS, SHAPES
from refine.stilllife.tools import Pixels, Stage, another

Axes = tuple[tuple[float, float, float], ...]


def bitten(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """A ball is cut out of the side that faces the camera; severity is its radius."""
    item = stage.props[index]
    side = rng.uniform(-0.9, 0.9)
    top = solids.HEIGHT[item.solid.shape]
    height = top * rng.uniform(0.35, 0.6 if item.solid.shape == "cone" else 0.85)
    outwards = np.linalg.inv(np.array(item.axes)) @ np.array([side, 0.0, -np.sqrt(1 - side * side)])
    reach = 0.8 * (1 - height / top * 0.8 if item.solid.shape == "cone" else 1.0) / np.linalg.norm(outwards)
    centre = outwards * reach
    return stage.redraw(index, replace(item, bite=(float(centre[0]), height, float(centre[2]), 0.36 + 0.34 * severity)))


def doubled(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """A second copy stands inside the first, pushed to a side."""
    item = stage.props[index]
    shift = _sign(rng) * (0.35 + 0.6 * severity) * item.solid.radius
    x, y, z = item.base
    return stage.redraw(index, item, replace(item, base=(x + shift, y, z + rng.uniform(-0.2, 0.3))))


def fused(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """A solid of another shape grows out of its upper half."""
    item = stage.props[index]
    shape = another(rng, SHAPES, item.solid.shape)
    colour = item.solid.colour if rng.random() < 0.5 else another(rng, COLOURS, item.solid.colour)
    factor = 0.42 + 0.33 * severity
    x, _, z = item.base
    lift = rng.uniform(0.5, 0.9) * solids.HEIGHT[item.solid.shape] * item.solid.radius
    base = (x + _sign(rng) * rng.uniform(0.1, 0.5) * item.solid.radius, lift, z - 0.2)
    grown = replace(item, solid=replace(item.solid, shape=shape, colour=colour), axes=_scaled(item.axes, (factor,) * 3), base=base)
    return stage.redraw(index, item, grown)


def stump(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """A small extra limb sticks out of a side, or out of the top."""
    item = stage.props[index]
    length, thick = (0.45 + 0.4 * severity) * item.solid.radius, (0.20 + 0.14 * severity) * item.solid.radius
    lean = _sign(rng) * rng.uniform(0.7, 1.3)
    axes = ((thick, lean * length, 0.0), (0.0, 0.75 * length, 0.0), (0.0, -0.2 * length, thick))
    x, _, z = item.base
    wide = 0.35 if item.solid.shape == "cone" else 0.6
    base = (x + wide * float(np.sign(lean)) * item.solid.radius, rng.uniform(0.5, 1.1) * item.solid.radius, z - 0.3 * item.solid.radius)
    limb = replace(item, solid=replace(item.solid, shape="cylinder"), axes=axes, base=base)
    return stage.redraw(index, item, limb)


def stretched(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Pulled up thin, or pressed flat and wide."""
    item = stage.props[index]
    tall, wide = 1 + 0.75 * severity, 1 - 0.30 * severity
    if rng.random() < 0.5:
        tall, wide = 1 - 0.45 * severity, 1 + 0.45 * severity
    return stage.redraw(index, replace(item, axes=_scaled(item.axes, (wide, tall, wide))))


def leaning(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Sheared to a side."""
    item = stage.props[index]
    (a, _, c), (_, height, _), third = item.axes
    return stage.redraw(index, replace(item, axes=((a, _sign(rng) * (0.2 + 0.55 * severity) * height, c), (0.0, height, 0.0), third)))


def melted(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Columns sag by different amounts: the top sinks, drips run over the floor."""
    top, bottom = _rows(stage, index)
    y, x = np.mgrid[: stage.size, : stage.size].astype(np.float32)
    waves = sum(np.sin(x * rng.uniform(0.25, 0.6) + rng.uniform(0, 6.3)) for _ in range(2)) / 2
    drop = (bottom - top) * (0.35 + 0.65 * severity) * (0.24 + 0.20 * waves)
    share = np.clip((y - top) / max(1.0, bottom - top), 0, 1.4)
    return _warped(stage, index, np.zeros_like(x), -drop * (1.15 - 0.55 * share))


def twisted(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Rows are pushed sideways by a wave."""
    top, bottom = _rows(stage, index)
    y, x = np.mgrid[: stage.size, : stage.size].astype(np.float32)
    height = max(1.0, bottom - top)
    amount = height * (0.07 + 0.12 * severity)
    wave = np.sin((y - top) / height * rng.uniform(6.0, 10.0) + rng.uniform(0, 6.3))
    return _warped(stage, index, (amount * wave).astype(np.float32), np.zeros_like(x))


def _warped(stage: Stage, index: int, dx: npt.NDArray[np.float32], dy: npt.NDArray[np.float32]) -> Pixels:
    """The solid's own pixels, fetched from (x + dx, y + dy), over the scene without it (its shadow stays)."""
    behind = stage.redraw(index, replace(stage.props[index], visible=False))
    alone = draw((replace(stage.props[index], shadows=()),), stage.scene.floor, stage.size)
    y, x = np.mgrid[: stage.size, : stage.size].astype(np.float32)
    where = np.stack([y + dy, x + dx])
    cover = ndimage.map_coordinates(alone.coverage[0], where, order=1, mode="constant")[..., None]
    source = np.asarray(alone.image, np.float32)
    moved = np.stack([ndimage.map_coordinates(source[..., c], where, order=1, mode="nearest") for c in range(3)], -1)
    return np.asarray(behind * (1 - cover) + moved * cover, np.float32)


def _rows(stage: Stage, index: int) -> tuple[float, float]:
    rows = np.nonzero(stage.solid_mask(index).any(1))[0]
    return float(rows[0]), float(rows[-1])


def _scaled(axes: Axes, factors: tuple[float, ...]) -> Axes:
    a, b, c = factors
    return tuple((row[0] * a, row[1] * b, row[2] * c) for row in axes)


def _sign(rng: np.random.Generator) -> float:
    return 1.0 if rng.random() < 0.5 else -1.0
