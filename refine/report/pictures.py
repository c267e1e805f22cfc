"""Pictures inside the page, and masks drawn over them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
import PIL.Image

from refine.record import unrle
from refine.report.item import Json
from refine.report.markup import Html, element
from refine.report.outline import outline
from refine.types import Box, Image, Mask

LARGE, SMALL, TINY = 1024, 384, 160  # longest side, in pixels, of compared pictures, candidates and thumbnails
LOSSLESS_BELOW = 256
MASK_SIDE = 512


def thumbnail(image: Image, side: int, alt: str, class_: str | None = None) -> Html:
    """The image, at most ``side`` pixels long, inside the page."""
    width, height = image.size
    return element("img", src=data_uri(image, side), alt=alt, width=width, height=height, class_=class_, decoding="async")


def data_uri(image: Image, side: int) -> str:
    """A WebP as text; small images without loss."""
    small = image.copy()
    small.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", lossless=max(small.size) <= LOSSLESS_BELOW, quality=86, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def cropped(image: Image, box: Box | None, mask: Json | None, alt: str = "where the attempt started") -> Html:
    """The part of the image inside ``box`` (None: all of it), with the outline of ``mask`` where one is given."""
    box = box or (0, 0, *image.size)
    inside = unrle(mask)[box[1] : box[3], box[0] : box[2]] if mask else None
    size = (box[2] - box[0], box[3] - box[1])
    drawing = svg(size, [element("path", d=outline(inside), class_="where")]) if inside is not None else None
    return element("div", thumbnail(image.crop(box), SMALL, alt), drawing, class_="stage")


def svg(size: Sequence[int], shapes: Sequence[Html]) -> Html:
    return element("svg", *shapes, viewBox=f"0 0 {size[0]} {size[1]}", preserveAspectRatio="none")


def shape(region: Json, index: int, name: str) -> Html:
    """One fault as a coloured outline with its number; screen readers get phrase and explanation."""
    mask = unrle(region["mask"])
    if not mask.any():
        return Html("")
    step = max(1, -(-max(mask.shape) // MASK_SIDE))
    path = element("path", d=outline(shrink(mask, step)), transform=f"scale({step})" if step > 1 else None)
    x0, y0, x1, _ = region["box"]
    side = max(mask.shape)
    x, y = np.clip((x0 + x1) / 2, side * 0.04, mask.shape[1] - side * 0.04), np.clip(y0, side * 0.04, mask.shape[0] - side * 0.04)
    label = element("text", index, x=f"{x:.1f}", y=f"{y:.1f}", font_size=f"{side * 0.045:.1f}", dy="0.35em")
    disc = element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r=f"{side * 0.035:.1f}")
    words = f"fault {index}: {region['phrase']}. {region['explanation']}"
    return element("g", path, disc, label, class_=hue(index), data_region=name, tabindex=0, role="img", aria_label=words)


def shrink(mask: Mask, step: int) -> Mask:
    """Every cell of step × step pixels that holds a True pixel; the last row and column of cells may be cut."""
    height, width = mask.shape
    padded = np.pad(mask, ((0, -height % step), (0, -width % step)))
    cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(np.logical_or.reduce(cells, axis=(1, 3)), np.bool_)


def hue(index: int) -> str:
    """The colour class of the index-th fault (from 1)."""
    return f"hue{(index - 1) % 8}"
