"""One plug-in of every role, without any trained model: evening skies with glaring spots, and what finds and removes the spots.

None of it is useful on photographs. All of it is whole: a run with these five is a run of refine, with its gate, records and report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from zlib import crc32

import numpy as np
import PIL.Image
from scipy import ndimage

from refine.errors import ConfigError
from refine.policy import Policy
from refine.types import Critique, Image, InpaintJob, Mask, Region, Revision


class Sky:
    """A ``Generator``: a vertical gradient in the prompt's own colours, with ``spots`` white discs that should not be there.

    side: of what it draws, pixels. steps: what a drawing is said to cost, so that budgets mean something.
    """

    grid = 8

    def __init__(self, side: int = 128, spots: int = 2, steps: int = 4) -> None:
        if side < 64 or side % self.grid:
            raise ConfigError(f"generator.side is {side}; it must be a multiple of {self.grid}, and at least 64.")
        self.native_size, self._spots, self._steps = side, spots, steps

    def fits(self, prompt: str) -> tuple[str, str]:
        """There is no text encoder, so nothing is cut."""
        return prompt, ""

    def cost(self, strength: float | None = None) -> int:
        """A repaint walks its strength's share of the steps."""
        return self._steps if strength is None else max(1, ceil(strength * self._steps))

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        """Equal prompts and seeds give equal pixels, whatever else is in the batch."""
        return [self._draw(prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        """Each masked pixel becomes the mean of its unmasked neighbours; a weak strength leaves a part of what was there."""
        return [self._inpaint(job) for job in jobs]

    def _draw(self, prompt: str, seed: int) -> Image:
        high, low = np.random.default_rng(crc32(prompt.encode())).uniform(40, 200, (2, 3))
        rng = np.random.default_rng(seed)
        side = self.native_size
        down = np.linspace(0, 1, side)[:, None, None]
        pixels = np.broadcast_to(high + (low - high) * down, (side, side, 3)).copy()
        rows, columns = np.ogrid[:side, :side]
        for _ in range(self._spots):
            y, x = rng.uniform(0.15 * side, 0.85 * side, 2)
            pixels[(rows - y) ** 2 + (columns - x) ** 2 < (0.06 * side) ** 2] = 255
        return PIL.Image.fromarray(np.rint(pixels).astype(np.uint8))

    def _inpaint(self, job: InpaintJob) -> Image:
        pixels = np.asarray(job.image, np.float64)
        known = (~job.mask).astype(np.float64)
        reach = max(job.image.size) / 8
        weight = ndimage.gaussian_filter(known, reach)[..., None] + 1e-9
        around = np.stack([ndimage.gaussian_filter(pixels[..., c] * known, reach) for c in range(3)], axis=2) / weight
        painted = pixels + job.strength * (around - pixels)
        return PIL.Image.fromarray(np.rint(np.where(job.mask[..., None], painted, pixels)).clip(0, 255).astype(np.uint8))


def find_glare(image: Image, level: int = 250, least: int = 12) -> list[Mask]:
    """A controller as a plain function: one mask per connected patch of ``least`` pixels with every channel at ``level`` or above."""
    bright = np.asarray(image.convert("RGB")).min(axis=2) >= level
    labels, count = ndimage.label(bright)
    return [mask for index in range(1, count + 1) if (mask := labels == index).sum() >= least]


class Calm:
    """A ``Reward``: minus the mean step between neighbouring pixels, in levels of 255. The prompt is not read."""

    def __init__(self, name: str = "calm") -> None:
        self.name = name

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One float per pair, higher is better."""
        return [-_roughness(image) for image, _ in zip(images, prompts, strict=True)]


def _roughness(image: Image) -> float:
    grey = np.asarray(image.convert("L"), np.float64)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


@dataclass(frozen=True, slots=True)
class Suffix:
    """A ``Reviser``: the user's prompt with ``words`` behind it, and the region's phrase as what must not be painted."""

    words: str = "even light"

    def revise(self, prompt: str, critique: Critique, region: Region | None) -> Revision:
        """The same words for a region and for a whole new image."""
        return Revision(f"{prompt}, {self.words}", region.phrase if region is not None else "")


def gentle(strengths: tuple[float, ...] = (0.5, 0.9), rounds: int = 3) -> Policy:
    """A policy: one region at a time, weak repaints beside strong ones, never a whole new image."""
    return Policy(route="inpaint", top_k=1, strengths=strengths, rounds=rounds)
