"""Renderer: rays against analytic solids, one directional light, shadows on the floor, 3 × 3 samples a pixel.

The camera is fixed, so everything about floor and sky is computed once per size. ``stage`` turns a scene into props; damage edits
props (lifts them, lights them from the wrong side, takes their shadow away) and draws again. Shadows fall on the floor only.
Deterministic; colours are display RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from refine.stilllife import solids
from refine.stilllife.scene import Scene, Solid
from refine.types import Image

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int8]

SAMPLES = 3  # per axis; odd, so that the middle sample is the pixel's centre
EYE = np.array([0.0, 4.2, -7.5], np.float32)
PITCH = np.deg2rad(24.0)
LENS = 0.46  # half of the picture's width at distance 1
SHIFT = 0.10  # the lens looks this share of half a picture higher than its axis
SHADOW = 0.62  # share of light that a full shadow takes away
AMBIENT, DIFFUSE = 0.46, 0.68
RGB = {
    "red": (0.86, 0.10, 0.10), "green": (0.13, 0.60, 0.17), "blue": (0.10, 0.22, 0.86), "yellow": (0.97, 0.86, 0.10),
    "purple": (0.52, 0.16, 0.68), "cyan": (0.10, 0.80, 0.86), "orange": (0.98, 0.47, 0.05), "white": (0.87, 0.87, 0.86),
}  # fmt: skip
FLOOR_RGB = {"grey": (0.56, 0.56, 0.56), "beige": (0.83, 0.74, 0.58), "slate": (0.25, 0.31, 0.41), "wood": (0.50, 0.33, 0.20)}


@dataclass(frozen=True, slots=True)
class Prop:
    """A solid as it is drawn. Defaults come from ``prop``; damage replaces fields.

    base: world position of the foot. axes: 3 × 3 matrix from the solid's own frame to the world. light: the side it is lit from.
    shadows: (side that the light is thought to be on, strength in [0, 1]) for every shadow it throws. bite: a ball (x, y, z, radius) in
    the solid's own frame that is cut out. visible: False draws the shadows only.
    """

    solid: Solid
    base: tuple[float, float, float]
    axes: tuple[tuple[float, float, float], ...]
    light: str
    shadows: tuple[tuple[str, float], ...]
    bite: tuple[float, float, float, float] | None = None
    visible: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Rendered:
    """image: RGB. ids: (H, W), -1 background, k the prop seen. shadow: (H, W), -1 none, k the prop whose shadow falls there.

    coverage: (count, H, W) float32, the share of each pixel that prop k covers.
    """

    image: Image
    ids: Ids
    shadow: Ids
    coverage: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    """Per size: ray directions (3, S, S), floor points (2, S, S) = x and z, floor flag (S, S); S = size × SAMPLES."""

    rays: Floats
    ground: Floats
    is_floor: npt.NDArray[np.bool_]


def render(scene: Scene, size: int = 128) -> Rendered:
    """Draw a scene at ``size`` × ``size`` pixels."""
    return draw(stage(scene), scene.floor, size)


def stage(scene: Scene) -> tuple[Prop, ...]:
    """The props of an undamaged scene, in the order of its solids."""
    return tuple(prop(solid, scene.light) for solid in scene.solids)


def prop(solid: Solid, light: str) -> Prop:
    """A solid at its place. Its yaw is a function of its position, so that cubes differ."""
    yaw = 0.42 + 0.2 * np.sin(3.1 * solid.x + 2.3 * solid.z)
    cos, sin = float(np.cos(yaw)) * solid.radius, float(np.sin(yaw)) * solid.radius
    axes = ((cos, 0.0, sin), (0.0, solid.radius, 0.0), (-sin, 0.0, cos))
    return Prop(solid, (solid.x, 0.0, solid.z), axes, light, ((light, 1.0),))


def draw(props: Sequence[Prop], floor: str, size: int = 128) -> Rendered:
    """Draw props on a floor."""
    view, fine = _view(size), size * SAMPLES
    shade, caster = np.zeros((fine, fine), np.float32), np.full((fine, fine), -1, np.int8)
    for index, item in enumerate(props):
        _cast(item, index, view, shade, caster)
    rgb = _background(floor, size) * (1 - np.float32(SHADOW) * shade)
    depth, ids = np.full((fine, fine), solids.FAR, np.float32), np.full((fine, fine), -1, np.int8)
    for index, item in enumerate(props):
        if item.visible:
            _paint(item, index, floor, view, rgb, depth, ids)
    return _resolve(rgb, ids, caster, len(props))


def toward_light(side: str) -> Floats:
    """(3,) unit vector from the scene to the light: high, at one side, a little in front."""
    vector = np.array([-0.80 if side == "left" else 0.80, 0.90, -0.30], np.float32)
    return _f32(vector / np.sqrt((vector * vector).sum()))


def project(points: Floats, size: int) -> Floats:
    """(2, N) pixel coordinates (x, y) of world points (3, N)."""
    relative = points - EYE[:, None]
    cos, sin = np.cos(PITCH), np.sin(PITCH)
    ahead = cos * relative[2] - sin * relative[1]
    up = sin * relative[2] + cos * relative[1]
    u, v = relative[0] / (ahead * LENS), up / (ahead * LENS) - SHIFT
    return _f32(np.stack([(u + 1) * size / 2, (1 - v) * size / 2]))


@lru_cache(maxsize=4)
def _view(size: int) -> _View:
    fine = size * SAMPLES
    steps = (np.arange(fine, dtype=np.float32) + 0.5) / fine * 2 - 1
    u, v = np.meshgrid(steps * LENS, (-steps + SHIFT) * LENS)
    cos, sin = np.float32(np.cos(PITCH)), np.float32(np.sin(PITCH))
    rays = np.stack([u, v * cos - sin, v * sin + cos]).astype(np.float32)
    is_floor = rays[1] < -0.02
    reach = EYE[1] / -np.minimum(rays[1], -0.02)
    return _View(rays, np.stack([EYE[0] + reach * rays[0], EYE[2] + reach * rays[2]]), is_floor)


@lru_cache(maxsize=16)
def _background(floor: str, size: int) -> Floats:
    """(3, S, S): floor with its pattern, fading into a pale backdrop."""
    view = _view(size)
    x, z = view.ground
    base = np.array(FLOOR_RGB[floor], np.float32)[:, None, None] * _pattern(floor, x, z)
    height = np.clip(view.rays[1] / 0.25, 0, 1)
    sky = np.array([0.80, 0.86, 0.92], np.float32)[:, None, None] * (1 - 0.12 * height)
    haze = np.clip((z - 5) / 28, 0, 1) ** 0.8 * view.is_floor + ~view.is_floor
    return _f32(base * (1 - haze) + sky * haze)


def _pattern(floor: str, x: Floats, z: Floats) -> Floats:
    """Brightness factor of the floor at (x, z); far off it fades, where the pattern is finer than a pixel."""
    fade = _f32(np.clip(1.6 - z / 4.0, 0, 1))
    return _f32(1 + (_texture(floor, x, z) - 1) * fade)


def _texture(floor: str, x: Floats, z: Floats) -> npt.NDArray[Any]:
    if floor == "wood":
        plank = np.floor((x + 40) / 1.15)
        tone = 1 + 0.11 * np.sin(plank * 12.9898)
        return np.where(np.mod(x + 40, 1.15) < 0.08, 0.72, tone)
    if floor == "slate":
        seam = (np.mod(x + 40.9, 1.8) < 0.08) | (np.mod(z + 40.2, 1.8) < 0.12)
        return np.where(seam, 1.28, 1.0)
    return np.ones_like(x)


def _local(item: Prop, vectors: Floats, is_point: bool) -> Floats:
    """World vectors or points (3, N) in the solid's own frame."""
    inverse = np.linalg.inv(np.array(item.axes)).astype(np.float32)
    return _f32(inverse @ (vectors - np.array(item.base, np.float32)[:, None] if is_point else vectors))


