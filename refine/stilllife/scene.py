"""Scenes of the still-life world: one to three solids on a floor, lit from one side.

World frame: x to the right, y up, z away from the camera; the floor is y = 0. Lengths are in world units; at z = 0 the picture is
``FRAME_WIDTH`` units wide. The order of ``Scene.solids`` is the order on the screen, left to right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType

import numpy as np

SHAPES = ("cube", "sphere", "cylinder", "cone")
COLOURS = ("red", "green", "blue", "yellow", "purple", "cyan", "orange", "white")
SIZES = ("small", "large")
MATERIALS = ("matte", "shiny")
FLOORS = ("grey", "beige", "slate", "wood")
LIGHTS = ("left", "right")
# What a caption states of a solid, in the order of ``Solid.kind``.
ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType({"shape": SHAPES, "colour": COLOURS, "size": SIZES, "material": MATERIALS})

RADIUS = {"small": 0.76, "large": 1.38}
COUNT_PROBABILITIES = (0.30, 0.45, 0.25)
MAX_LARGE_OF_THREE = 1
CAMERA_DISTANCE = 8.56  # along the view axis, to the world's origin
FRAME_WIDTH = 7.9
USABLE_WIDTH = 7.3
HARD_CUBES = 2  # shiny ones in a hard scene: what small generators draw worst (docs/experiments.md)
DEPTHS = {1: (-0.9, 1.2), 2: (-0.8, 1.4), 3: (-0.3, 1.5)}


@dataclass(frozen=True, slots=True)
class Solid:
    """One solid: what it is, and where its base stands (x, z) on the floor."""

    shape: str
    colour: str
    size: str
    material: str
    x: float = 0.0
    z: float = 0.0

    @property
    def radius(self) -> float:
        return RADIUS[self.size]

    @property
    def kind(self) -> tuple[str, str, str, str]:
        """The attributes that a caption states: shape, colour, size, material."""
        return self.shape, self.colour, self.size, self.material


@dataclass(frozen=True, slots=True)
class Scene:
    """Solids from left to right, the floor they stand on and the side that the light comes from."""

    solids: tuple[Solid, ...]
    floor: str
    light: str

    @property
    def kind(self) -> tuple[object, ...]:
        """Everything that a caption states; positions only by their order."""
        return tuple(solid.kind for solid in self.solids), self.floor, self.light


def sample_scene(rng: np.random.Generator, count: int | None = None, hard: bool = False) -> Scene:
    """A random scene of ``count`` solids (None: 1, 2 or 3 with ``COUNT_PROBABILITIES``; hard: always 3, two of them shiny cubes).

    No two solids share both colour and shape, and bounding boxes on the screen overlap little or not at all.
    """
    if count is None:
        count = 3 if hard else 1 + int(rng.choice(3, p=COUNT_PROBABILITIES))
    pairs = list(product(COLOURS, SHAPES))
    chosen = [pairs[i] for i in rng.choice(len(pairs), size=count, replace=False)]
    sizes = _sizes(rng, count)
    materials = [str(rng.choice(MATERIALS)) for _ in range(count)]
    solids = [Solid(s, c, size, m) for (c, s), size, m in zip(chosen, sizes, materials, strict=True)]
    solids = _with_shiny_cubes(solids, rng) if hard else solids
    low, high = DEPTHS[min(count, 3)]
    gaps = rng.dirichlet(np.full(count + 1, 2.0))
    placed = arrange(solids, gaps.tolist(), rng.uniform(low, high, count).tolist())
    return Scene(placed, str(rng.choice(FLOORS)), str(rng.choice(LIGHTS)))


def _with_shiny_cubes(solids: list[Solid], rng: np.random.Generator) -> list[Solid]:
    """The solids, ``HARD_CUBES`` of them made shiny cubes and all of different colours."""
    colours = [str(colour) for colour in rng.choice(COLOURS, size=len(solids), replace=False)]
    cubes = set(rng.permutation(len(solids))[:HARD_CUBES].tolist())
    recoloured = [replace(solid, colour=colour) for solid, colour in zip(solids, colours, strict=True)]
    return [replace(solid, shape="cube", material="shiny") if i in cubes else solid for i, solid in enumerate(recoloured)]


def arrange(solids: list[Solid], gaps: list[float] | None = None, depths: list[float] | None = None) -> tuple[Solid, ...]:
    """Put solids side by side. ``gaps`` (count + 1 shares that sum to 1) divide the free width; ``depths`` are their z."""
    count = len(solids)
    gaps = gaps or [1 / (count + 1)] * (count + 1)
    depths = depths or [0.3] * count
    free = USABLE_WIDTH - sum(_width(s) for s in solids)
    x, placed = -USABLE_WIDTH / 2, []
    for solid, gap, z in zip(solids, gaps, depths, strict=False):
        x += gap * free
        centre = x + _width(solid) / 2
        placed.append(replace(solid, x=round(centre * (1 + 0.9 * z / CAMERA_DISTANCE), 4), z=round(z, 4)))
        x += _width(solid)
    return tuple(placed)


def _width(solid: Solid) -> float:
    return 2.1 * solid.radius


def _sizes(rng: np.random.Generator, count: int) -> list[str]:
    sizes = [str(rng.choice(SIZES)) for _ in range(count)]
    if count >= 3 and sizes.count("large") > MAX_LARGE_OF_THREE:  # more do not fit side by side
        sizes = ["small"] * count
        sizes[int(rng.integers(count))] = "large"
    return sizes
