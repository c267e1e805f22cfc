"""Damage that a generator makes: parts of still lifes repainted with a wrong prompt, as training data for a controller.

The file has the fields of the controller's own cache (``refine.stilllife.packing`` lists them). Half of the pictures are first
passed through the autoencoder, as drawn pictures are, and some of these stay without damage: softness alone is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import PIL.Image
import torch

from refine.generators.adapter import DiffusersGenerator
from refine.generators.train_vae import to_tensor
from refine.stilllife.damage import Repaint, Sample, repaint_damage, sample_damage
from refine.types import Image, InpaintJob, Mask

SOFT = 0.5  # share of pictures that pass through the autoencoder first
UNHARMED = 0.3  # share of these that stay as they are
CAUGHT = 0.5  # share of the others with a fault of the renderer, too: the autoencoder would smooth it away


def samples(pipe: Any, seeds: Sequence[int], steps: int = 12) -> Iterator[Sample]:
    """One sample per seed; ``pipe`` is a loaded text-to-image pipeline."""
    generator = DiffusersGenerator(pipe, steps=steps, guidance_scale=3.0)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        is_soft = rng.random() < SOFT
        sample = sample_damage(rng, faults=int(not is_soft and rng.random() < CAUGHT))
        if is_soft:
            sample = replace(sample, image=soften(pipe.vae, sample.image))
        if is_soft and rng.random() < UNHARMED:
            yield sample
        else:
            yield repaint_damage(sample, rng, repainter(generator, float(rng.uniform(0.6, 1.0))))


def repainter(generator: DiffusersGenerator, strength: float) -> Repaint:
    """What ``repaint_damage`` calls to have an area painted."""

    def repaint(image: Image, mask: Mask, prompt: str, seed: int) -> Image:
        return generator.inpaint([InpaintJob(image, mask, prompt, seed, strength=strength)])[0]

    return repaint


@torch.inference_mode()
def soften(vae: Any, image: Image) -> Image:
    """The picture as the autoencoder returns it."""
    pixels = to_tensor(np.array(image)[None]).to(vae.device, vae.dtype)
    output = vae.decode(vae.encode(pixels).latent_dist.mean).sample[0].float().clamp(-1, 1)
    return PIL.Image.fromarray(((output + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy())
