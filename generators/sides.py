"""One side of a generator, drawing or repainting: a view of a pipeline, and the numbers its calls get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from refine.generators import shapes, views
from refine.generators.families import Family, Pace
from refine.types import Image


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """owner: the pipeline that was given; view: how it is called; guidance: by the names that its call knows."""

    owner: Any
    view: Any
    family: Family
    steps: int
    guidance: Mapping[str, float]
    fixed: Mapping[str, Any]

    @property
    def is_guided(self) -> bool:
        """True where a step evaluates the denoiser twice."""
        if self.family.guidance == "distilled" and "true_cfg_scale" not in self.guidance:
            return False  # FLUX.1 Fill: its scale is an input of the denoiser
        return shapes.is_guided(self.view, self.guidance, self.family.guided_above)

    @property
    def zeroes_empty(self) -> bool:
        """True where the half without a prompt is zeros when no negative prompt is given at all, and not the encoding of "": SDXL was
        trained so. A batch in which only some have one must be cut in two."""
        return bool(self.view.config.get("force_zeros_for_empty_prompt"))

    @property
    def walks_all(self) -> bool:
        """True where a call knows no strength: every step is walked."""
        return self.family.way == "edit" and "strength" not in shapes.parameters(self.view)

    def strength(self, asked: float) -> float:
        """At least one step: some families raise on none."""
        return max(asked, min(1.0, (1 + 1e-6) / self.steps))

    def cost(self, strength: float | None) -> int:
        """Denoiser evaluations of one image; None: the whole schedule."""
        is_whole = strength is None or self.walks_all
        steps = self.steps if is_whole else shapes.steps_walked(self.view, self.steps, self.strength(strength or 1.0))
        return steps * (2 if self.is_guided else 1)

    def call(
        self, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], size: tuple[int, int], **more: Any
    ) -> list[Image]:
        """Run one batch, every picture with its own prompt and generator.

        ``num_images_per_prompt`` stays 1: with several pictures, diffusers repeats prompts and pictures in different orders.
        """
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        arguments: dict[str, Any] = {
            **self.fixed, "prompt": list(prompts), "generator": generators, "width": size[0], "height": size[1],
            "num_images_per_prompt": 1, "num_inference_steps": self.steps, "output_type": "pil", "max_area": size[0] * size[1],
            **self.guidance, **more,
        }  # fmt: skip
        if self.is_guided and self.family.negative and (any(negatives) or not self.zeroes_empty):
            arguments["negative_prompt"] = list(negatives)
        try:
            images: list[Image] = self.view(**views.known(self.view, arguments)).images
        finally:
            self.owner.maybe_free_model_hooks()
        return images


def make(
    owner: Any, view: Any, family: Family, pace: Pace | None, steps: int | None, scale: float | None, true_scale: float | None,
    extra: Mapping[str, Any], *, painting: bool,
) -> Side:  # fmt: skip
    """A side with its numbers: what is asked for, else the distilled variant's, else the family's."""
    usual = family.paint_scale if painting and family.paint_scale is not None else family.scale
    if pace and not (family.guidance == "distilled" and _embeds_guidance(view)):
        usual = pace.scale
    walked = steps if steps is not None else pace.steps if pace else family.steps
    main = usual if scale is None else scale
    numbers = {
        "cfg": {"guidance_scale": main},
        "distilled": {"guidance_scale": main, "true_cfg_scale": 1.0 if true_scale is None else true_scale},
        "true_cfg": {"true_cfg_scale": main if true_scale is None else true_scale},
    }[family.guidance]
    fixed = {**family.fixed, **extra} | ({"max_sequence_length": 256} if pace and pace.name == "schnell" else {})
    return Side(owner, view, family, walked, views.known(view, numbers), fixed)


def _embeds_guidance(view: Any) -> bool:
    return bool(shapes.denoiser(view).config.get("guidance_embeds"))
