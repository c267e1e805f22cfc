"""Damage that a generator makes: parts of still lifes repainted with a wrong prompt, as training data for a controller.

The file has the fields of the controller's own cache (``refine.controllers.legion.cache`` lists them). Half of the pictures are first
passed through the autoencoder, as drawn pictures are, and some of these stay without damage: softness alone is no fault.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from refine.generators.adapter import DiffusersGenerator
from refine.generators.train_vae import to_tensor
from refine.stilllife.damage import CATALOGUE, REPAINTED, Repaint, Sample, repaint_damage, sample_damage
from refine.stilllife.render import render
from refine.stilllife.scene import COLOURS, LIGHTS, MATERIALS, SHAPES, SIZES, Scene
from refine.types import CATEGORIES, Image, InpaintJob, Mask

KINDS = (*CATALOGUE, *REPAINTED, "other")
GROUPS = (SHAPES, COLOURS, SIZES, MATERIALS)
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


def write(path: Path, made: Sequence[Sample]) -> None:
    """Pack samples into one ``.npz``."""
    found = [(i, region, kind) for i, one in enumerate(made) for region, kind in zip(one.regions, one.kinds, strict=True)]
    side = made[0].image.width
    fields = {
        "images": np.stack([np.asarray(one.image, np.uint8) for one in made]),
        "ids": np.stack([render(one.scene, side).ids[::2, ::2] for one in made]),
        "solids": np.stack([_solids(one.scene) for one in made]),
        "light": np.array([LIGHTS.index(one.scene.light) for one in made], np.uint8),
        "owner": np.array([i for i, _, _ in found], np.int32),
        "masks": np.array([np.packbits(region.mask) for _, region, _ in found], np.uint8).reshape(len(found), -1),
        "phrases": np.array([region.phrase for _, region, _ in found], np.str_),
        "explanations": np.array([region.explanation for _, region, _ in found], np.str_),
        "categories": np.array([CATEGORIES.index(region.category or "distortion") for _, region, _ in found], np.uint8),
        "kinds": np.array([KINDS.index(kind if kind in KINDS else "other") for _, _, kind in found], np.uint8),
    }
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **fields)  # type: ignore[arg-type]
    os.replace(partial, path)


def _solids(scene: Scene) -> npt.NDArray[np.uint8]:
    """(3, 4) indices of shape, colour, size and material; rows of solids that are not there are 0."""
    table = np.zeros((3, 4), np.uint8)
    for row, solid in zip(table, scene.solids, strict=False):
        row[:] = [names.index(value) for names, value in zip(GROUPS, solid.kind, strict=True)]
    return table
