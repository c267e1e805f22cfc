"""Any text-to-image pipeline of diffusers as a generator.

Drawing and repainting are two views of one set of weights. Each view has a scheduler of its own, since schedulers hold state; nothing of
the pipeline that was given is cast, hooked or changed. What is known of each family is in :mod:`refine.generators.families`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import PIL.Image

from refine import device as devices
from refine.device import Offload
from refine.errors import ConfigError, InputError
from refine.generators import blend, families, loading, shapes, sides, views
from refine.generators.attention import Attention
from refine.generators.loading import Precision, Quantize
from refine.generators.sides import Side
from refine.types import Heat, Image, InpaintJob

T = TypeVar("T")
BLANK = (127, 127, 127)


class DiffusersGenerator:
    """Draws and repaints with one diffusers pipeline, or draws with one and repaints with another (``refine.types.Generator``).

    pipe: a loaded pipeline of any task, with its LoRA, IP-Adapter, ControlNet and scheduler. steps, guidance_scale: None takes what the
    family's authors use, or the distilled variant's (turbo, lightning, LCM, ...) where the pipeline shows that it is one. guidance_scale is
    the family's main number, whatever diffusers calls it. true_cfg_scale: for distilled families (FLUX), above 1 to have negative prompts.
    batch_size: images per denoiser call. size: side in pixels to draw at; None takes the size the model was trained at. inpaint_pipe: a
    pipeline of its own for repairs (FLUX.1 Fill, an SD with 9 channels); inpaint_guidance_scale: of repairs, None as above. extra:
    arguments for every call that knows them, such as ``ip_adapter_image`` or ``guidance_rescale``; a ControlNet's picture steers
    drawing, repairs go without it. ``notes`` says what the pipeline cannot do. Raises ConfigError.
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
        inpaint_pipe: Any = None,
        inpaint_guidance_scale: float | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        more = dict(extra or {})
        brush = pipe if inpaint_pipe is None else inpaint_pipe
        self._owner = pipe
        self._offload: _Offload | None = None  # only of what from_pretrained loads
        family, repairing = families.of(pipe), families.of(brush)
        view = views.drawer(pipe, family, more)
        pace, paint_pace = families.pace(pipe), families.pace(brush)
        painting_scale = guidance_scale if inpaint_guidance_scale is None and inpaint_pipe is None else inpaint_guidance_scale
        self._painter = sides.make(
            brush, views.painter(brush, repairing), repairing, paint_pace, steps, painting_scale, true_cfg_scale, more, painting=True
        )
        numbers = (pace, steps, guidance_scale, true_cfg_scale, more)
        self._drawer = self._painter if view is None else sides.make(pipe, view, family, *numbers, painting=False)
        self._fills = view is None
        self._batch_size = 1 if shapes.has_ip_adapter(pipe) else batch_size
        self._size: int = size if size is not None else shapes.native_size(self._drawer.view) or family.native
        self.notes = tuple(_notes(self._drawer, self._painter, self._fills, more))
        _check(self._drawer.steps, batch_size, self._size, self.grid)
        _check_extra(pipe, more, self._drawer, self._painter)

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
        inpaint_source: str | None = None,
        inpaint_guidance_scale: float | None = None,
        dtype: Precision = "auto",
        device: str = "auto",
        variant: str | None = None,
        offload: Offload = "none",
        vae_tiling: bool = False,
        quantize: Quantize = "none",
        attention: Attention = "sdpa",
    ) -> DiffusersGenerator:
        """Load a pipeline: a folder, a hub name, or ``mini:generator``; ``inpaint_source``, another one for repairs.

        dtype: "auto" is bfloat16 on an accelerator and float32 elsewhere. device: "auto" is the accelerator where there is one.
        offload: how much stays off the accelerator (see ``refine.device``); where its memory is full, the next smaller policy is taken
        and said. vae_tiling: decode in tiles and one by one. quantize: denoiser and large text encoders, by bitsandbytes.
        attention: of the denoiser; "xformers" and "flash_attention_2" need their package and CUDA (see ``refine.generators.attention``).
        Raises CheckpointError, ConfigError and MissingDependency.
        """
        pipe, where = loading.load(str(source), dtype, device, variant, quantize, attention)
        brush = None if inpaint_source is None else loading.load(inpaint_source, dtype, device, None, quantize, attention)[0]
        made = cls(
            pipe, steps=steps, guidance_scale=guidance_scale, true_cfg_scale=true_cfg_scale, batch_size=batch_size, size=size,
            inpaint_pipe=brush, inpaint_guidance_scale=inpaint_guidance_scale,
        )  # fmt: skip
        made._offload = _Offload([one for one in (pipe, brush) if one is not None], where, offload, vae_tiling)
        return made

    @classmethod
    def from_pipe(cls, pipe: Any, **settings: Any) -> DiffusersGenerator:
        """Around a pipeline that is loaded already; its weights are shared. ``settings`` as for the constructor."""
        return cls(pipe, **settings)

    @property
    def pipe(self) -> Any:
        """The pipeline that was given."""
        return self._owner

    @property
    def family(self) -> str:
        """The row of ``refine.generators.families`` that draws."""
        return self._drawer.family.name

    @property
    def native_size(self) -> int:
        return self._size

    @property
    def grid(self) -> int:
        return max(max(shapes.grid(side.view), side.family.least_grid) for side in (self._drawer, self._painter))

    def fits(self, prompt: str) -> tuple[str, str]:
        """The words that the longest-reading text encoder takes in, and the rest."""
        words = prompt.split()
        budgets = shapes.budgets(self._drawer.view, self._drawer.fixed.get("max_sequence_length"))
        kept = max((shapes.readable(words, tokenizer, limit) for tokenizer, limit in budgets), default=len(words))
        return (prompt, "") if kept == len(words) else (" ".join(words[:kept]), " ".join(words[kept:]))

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        """One square image of ``native_size`` per prompt. Negative prompts act only under classifier-free guidance."""
        asked = list(zip(prompts, seeds, negative_prompts or [""] * len(prompts), strict=True))
        if self._fills:
            blank, everywhere = PIL.Image.new("RGB", (self._size, self._size), BLANK), np.ones((self._size, self._size), np.bool_)
            return self.inpaint([InpaintJob(blank, everywhere, *one, strength=1.0) for one in asked])

        def work(part: Sequence[int]) -> list[Image]:
            texts, numbers, negatives = zip(*(asked[i] for i in part), strict=True)
            return self._drawer.call(texts, negatives, numbers, (self._size, self._size))

        return self._batched(work, [self._drawer.zeroes_empty and bool(negative) for _, _, negative in asked], self._batch_size)

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        """The pictures repainted, each at its own size. Jobs of one size and strength share denoiser calls.

        Soft masks are for families whose latents can be blended (SD, SDXL, SD3, PixArt, Sana). Raises InputError.
        """
        for job in jobs:
            self._check_job(job)
        zeroes = self._painter.zeroes_empty or self._drawer.zeroes_empty
        keys = [(*alike(job), zeroes and bool(job.negative_prompt)) for job in jobs]
        limit = self._batch_size if self._painter.family.batched else 1
        return self._batched(lambda part: self._paint([jobs[i] for i in part]), keys, limit)

    def cost(self, strength: float | None = None) -> int:
        """Denoiser evaluations of one image, both halves of classifier-free guidance counted."""
        return self._drawer.cost(None) if strength is None else self._painter.cost(strength)

    def _batched(self, work: Callable[[Sequence[int]], list[Image]], keys: Sequence[Any], limit: int) -> list[Image]:
        """The images of ``work`` on the places of ``keys``; at most ``limit`` share a call, and only such with equal keys."""
        order = sorted(range(len(keys)), key=lambda i: keys[i])
        done: dict[int, Image] = {}
        for _, group in groupby(order, key=lambda i: keys[i]):
            for part in chunks(list(group), limit):
                done |= zip(part, self._fitted(partial(work, part)), strict=True)
        return [done[i] for i in range(len(keys))]

    def _fitted(self, work: Callable[[], T]) -> T:
        """The answer of ``work``; a full accelerator puts a pipeline that is ours under a smaller policy, and never a given one."""
        return work() if self._offload is None else self._offload.run(work)

    def _paint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        """One call for jobs of one size and strength, all soft or all hard."""
        side = self._painter
        texts, negatives, seeds = [j.prompt for j in jobs], [j.negative_prompt for j in jobs], [j.seed for j in jobs]
        images, size, strength = [j.image.convert("RGB") for j in jobs], jobs[0].image.size, side.strength(jobs[0].strength)
        if jobs[0].soft is not None or side.family.way == "blend":
            side = self._drawer
            free = [j.mask.astype(np.float32) if j.soft is None else j.soft for j in jobs]
            with blend.held(side.view, images, free, seeds, side.steps, strength) as latents:
                return side.call(texts, negatives, seeds, size, latents=latents)
        cell = side.view.vae_scale_factor * side.family.cells
        masks = {} if side.family.way == "edit" else {"mask_image": [shapes.snap(j.mask, cell) for j in jobs]}
        return side.call(texts, negatives, seeds, size, image=images, strength=strength, **masks)

    def _check_soft(self, job: InpaintJob, edge: Heat) -> None:
        if not self._drawer.family.soft or self._fills or self._drawer.view is None:
            able = ", ".join(row.name for row in families.TABLE if row.soft)
            raise InputError(f"Soft masks need a family whose latents can be blended ({able}); {self.family} takes hard ones only.")
        if edge.shape != job.mask.shape or not 0 <= edge.min() <= edge.max() <= 1:
            span = f"{edge.min():g} to {edge.max():g}"
            raise InputError(f"A soft mask is {edge.shape} from {span}; it must be {job.mask.shape} within [0, 1].")

    def _check_job(self, job: InpaintJob) -> None:
        width, height = job.image.size
        if job.mask.shape != (height, width):
            raise InputError(f"The mask is {job.mask.shape[1]} × {job.mask.shape[0]}, the image {width} × {height}. Give both one size.")
        if width % self.grid or height % self.grid:
            raise InputError(f"The image is {width} × {height}; sides must be multiples of {self.grid}. Resize or crop it.")
        if not 0 < job.strength <= 1:
            raise InputError(f"Strength {job.strength} is not in (0, 1]. It is the share of the noise schedule that is walked.")
        if job.soft is not None:
            self._check_soft(job, job.soft)


