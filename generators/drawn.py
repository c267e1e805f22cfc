"""Pictures as a generator makes them, and nobody knows what is broken in them: drawings, and pictures of which a part was repainted.

The catalogue holds what a renderer can fake. What a small generator really does wrong (solids a little bent, edges that do not meet) is
in its own drawings alone, and what a repair does wrong in its repaints. ``python -m refine.evals.judge_training label`` marks the faults.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
from scipy import ndimage

from refine.generators.adapter import DiffusersGenerator
from refine.stilllife.captions import caption
from refine.stilllife.damage import sample_damage
from refine.stilllife.scene import sample_scene
from refine.stilllife.tools import blob
from refine.types import Image, InpaintJob, Mask

HARD = 2  # every second caption is a hard one
STRENGTHS = (0.6, 0.4, 0.25)  # of repaints, as preset mini repairs
AREA = (0.015, 0.12)  # of the picture: what is repainted of a drawing
GROWN = 4  # pixels that a repaint of a fault reaches beyond it
RIM = 1.0  # pixels: the softness of its edge
CHUNK = 24

Drawn = tuple[Image, str]


def drawings(generator: DiffusersGenerator, seeds: Sequence[int]) -> Iterator[Drawn]:
    """The drawing of each seed's caption, and the caption."""
    for start in range(0, len(seeds), CHUNK):
        part = seeds[start : start + CHUNK]
        prompts = [_prompt(seed) for seed in part]
        yield from zip(generator.draw(prompts, part), prompts, strict=True)


def repaints(generator: DiffusersGenerator, drawn: Sequence[Drawn], seed: int) -> Iterator[Drawn]:
    """Each drawing with a random part of it repainted; for every second one, a damaged render with its faults repainted instead."""
    for start in range(0, len(drawn), CHUNK):
        rng = np.random.default_rng((seed, start))
        jobs = [_repair(rng) if index % 2 else _touch(*one, rng) for index, one in enumerate(drawn[start : start + CHUNK])]
        for job, painted in zip(jobs, generator.inpaint(jobs), strict=True):
            yield pasted(job.image, painted, job.mask), job.prompt


def pasted(before: Image, after: Image, mask: Mask) -> Image:
    """``after`` inside the mask, ``before`` outside of it, with a soft rim."""
    soft = ndimage.gaussian_filter(mask.astype(np.float32), RIM)
    return PIL.Image.composite(after, before, PIL.Image.fromarray(np.rint(255 * soft).astype(np.uint8)))


def _prompt(seed: int) -> str:
    rng = np.random.default_rng(seed)
    return caption(sample_scene(rng, hard=seed % HARD == 0), rng)


def _touch(image: Image, prompt: str, rng: np.random.Generator) -> InpaintJob:
    """Repaint a blob of a drawing."""
    low, high = AREA
    radius = image.width * float(np.sqrt(np.exp(rng.uniform(np.log(low), np.log(high))) / np.pi))
    mask = blob(rng, image.width, tuple(rng.uniform(0.2, 0.85, 2) * image.width), radius)
    return _job(image, mask, prompt, rng)


def _repair(rng: np.random.Generator) -> InpaintJob:
    """Repaint the faults of a damaged render."""
    sample = sample_damage(rng, faults=1 + int(rng.integers(2)))
    if not sample.regions:  # rare: nothing visible came out
        return _touch(sample.image, sample.caption, rng)
    return _job(sample.image, ndimage.binary_dilation(sample.mask, iterations=GROWN), sample.caption, rng)


def _job(image: Image, mask: Mask, prompt: str, rng: np.random.Generator) -> InpaintJob:
    return InpaintJob(image, mask, prompt, int(rng.integers(2**31)), strength=float(rng.choice(STRENGTHS)))
