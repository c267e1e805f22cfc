"""One repair: from an action to inpainting jobs at the model's native size, and from the painted crop back into the image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from refine import regions
from refine.policy import Policy
from refine.types import Box, Generator, Image, Inpaint, InpaintJob, Mask, Redraw


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Where one repair happens: the crop, its working size, the pixels that may change and how much (frame: the image)."""

    box: Box
    size: tuple[int, int]
    mask: Mask
    alpha: regions.Alpha


def derive(seed: int, *path: int | str) -> int:
    """A 31-bit seed for one draw of many, from the image's seed and where in its story the draw happens."""
    digest = hashlib.blake2b(repr((seed, *path)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 33


def plan(action: Inpaint, image: Image, policy: Policy, generator: Generator) -> Plan:
    """Dilate and fill the mask, choose the crop around it, and feather the edge."""
    mask = action.region.mask
    reach = regions.margin(mask, policy.dilation, policy.least_dilation)
    mask = regions.fill(regions.dilate(mask, reach))
    box = regions.crop_box(regions.box_of(mask), image.size, scale=policy.crop_scale, least=policy.crop_least)
    size = regions.working_size(box, generator.native_size, generator.grid)
    feather = policy.feather * min(1.0, (box[2] - box[0]) / size[0])
    alpha = regions.feather(mask, feather)
    return Plan(box, size, alpha > 0, alpha)


def job(where: Plan, action: Inpaint, image: Image, strength: float, seed: int) -> InpaintJob:
    """The crop at working size, ready for the generator."""
    return InpaintJob(
        image=regions.resize(image.crop(where.box), where.size),
        mask=regions.resize_mask(regions.cut(where.mask, where.box), where.size),
        prompt=action.prompt,
        negative_prompt=action.negative_prompt,
        seed=seed,
        strength=strength,
    )


def put_back(where: Plan, image: Image, painted: Image) -> Image:
    """The painted crop at the image's own scale and colour, blended in. Pixels outside the plan's mask keep every byte."""
    box = where.box
    patch = regions.resize(painted, (box[2] - box[0], box[3] - box[1]))
    patch = regions.match_colour(patch, image.crop(box), regions.cut(where.mask, box))
    return regions.paste(image, patch, box, where.alpha)


def fit(image: Image, size: tuple[int, int]) -> Image:
    """A redrawn image at the size of the one it may replace: size and aspect never change."""
    return regions.resize(image, size)


def whole(action: Inpaint | Redraw, where: Plan | None, image: Image) -> bool:
    """True where the crop is the whole image, so that crop scores would repeat the image's."""
    return isinstance(action, Redraw) or where is None or where.box == (0, 0, *image.size)


def unchanged(before: Image, after: Image, mask: Mask) -> bool:
    """True where every pixel outside the mask is identical."""
    return bool(np.array_equal(np.asarray(before)[~mask], np.asarray(after)[~mask]))
