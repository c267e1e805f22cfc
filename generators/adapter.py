"""Any text-to-image pipeline of diffusers as a generator.

Drawing and repainting are two views of one set of weights. Each view has a scheduler of its own, since schedulers hold state; nothing of
the pipeline that was given is cast, hooked or changed.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from diffusers import AutoPipelineForInpainting, AutoPipelineForText2Image

from refine.embedded import resolve
from refine.errors import CheckpointError, ConfigError, InputError
from refine.generators import shapes
from refine.generators.quiet import quiet
from refine.types import Image, InpaintJob

T = TypeVar("T")

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Offload = Literal["none", "model"]


class DiffusersGenerator:
    """Draws and repaints with one diffusers pipeline (``refine.types.Generator``).

    pipe: a loaded text-to-image or inpainting pipeline of a family that has both. steps and guidance_scale: None takes the pipeline's own
    default. true_cfg_scale: for distilled families (FLUX), above 1 to have negative prompts. batch_size: images per denoiser call.
    size: side in pixels to draw at; None takes the size the model was trained at. Raises ConfigError.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        true_cfg_scale: float | None = None,
        batch_size: int = 8,
        size: int | None = None,
    ) -> None:
        self._owner = pipe
        self._drawer = _view(AutoPipelineForText2Image, pipe, "text-to-image")
        self._painter = _view(AutoPipelineForInpainting, pipe, "inpainting")
        defaults = inspect.signature(self._drawer.__call__).parameters
        self._steps: int = defaults["num_inference_steps"].default if steps is None else steps
        guidance = {"guidance_scale": guidance_scale, "true_cfg_scale": true_cfg_scale}
        self._guidance = {k: defaults[k].default if v is None else v for k, v in guidance.items() if k in defaults}
        self._batch_size = batch_size
        self._size: int = shapes.native_size(self._drawer) if size is None else size
        _check(self._steps, batch_size, self._size, self.grid)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        true_cfg_scale: float | None = None,
        batch_size: int = 8,
        size: int | None = None,
        dtype: Precision = "auto",
        device: str = "auto",
        variant: str | None = None,
        offload: Offload = "none",
    ) -> DiffusersGenerator:
        """Load a pipeline: a folder, a hub name, or ``mini:generator``.

        dtype: "auto" is bfloat16 on an accelerator and float32 elsewhere. device: "auto" is the accelerator where there is one.
        offload: "model" keeps each model off the accelerator until it is needed. Raises CheckpointError and ConfigError.
        """
        where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        precision = getattr(torch, ("float32" if where == "cpu" else "bfloat16") if dtype == "auto" else dtype)
        pipe = _load(resolve(str(source)), precision, variant)
        if offload == "none" or where == "cpu":  # without an accelerator there is nothing to keep off it
            pipe.to(where)
        else:
            pipe.enable_model_cpu_offload(device=where)
        return cls(pipe, steps=steps, guidance_scale=guidance_scale, true_cfg_scale=true_cfg_scale, batch_size=batch_size, size=size)

    @classmethod
    def from_pipe(cls, pipe: Any, **settings: Any) -> DiffusersGenerator:
        """Around a pipeline that is loaded already; its weights are shared. ``settings`` as for the constructor."""
        return cls(pipe, **settings)

    @property
    def pipe(self) -> Any:
        """The pipeline that was given."""
        return self._owner

    @property
    def native_size(self) -> int:
        return self._size

    @property
    def grid(self) -> int:
        return shapes.grid(self._drawer)

    def fits(self, prompt: str) -> tuple[str, str]:
        """The words that the longest-reading text encoder takes in, and the rest."""
        words = prompt.split()
        kept = max((shapes.readable(words, tokenizer, limit) for tokenizer, limit in shapes.budgets(self._drawer)), default=len(words))
        return (prompt, "") if kept == len(words) else (" ".join(words[:kept]), " ".join(words[kept:]))

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        """One square image of ``native_size`` per prompt. Negative prompts act only under classifier-free guidance."""
        asked = list(zip(prompts, seeds, negative_prompts or [""] * len(prompts), strict=True))
        images: list[Image] = []
        for part in chunks(asked, self._batch_size):
            texts, numbers, negatives = zip(*part, strict=True)
            images += self._call(self._drawer, texts, negatives, numbers, (self._size, self._size))
        return images

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        """The pictures repainted, each at its own size. Jobs of one size and strength share denoiser calls. Raises InputError."""
        for job in jobs:
            self._check_job(job)
        order = sorted(range(len(jobs)), key=lambda i: (jobs[i].image.size, jobs[i].strength))
        done: dict[int, Image] = {}
        for _, group in groupby(order, key=lambda i: (jobs[i].image.size, jobs[i].strength)):
            for part in chunks(list(group), self._batch_size):
                done |= zip(part, self._inpaint([jobs[i] for i in part]), strict=True)
        return [done[i] for i in range(len(jobs))]

    def cost(self, strength: float | None = None) -> int:
        """Denoiser evaluations of one image, both halves of classifier-free guidance counted."""
        steps = self._steps if strength is None else shapes.steps_walked(self._painter, self._steps, self._strength(strength))
        return steps * (2 if shapes.is_guided(self._drawer, self._guidance) else 1)

    def _inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        """One call for jobs of one size and strength."""
        texts, negatives, seeds = [j.prompt for j in jobs], [j.negative_prompt for j in jobs], [j.seed for j in jobs]
        return self._call(
            self._painter, texts, negatives, seeds, jobs[0].image.size, strength=self._strength(jobs[0].strength),
            image=[j.image.convert("RGB") for j in jobs],
            mask_image=[shapes.snap(j.mask, self._drawer.vae_scale_factor) for j in jobs],
        )  # fmt: skip

    def _call(
        self, view: Any, prompts: Sequence[str], negatives: Sequence[str], seeds: Sequence[int], size: tuple[int, int], **more: Any
    ) -> list[Image]:
        """Run a view on one batch with the arguments that it knows."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        arguments: dict[str, Any] = {
            "prompt": list(prompts), "generator": generators, "width": size[0], "height": size[1], "num_images_per_prompt": 1,
            "num_inference_steps": self._steps, "output_type": "pil", **self._guidance, **more,
        }  # fmt: skip
        if shapes.is_guided(view, self._guidance):
            arguments["negative_prompt"] = list(negatives)
        images: list[Image] = view(**known(view, arguments)).images
        self._owner.maybe_free_model_hooks()
        return images

    def _strength(self, asked: float) -> float:
        """At least one step: some families raise on none."""
        return max(asked, min(1.0, (1 + 1e-6) / self._steps))

    def _check_job(self, job: InpaintJob) -> None:
        width, height = job.image.size
        if job.mask.shape != (height, width):
            raise InputError(f"The mask is {job.mask.shape[1]} × {job.mask.shape[0]}, the image {width} × {height}. Give both one size.")
        if width % self.grid or height % self.grid:
            raise InputError(f"The image is {width} × {height}; sides must be multiples of {self.grid}. Resize or crop it.")
        if not 0 < job.strength <= 1:
            raise InputError(f"Strength {job.strength} is not in (0, 1]. It is the share of the noise schedule that is walked.")


def known(view: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that the pipeline's call has a parameter for."""
    names = inspect.signature(view.__call__).parameters
    return {name: value for name, value in arguments.items() if name in names}


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _view(task: Any, pipe: Any, name: str) -> Any:
    """The pipeline for a task around the same weights, with its own scheduler and without progress bars."""
    try:
        view = task.from_pipe(pipe, scheduler=copy.deepcopy(pipe.scheduler))
    except (ValueError, AttributeError) as error:
        kind = type(pipe).__name__
        raise ConfigError(f"diffusers has no {name} pipeline for a {kind}. Use a family that has: SD, SDXL, SD3 or FLUX.") from error
    view.set_progress_bar_config(disable=True)
    return view


def _load(source: str, dtype: torch.dtype, variant: str | None) -> Any:
    with quiet():
        try:
            return AutoPipelineForText2Image.from_pretrained(source, dtype=dtype, variant=variant)
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(
                f"Cannot load a text-to-image pipeline from {source!r}: {error} Give a folder with a model_index.json, or a hub name."
            ) from error


def _check(steps: int, batch_size: int, size: int, grid: int) -> None:
    faults = [f"{name} is {value}; it must be at least 1." for name, value in (("steps", steps), ("batch_size", batch_size)) if value < 1]
    if size < grid or size % grid:
        faults.append(f"size is {size}; it must be a multiple of {grid}.")
    if faults:
        raise ConfigError(faults)
