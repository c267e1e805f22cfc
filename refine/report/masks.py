"""Masks drawn over a picture, each region in a colour of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refine.record import unrle
from refine.report.item import Json
from refine.report.markup import Html, element
from refine.report.outline import outline
from refine.types import Mask

MASK_SIDE = 256  # cells of a drawn mask along its longer side: enough for a picture on a page, and it bounds the outline's text


def svg(size: Sequence[int], shapes: Sequence[Html]) -> Html:
    """Shapes over a picture of ``size`` (width, height) pixels, stretched with it."""
    return element("svg", *shapes, class_="marks", viewBox=f"0 0 {size[0]} {size[1]}", preserveAspectRatio="none")


def shape(region: Json, index: int, name: str) -> Html:
    """One fault as a coloured outline with its number; screen readers get phrase and explanation."""
    mask = unrle(region["mask"])
    if not mask.any():
        return Html("")
    side = max(mask.shape)
    top = int(np.flatnonzero(mask.any(axis=1))[0])
    across = float(np.median(np.flatnonzero(mask[top])))  # on the mask, of whose parts the box's middle may hit none
    x, y = np.clip(across, side * 0.04, mask.shape[1] - side * 0.04), np.clip(top, side * 0.04, mask.shape[0] - side * 0.04)
    label = element("text", index, x=f"{x:.1f}", y=f"{y:.1f}", font_size=f"{side * 0.045:.1f}", dy="0.35em")
    disc = element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{side * 0.035:.1f}")
    words = f"fault {index}: {region['phrase']}. {region['explanation']}"
    return element("g", drawn(mask), disc, label, class_=hue(index), data_region=name, tabindex=0, role="img", aria_label=words)


def drawn(mask: Mask, class_: str | None = None) -> Html:
    """The outline of a (H, W) mask in pixel units, in cells where the mask is large."""
    step = max(1, -(-max(mask.shape) // MASK_SIDE))
    return element("path", d=outline(shrink(mask, step)), transform=f"scale({step})" if step > 1 else None, class_=class_)


def shrink(mask: Mask, step: int) -> Mask:
    """Every cell of step × step pixels that holds a True pixel; the last row and column of cells may be cut."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(np.logical_or.reduce(cells, axis=(1, 3)), np.bool_)


def hue(index: int) -> str:
    """The colour class of the index-th fault (from 1)."""
    return f"hue{(index - 1) % 8}"