class _Offload:
    """The pipelines that a generator loaded itself, and the policy they are under."""

    def __init__(self, pipes: Sequence[Any], device: str, policy: Offload, vae_tiling: bool) -> None:
        self._pipes, self._device = pipes, device
        self.policy: Offload = policy
        for pipe in pipes:
            self.policy = loading.settle(pipe, self.policy, device, vae_tiling)

    def run(self, work: Callable[[], T]) -> T:
        answer, self.policy = devices.fitted(work, self.policy, self._change)
        return answer

    def _change(self, policy: Offload) -> None:
        for pipe in self._pipes:
            devices.place(pipe, policy, self._device)


def alike(job: InpaintJob) -> tuple[tuple[int, int], float, bool]:
    """Jobs with the same answer can share a denoiser call."""
    return job.image.size, job.strength, job.soft is not None


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Consecutive parts of at most ``size`` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _notes(drawer: Side, painter: Side, fills: bool, extra: Mapping[str, Any]) -> Iterator[str]:
    """What a user of this pipeline should know."""
    if fills:
        yield f"{painter.family.name} can only fill: it draws by filling a blank picture."
    if painter.family.way == "blend":
        yield f"diffusers has no inpainting pipeline for {painter.family.name}: repairs hold its text-to-image walk to the picture instead."
    if painter.family.way == "edit":
        yield f"diffusers has no inpainting pipeline that works for {painter.family.name}: the whole crop is redrawn, the mask pasted back."
    if "controlnet" in drawer.owner.components:
        steered = any(name in extra for name in views.NEEDS_PICTURE)
        yield f"The ControlNet steers {'drawing only' if steered else 'nothing: its picture is not in extra'}; repairs go without it."
    for side, name in ((drawer, "drawing"), (painter, "repairs"))[: 1 if drawer.owner is painter.owner else 2]:
        if pace := families.pace(side.owner):
            used = ", ".join(f"{key} {value:g}" for key, value in side.guidance.items())
            yield f"{name}: recognised as {pace.name} by {pace.by}; {side.steps} steps, {used}."


def _check(steps: int, batch_size: int, size: int, grid: int) -> None:
    faults = [f"{name} is {value}; it must be at least 1." for name, value in (("steps", steps), ("batch_size", batch_size)) if value < 1]
    if size < grid or size % grid:
        faults.append(f"size is {size}; it must be a multiple of {grid}.")
    if faults:
        raise ConfigError(faults)


def _check_extra(pipe: Any, extra: Mapping[str, Any], *called: Side) -> None:
    names = {name for side in called for name in shapes.parameters(side.view)}
    faults = [f"extra holds {name!r}, which no call of a {type(pipe).__name__} knows." for name in extra if name not in names]
    if shapes.has_ip_adapter(pipe) and not {"ip_adapter_image", "ip_adapter_image_embeds"} & set(extra):
        faults.append("the pipeline has an IP-Adapter, whose picture every call needs: give extra={'ip_adapter_image': image}.")
    if faults:
        raise ConfigError(faults)