def _cast(item: Prop, index: int, view: _View, shade: Floats, caster: Ids) -> None:
    """Add the prop's shadows to ``shade`` (share of full shadow) and ``caster``."""
    for side, strength in item.shadows:
        light = toward_light(side)
        window = _shadow_window(item, light, shade.shape[0])
        x, z = view.ground[(slice(None), *window)]
        points = np.stack([x.ravel(), np.full(x.size, 1e-3, np.float32), z.ravel()])
        directions = np.repeat(_local(item, light[:, None], False), x.size, axis=1)
        near, far = solids.span(item.solid.shape, _local(item, points, True), directions)
        hit = ((near < far) & (far > 1e-3)).reshape(x.shape) & view.is_floor[window]
        if item.bite is not None:
            hit &= ~_bitten_through(item, _local(item, points, True), directions, near, far).reshape(x.shape)
        np.maximum(shade[window], hit * np.float32(strength), out=shade[window])
        if strength > 0:
            caster[window][hit] = index


def _bitten_through(item: Prop, origin: Floats, direction: Floats, near: Floats, far: Floats) -> npt.NDArray[np.bool_]:
    """True where the bite takes the whole of the ray's way through the solid."""
    x, y, z, radius = item.bite or (0.0, 0.0, 0.0, 0.0)
    first, last = solids.ball(np.array([x, y, z], np.float32), radius, origin, direction)
    return (first <= np.maximum(near, 0)) & (last >= far)


