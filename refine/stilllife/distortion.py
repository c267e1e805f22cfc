"""Faults of the picture's surface: noise, blur, bleeding colour, foreign texture. Same recipe form as ``physics``."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from refine.stilllife.render import RGB
from refine.stilllife.scene import COLOURS
from refine.stilllife.tools import Pixels, Stage, another, blend, blob, point_in, reach
from refine.types import Mask


def noise(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    grain = rng.uniform(0, 255, (stage.size, stage.size, 3)).astype(np.float32)
    return blend(stage.pixels, grain, _patch(stage, index, rng), 0.25 + 0.6 * severity)


def smear(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Pixels are dragged along one direction."""
    length, angle = 5 + 12 * severity, rng.uniform(0, np.pi)
    steps = np.linspace(-length / 2, length / 2, 9)
    shifted = [ndimage.shift(stage.pixels, (t * np.sin(angle), t * np.cos(angle), 0), order=1, mode="nearest") for t in steps]
    return blend(stage.pixels, np.mean(shifted, 0, dtype=np.float32), _patch(stage, index, rng, 1.25))


def blocks(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Squares of one colour each, as in a picture that was compressed too hard."""
    patch, side = _patch(stage, index, rng, 1.15), 4 + round(5 * severity)
    padded = np.pad(stage.pixels, ((0, -stage.size % side), (0, -stage.size % side), (0, 0)), "edge")
    count = padded.shape[0] // side
    means = padded.reshape(count, side, count, side, 3).mean((1, 3))
    jitter = rng.normal(0, 10 + 20 * severity, means.shape)
    coarse = np.kron((means + jitter).astype(np.float32), np.ones((side, side, 1), np.float32))[: stage.size, : stage.size]
    return blend(stage.pixels, coarse, patch, 0.5 + 0.5 * severity)


def grid(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """A foreign texture of crossing lines or checks."""
    y, x = np.mgrid[: stage.size, : stage.size]
    period, slope = int(rng.integers(4, 7)), int(rng.integers(-1, 2))
    first, second = (x + slope * y) % period, (y - slope * x) % period
    lines = (first < 2) | (second < 2) if rng.random() < 0.5 else (first < period // 2) ^ (second < period // 2)
    ink = np.float32(25) if stage.pixels[stage.solid_mask(index)].mean() > 110 else np.float32(225)
    return blend(stage.pixels, np.full_like(stage.pixels, ink), _patch(stage, index, rng) & lines, 0.30 + 0.6 * severity)


def bleed(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """The solid's colour runs out over the floor around its foot."""
    solid, free = stage.solid_mask(index), stage.rendered.ids < 0
    rows = np.nonzero(solid.any(1))[0]
    free[: int(0.35 * rows[0] + 0.65 * rows[-1])] = False
    ring = ndimage.binary_dilation(solid, iterations=3) & free
    spot = blob(rng, stage.size, point_in(rng, ring), reach(solid) * (0.5 + 0.4 * severity)) & free
    ink = np.broadcast_to(np.array(RGB[stage.scene.solids[index].colour], np.float32) * 255, stage.pixels.shape)
    fade = ndimage.gaussian_filter(spot.astype(np.float32), 1.0) * free
    return blend(stage.pixels, np.asarray(ink), fade, 0.40 + 0.55 * severity)


def stain(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Part of the solid has another colour."""
    solid = stage.solid_mask(index)
    spot = blob(rng, stage.size, point_in(rng, solid), reach(solid) * (0.55 + 0.35 * severity)) & solid
    light = stage.pixels.max(-1, keepdims=True) / 255
    ink = np.array(RGB[another(rng, COLOURS, stage.scene.solids[index].colour)], np.float32) * 255 * light
    return blend(stage.pixels, np.asarray(ink, np.float32), spot, 0.45 + 0.55 * severity)


def _patch(stage: Stage, index: int, rng: np.random.Generator, factor: float = 1.0) -> Mask:
    """A blob that covers part of a solid and, by chance, what is around it."""
    solid = stage.solid_mask(index)
    return blob(rng, stage.size, point_in(rng, solid), factor * reach(solid) * rng.uniform(0.6, 0.95))
