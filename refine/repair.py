"""One repair: from an action to inpainting jobs at the model's native size, and from the painted crop back into the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from refine import regions
from refine.policy import Policy
from refine.types import Box, Candidate, Generator, Image, Inpaint, InpaintJob, Mask, Redraw, Region, Reviser, Revision


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Where one repair happens (frame: the image): the crop, its working size, the mask to repaint, and how the result goes back.

    ``alpha``: how much of the painted crop each pixel takes (None: everything, inside the mask and outside). ``soft``: the generator
    is told of it, and paints less towards the edge.
    """

    box: Box
    size: tuple[int, int]
    mask: Mask
    alpha: regions.Alpha | None
    match_colour: bool = True
    soft: bool = False

    @property
    def touched(self) -> Mask | None:
        """Pixels that the repair may change; None: all."""
        return None if self.alpha is None else self.mask


def words(prompt: str, best: Candidate, target: Region | None, policy: Policy, reviser: Reviser) -> Revision:
    """What the repair asks for. ``prompt`` is the user's own; ``target`` None: a whole new image."""
    if policy.wording == "user":
        return Revision(prompt)
    if policy.wording == "defect":
        return Revision("; ".join(named(region) for region in ([target] if target is not None else best.critique.regions)) or prompt)
    return reviser.revise(best.prompt if policy.drift else prompt, best.critique, target)


def named(region: Region) -> str:
    """The published way to ask: the fault itself in the positive prompt, to be avoided."""
    fault = f"{region.phrase}, {region.explanation}" if region.explanation else region.phrase
    return f"Without this fault: {fault.rstrip('.')}. Painted as it should look, carefully and realistically."


def plan(action: Inpaint, image: Image, policy: Policy, generator: Generator) -> Plan:
    """Dilate and fill the mask, choose the crop around it, and feather the edge."""
    mask = action.region.mask
    reach = max(regions.margin(mask, policy.dilation, policy.least_dilation), policy.frame_dilation * max(image.size))
    mask = regions.fill(regions.dilate(mask, reach))
    box = (0, 0, *image.size)
    if policy.crop:
        box = regions.crop_box(regions.box_of(mask), image.size, scale=policy.crop_scale, least=policy.crop_least)
    size = regions.working_size(box, generator.native_size, generator.grid)
    if not policy.restore:
        return Plan(box, size, mask, None, policy.match_colour)
    feather = policy.feather * min(1.0, (box[2] - box[0]) / size[0])
    alpha = regions.feather(mask, feather)
    return Plan(box, size, alpha > 0, alpha, policy.match_colour, policy.soft)


def job(where: Plan, action: Inpaint, image: Image, strength: float, seed: int) -> InpaintJob:
    """The crop at working size, ready for the generator."""
    return InpaintJob(
        image=regions.resize(image.crop(where.box), where.size),
        mask=regions.resize_mask(regions.cut(where.mask, where.box), where.size),
        prompt=action.prompt,
        negative_prompt=action.negative_prompt,
        seed=seed,
        strength=strength,
        soft=regions.resize_heat(regions.cut(where.alpha, where.box), where.size) if where.soft and where.alpha is not None else None,
    )


def put_back(where: Plan, image: Image, painted: Image) -> Image:
    """The painted crop at the image's own scale and colour, blended in. Pixels outside ``where.touched`` keep every byte."""
    box = where.box
    patch = regions.resize(painted, (box[2] - box[0], box[3] - box[1]))
    if where.match_colour:
        patch = regions.match_colour(patch, image.crop(box), regions.cut(where.mask, box))
    everything = np.ones(where.mask.shape, np.float32)
    return regions.paste(image, patch, box, everything if where.alpha is None else where.alpha)


def fit(image: Image, size: tuple[int, int]) -> Image:
    """A redrawn image at the size of the one it may replace: size and aspect never change."""
    return regions.resize(image, size)


def whole(action: Inpaint | Redraw, where: Plan | None, image: Image) -> bool:
    """True where the crop is the whole image, so that crop scores would repeat the image's."""
    return isinstance(action, Redraw) or where is None or where.box == (0, 0, *image.size)
