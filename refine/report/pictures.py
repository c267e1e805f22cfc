"""Pictures of an item: inside the page as text, or links to its files that load when they are looked at."""

from __future__ import annotations

import base64
import io

import PIL.Image

from refine.report.item import Item
from refine.report.markup import Html, element
from refine.types import Box, Image

LARGE, MEDIUM, SMALL, TINY = 1024, 640, 384, 96  # longest side, in pixels: compared, judged, tried, in a row
LOSSLESS_BELOW = 256


def thumbnail(image: Image, side: int, alt: str, class_: str | None = None) -> Html:
    """The image, at most ``side`` pixels long, inside the page."""
    width, height = image.size
    return element("img", src=data_uri(image, side), alt=alt, width=width, height=height, class_=class_, decoding="async")


def data_uri(image: Image, side: int) -> str:
    """A WebP as text; small images without loss."""
    small = image.copy()
    small.thumbnail((side, side), PIL.Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", lossless=side > TINY and max(small.size) <= LOSSLESS_BELOW, quality=86, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def shown(item: Item, name: str, side: int, alt: str, class_: str | None = None) -> Html:
    """A whole picture of the item: embedded at most ``side`` pixels long, or its file."""
    link = item.link(name)
    if link is None:
        return thumbnail(item.picture(name), side, alt, class_)
    width, height = item.data["size"]
    return element("img", src=link, alt=alt, width=width, height=height, class_=class_, loading="lazy", decoding="async")


def cropped(item: Item, name: str, box: Box | None, alt: str) -> Html:
    """The part of a picture inside ``box`` (None: all of it). A linked file is moved behind a window of the box's shape."""
    link = item.link(name)
    if link is None:
        image = item.picture(name)
        return thumbnail(image.crop(box) if box else image, SMALL, alt)
    if box is None:
        return shown(item, name, SMALL, alt)
    width, height = item.data["size"]
    across, down = box[2] - box[0], box[3] - box[1]
    place = f"width:{100 * width / across:.3f}%;left:{-100 * box[0] / across:.3f}%;top:{-100 * box[1] / down:.3f}%"
    picture = element("img", src=link, alt=alt, width=width, height=height, style=place, loading="lazy", decoding="async")
    return element("div", picture, class_="window", style=f"aspect-ratio:{across}/{down}")
