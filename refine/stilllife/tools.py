"""What the damage recipes share: the stage they work on, blobs, the truth mask, and how things are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import ndimage

from refine.stilllife.render import Prop, Rendered, draw, stage
from refine.stilllife.scene import Scene
from refine.types import Image, Mask

Pixels = npt.NDArray[np.float32]  # (H, W, 3), display RGB in [0, 255]

MIN_AREA = 24  # pixels of a truth mask
VISIBLE = 14  # levels of 255: the largest channel difference that still counts as equal


@dataclass(frozen=True, eq=False)
class Stage:
    """An undamaged scene, ready to be damaged: its props, its picture and its maps."""

    scene: Scene
    size: int
    props: tuple[Prop, ...]
    rendered: Rendered

    @staticmethod
    def of(scene: Scene, size: int = 128) -> Stage:
        props = stage(scene)
        return Stage(scene, size, props, draw(props, scene.floor, size))

    @cached_property
    def pixels(self) -> Pixels:
        return np.asarray(self.rendered.image, np.float32)

    def redraw(self, index: int, changed: Prop, *extra: Prop) -> Pixels:
        """The picture with prop ``index`` replaced and more props added behind it in the list."""
        props = (*self.props[:index], changed, *self.props[index + 1 :], *extra)
        return np.asarray(draw(props, self.scene.floor, self.size).image, np.float32)

    def solid_mask(self, index: int) -> Mask:
        return np.asarray(self.rendered.ids == index)

    def shadow_mask(self, index: int) -> Mask:
        return np.asarray(self.rendered.shadow == index)

    def name(self, index: int) -> str:
        """"red cube": colour and shape, unique in a scene."""
        solid = self.scene.solids[index]
        return f"{solid.colour} {solid.shape}"


def other_side(light: str) -> str:
    return "right" if light == "left" else "left"


def another(rng: np.random.Generator, options: Sequence[str], used: str) -> str:
    """A random one of the options that are left without ``used``."""
    rest = [option for option in options if option != used]
    return rest[int(rng.integers(len(rest)))]


def picture(pixels: Pixels) -> Image:
    """An RGB image of float pixels in [0, 255]."""
    return PIL.Image.fromarray(np.rint(pixels).clip(0, 255).astype(np.uint8))


def changed(before: Pixels, after: Pixels, threshold: float = VISIBLE) -> Mask:
    """Where the largest channel difference exceeds ``threshold``, small gaps closed, holes filled, specks dropped."""
    different = np.abs(after - before).max(-1) > threshold
    return clean_mask(different)


def clean_mask(mask: Mask, smallest: int = 8) -> Mask:
    """Gaps closed (3 × 3), holes filled, parts under ``smallest`` pixels dropped."""
    closed = ndimage.binary_closing(np.pad(mask, 2), np.ones((3, 3)))[2:-2, 2:-2] | mask
    filled = ndimage.binary_fill_holes(closed)
    labels, count = ndimage.label(filled, np.ones((3, 3)))
    if count == 0:
        return np.zeros_like(mask)
    keep = np.bincount(labels.ravel()) >= smallest
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)


def blob(rng: np.random.Generator, size: int, centre: Sequence[float], radius: float) -> Mask:
    """(size, size) a wobbly disc: centre (x, y) and mean radius in pixels, the rim moved by three random harmonics."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    dx, dy = x - centre[0], (y - centre[1]) * rng.uniform(0.8, 1.3)
    angle = np.arctan2(dy, dx)
    rim = 1 + sum(rng.uniform(0.05, 0.22) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    return np.asarray(np.hypot(dx, dy) < radius * rim, np.bool_)


def point_in(rng: np.random.Generator, mask: Mask) -> tuple[float, float]:
    """A random pixel (x, y) of a mask that is not empty."""
    rows, columns = np.nonzero(mask)
    pick = int(rng.integers(len(rows)))
    return float(columns[pick]), float(rows[pick])


def reach(mask: Mask) -> float:
    """Radius in pixels of the disc with the mask's area."""
    return float(np.sqrt(mask.sum() / np.pi))


def blend(before: Pixels, after: Pixels, weight: Mask | Pixels, amount: float = 1.0) -> Pixels:
    """before where weight is 0, after where it is 1 (times ``amount``); the edge of the weight is softened by half a pixel."""
    soft = ndimage.gaussian_filter(np.asarray(weight, np.float32), 0.5)[..., None] * np.float32(amount)
    return np.asarray(before * (1 - soft) + after * soft, np.float32)