def _paint(item: Prop, index: int, floor: str, view: _View, rgb: Floats, depth: Floats, ids: Ids) -> None:
    """Draw one prop over what is there, nearer surfaces winning."""
    window = _window(_corners(item), depth.shape[0])
    rays = view.rays[(slice(None), *window)].reshape(3, -1)
    origin = np.repeat(_local(item, EYE[:, None], True), rays.shape[1], axis=1)
    direction = _local(item, rays, False)
    near, far = solids.span(item.solid.shape, origin, direction)
    near, cut = _bite(item, origin, direction, near, far)
    hit = (near < far) & (near < depth[window].ravel())
    if not hit.any():
        return
    point = origin[:, hit] + near[hit] * direction[:, hit]
    facing = _facing(item, point, cut[hit])
    colours = _shade(item, floor, point, facing, rays[:, hit])
    where = hit.reshape(depth[window].shape)
    depth[window][where] = near[hit]
    ids[window][where] = index
    rgb[(slice(None), *window)][:, where] = colours


def _bite(item: Prop, origin: Floats, direction: Floats, near: Floats, far: Floats) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Move the entry point behind the bite where the ray enters through it; also tell where that happened."""
    if item.bite is None:
        return near, np.zeros(near.shape, np.bool_)
    x, y, z, radius = item.bite
    first, last = solids.ball(np.array([x, y, z], np.float32), radius, origin, direction)
    inside = (first < near) & (last > near)
    return np.where(inside, last, near), inside & (last < far)


def _facing(item: Prop, point: Floats, cut: npt.NDArray[np.bool_]) -> Floats:
    """(3, N) unit normals in the world; inside a bite they point to the bite's centre."""
    local = solids.normal(item.solid.shape, point)
    if item.bite is not None:
        local = np.where(cut, np.array(item.bite[:3], np.float32)[:, None] - point, local)
    world = np.linalg.inv(np.array(item.axes)).astype(np.float32).T @ local
    return _f32(world / (np.sqrt((world * world).sum(0)) + solids.TINY))


def _shade(item: Prop, floor: str, point: Floats, facing: Floats, rays: Floats) -> Floats:
    """(3, N) colours: Lambert for all; shiny adds a mirrored surrounding, a hard highlight and a streak on flat faces."""
    light = toward_light(item.light)
    base = np.array(RGB[item.solid.colour], np.float32)[:, None]
    lambert = np.maximum(light @ facing, 0)
    fill = AMBIENT + 0.10 * facing[1]
    if item.solid.material == "matte":
        return _f32(np.clip(base * (fill + DIFFUSE * lambert), 0, 1))
    view = rays / np.sqrt((rays * rays).sum(0))
    mirror = view - 2 * (view * facing).sum(0) * facing
    fresnel = 0.11 + 0.5 * (1 + (view * facing).sum(0)) ** 3
    colour = base * (fill + 0.62 * lambert) * (1 - fresnel) + _surrounding(mirror, floor) * fresnel
    glint = np.clip((light @ mirror - 0.90) / 0.05, 0, 1)
    glint = np.maximum(glint, _streak(item, point, facing))
    return _f32(np.clip(colour * (1 - glint) + glint, 0, 1))


