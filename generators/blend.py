"""Repainting with a text-to-image pipeline: at every step, what shall stay is put back at that step's noise level.

Blended latent diffusion (Avrahami et al., SIGGRAPH 2023, algorithm 1), and with a soft mask differential diffusion (Levin and Fried, 2023):
a cell of softness s is free in the last share s of the walk, so that an edge is redrawn less the farther out it lies. For families whose
latents are (B, C, h, w); the pipeline itself is not touched, only its view's scheduler.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from refine.errors import ConfigError
from refine.types import Heat, Image


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """What a walk is held to. kept, noise: (B, C, h, w), latents of the pictures and their first noise; free: (B, 1, h, w), 0 to 1."""

    kept: Tensor
    noise: Tensor
    free: Tensor


@contextmanager
def held(view: Any, images: Sequence[Image], free: Sequence[Heat], seeds: Sequence[int], steps: int, strength: float) -> Iterator[Tensor]:
    """Within, the view's calls walk the last ``strength`` of the schedule and come out as ``images`` where ``free`` is 0.

    images: B of one size. free: B of (H, W) in [0, 1]. Gives the latents to call the view with. Raises ConfigError.
    """
    scheduler = view.scheduler
    view.scheduler = copy.deepcopy(scheduler)
    try:
        yield _begin(view, images, free, seeds, steps, strength)
    finally:
        view.scheduler = scheduler


@torch.no_grad()
def _begin(view: Any, images: Sequence[Image], free: Sequence[Heat], seeds: Sequence[int], steps: int, strength: float) -> Tensor:
    device, walker = view._execution_device, view.scheduler
    if walker.config.get("use_dynamic_shifting"):
        raise ConfigError(f"refine cannot blend along a {type(walker).__name__} whose schedule depends on the size (use_dynamic_shifting).")
    kept = encode(view, images).float()
    noise = torch.stack([torch.randn(kept.shape[1:], generator=torch.Generator("cpu").manual_seed(seed)) for seed in seeds]).to(device)
    cells = torch.from_numpy(np.stack(free)).to(device)[:, None]
    hold = Hold(kept, noise, torch.nn.functional.adaptive_max_pool2d(cells, kept.shape[2:]))
    skip = steps - max(1, min(steps, int(steps * strength)))
    first = noise
    if skip:
        trial = copy.deepcopy(walker)
        _shorten(trial, skip)
        trial.set_timesteps(steps, device=device)
        first = _noised(trial, hold, trial.timesteps[:1]) / getattr(trial, "init_noise_sigma", 1.0)  # pipelines scale by it
    _shorten(walker, skip)
    _restrain(walker, hold)
    return first.to(view.dtype)


def encode(view: Any, images: Sequence[Image]) -> Tensor:
    """(B, C, h, w) latents as the denoiser knows them. A VAE that overflows in float16 (SDXL's says so) encodes in float32."""
    vae, dtype = view.vae, view.vae.dtype
    fragile = dtype == torch.float16 and bool(vae.config.get("force_upcast"))
    working = torch.float32 if fragile else dtype
    pixels = view.image_processor.preprocess(list(images)).to(view._execution_device, working)
    try:
        answer = vae.to(working).encode(pixels) if fragile else vae.encode(pixels)
    finally:
        if fragile:
            vae.to(dtype)  # every half is a single: what comes back is what was there
    latents = answer.latent_dist.mode() if hasattr(answer, "latent_dist") else answer.latent
    shift, scale = vae.config.get("shift_factor") or 0.0, vae.config.scaling_factor
    return (latents - shift) * scale  # type: ignore[no-any-return]


def _shorten(scheduler: Any, skip: int) -> None:
    """From now on ``set_timesteps`` leaves out the first ``skip`` steps."""
    whole: Callable[..., None] = scheduler.set_timesteps

    @wraps(whole)
    def shortened(*arguments: Any, **named: Any) -> None:
        whole(*arguments, **named)
        scheduler.whole_timesteps = scheduler.timesteps
        scheduler.timesteps = scheduler.timesteps[skip * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skip * scheduler.order)

    scheduler.set_timesteps = shortened


def _restrain(scheduler: Any, hold: Hold) -> None:
    """From now on ``step`` puts back what is held: cells whose time has not come yet."""
    free_step: Callable[..., Any] = scheduler.step
    done, walk = 0, scheduler.timesteps

    @wraps(free_step)  # pipelines look at its parameters to know whether it takes eta and a generator
    def step(*arguments: Any, **named: Any) -> Any:
        nonlocal done, walk
        if not done:  # solvers of several steps count on the whole schedule, to take the last one with less order
            walk, scheduler.timesteps = scheduler.timesteps, scheduler.whole_timesteps
        answer = free_step(*arguments, **named)
        latents: Tensor = answer[0] if isinstance(answer, tuple) else answer.prev_sample
        done += 1
        left = walk[done : done + 1]
        kept = _noised(scheduler, hold, left) if len(left) else hold.kept
        free = hold.free > 1 - done / len(walk)
        blended = torch.where(free, latents, kept.to(latents.dtype))
        if isinstance(answer, tuple):
            return (blended, *answer[1:])
        answer.prev_sample = blended
        return answer

    scheduler.step = step


def _noised(scheduler: Any, hold: Hold, timestep: Tensor) -> Tensor:
    """The kept latents at a timestep's noise level."""
    times = timestep.expand(len(hold.kept))
    if hasattr(scheduler, "scale_noise"):
        return scheduler.scale_noise(hold.kept, times, hold.noise)  # type: ignore[no-any-return]
    if not hasattr(scheduler, "add_noise"):
        raise ConfigError(f"refine cannot repaint with a {type(scheduler).__name__}: it cannot add noise to a picture.")
    return scheduler.add_noise(hold.kept, hold.noise, times)  # type: ignore[no-any-return]
