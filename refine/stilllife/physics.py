"""Faults of light and weight: the scene is drawn again under rules that do not hold. Each recipe returns the damaged pixels.

A recipe is called with the stage, the index of a solid, a generator and a severity in (0, 1] that scales what is wrong.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from refine.stilllife.render import prop
from refine.stilllife.scene import SHAPES
from refine.stilllife.tools import Pixels, Stage, another, other_side


def shadow_missing(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    item = stage.props[index]
    return stage.redraw(index, replace(item, shadows=((item.light, 1 - severity),)))


def shadow_reversed(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    item = stage.props[index]
    return stage.redraw(index, replace(item, shadows=((item.light, 1 - severity), (other_side(item.light), severity))))


def shadow_doubled(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    item = stage.props[index]
    return stage.redraw(index, replace(item, shadows=((item.light, 1.0), (other_side(item.light), severity))))


def shadow_detached(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """The shadow lies away from the solid: thrown by an unseen copy that stands further from the light."""
    item = stage.props[index]
    away = (1 if item.light == "left" else -1) * (0.7 + 1.1 * severity) * item.solid.radius
    x, y, z = item.base
    ghost = replace(item, base=(x + away, y, z - 0.5 * severity * item.solid.radius), visible=False)
    return stage.redraw(index, replace(item, shadows=()), ghost)


def shadow_foreign(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """The shadow of another shape, too large: thrown by an unseen solid."""
    item = stage.props[index]
    ghost = prop(replace(item.solid, shape=another(rng, SHAPES, item.solid.shape)), item.light)
    factor = 1.1 + 0.8 * severity
    axes = tuple((a * factor, b * factor, c * factor) for a, b, c in ghost.axes)
    return stage.redraw(index, replace(item, shadows=()), replace(ghost, axes=axes, visible=False))


def floating(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    item = stage.props[index]
    x, _, z = item.base
    return stage.redraw(index, replace(item, base=(x, (0.25 + 0.85 * severity) * item.solid.radius, z)))


def lit_wrong(stage: Stage, index: int, rng: np.random.Generator, severity: float) -> Pixels:
    """Shade and highlight on the side that the light does not reach; severity is the share of the wrong shading."""
    wrong = stage.redraw(index, replace(stage.props[index], light=other_side(stage.scene.light)))
    return stage.pixels + (wrong - stage.pixels) * np.float32(0.35 + 0.65 * severity)