def _surrounding(mirror: Floats, floor: str) -> Floats:
    """What a mirrored ray sees: pale backdrop above, floor below."""
    above = np.clip(mirror[1] * 4 + 0.5, 0, 1)
    sky, ground = np.array([[0.92], [0.96], [1.0]], np.float32), np.array(FLOOR_RGB[floor], np.float32)[:, None] * 0.8
    return _f32(sky * above + ground * (1 - above))


def _streak(item: Prop, point: Floats, facing: Floats) -> Floats:
    """(N,) a stripe of mirrored light on the lit side of a cube's front, a cylinder or a cone: these seldom mirror the light itself."""
    if item.solid.shape == "sphere":
        return np.zeros(point.shape[1], np.float32)
    sign = np.float32(-1.0 if item.light == "left" else 1.0)
    across = (np.array(item.axes, np.float32) @ point)[0] / item.solid.radius * sign
    if item.solid.shape == "cube":
        slant = across - sign * facing[0] * solids.CUBE_HALF - 0.2 * (point[1] - solids.CUBE_HALF)
        return _f32(((facing[2] < -0.7) & (slant > 0.10) & (slant < 0.42)) * 0.85)
    toward = np.array([sign * 0.5, 0.0, -0.866], np.float32)
    level = np.sqrt(facing[0] ** 2 + facing[2] ** 2) + solids.TINY
    stripe = np.clip((toward @ facing / level - 0.965) / 0.012, 0, 1) * (level > 0.3) * 0.9
    top = (facing[1] > 0.99) & (across > 0.20) & (across < 0.50)
    return _f32(np.maximum(stripe, top * 0.75))


def _f32(values: npt.NDArray[Any]) -> Floats:
    return values.astype(np.float32, copy=False)


def _corners(item: Prop) -> Floats:
    """(3, 8) world corners of a box around the prop."""
    top = solids.HEIGHT[item.solid.shape]
    box = np.array([(x, y, z) for x in (-1.02, 1.02) for y in (0.0, top) for z in (-1.02, 1.02)], np.float32).T
    return (np.array(item.axes, np.float32) @ box + np.array(item.base, np.float32)[:, None]).astype(np.float32)


def _shadow_window(item: Prop, light: Floats, fine: int) -> tuple[slice, slice]:
    corners = _corners(item)
    landed = corners - light[:, None] / light[1] * corners[1]
    return _window(landed, fine)


def _window(points: Floats, fine: int) -> tuple[slice, slice]:
    """Rows and columns of the fine grid that hold the projection of the points."""
    x, y = project(points, fine)
    rows = slice(max(0, int(y.min()) - 2), max(0, min(fine, int(y.max()) + 3)))
    return rows, slice(max(0, int(x.min()) - 2), max(0, min(fine, int(x.max()) + 3)))


def _blocks(fine: Floats) -> Floats:
    """Mean of SAMPLES × SAMPLES blocks over the last two axes."""
    *lead, height, width = fine.shape
    rows = fine.reshape(*lead, height // SAMPLES, SAMPLES, width).sum(-2)
    return _f32(rows.reshape(*lead, height // SAMPLES, width // SAMPLES, SAMPLES).sum(-1) / SAMPLES**2)


def _resolve(rgb: Floats, ids: Ids, caster: Ids, count: int) -> Rendered:
    """Average the samples to pixels; labels are those of the middle sample."""
    pixels = np.rint(_blocks(rgb) * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    middle = np.s_[SAMPLES // 2 :: SAMPLES, SAMPLES // 2 :: SAMPLES]
    seen, thrown = ids[middle].copy(), caster[middle].copy()
    thrown[seen >= 0] = -1
    shares = [_blocks((ids == k).astype(np.float32)) for k in range(count)]
    coverage = np.stack(shares) if shares else np.zeros((0, *seen.shape), np.float32)
    return Rendered(PIL.Image.fromarray(np.ascontiguousarray(pixels)), seen, thrown, coverage)
