"""Players with a flaw, for benches: a reward that sometimes has no number, a generator that goes black, one that breaks."""

from __future__ import annotations

from collections.abc import Sequence

import PIL.Image

from refine.stilllife.oracle import Likeness, Painter
from refine.types import Image, InpaintJob


class Shy:
    """A ``Reward`` that is not a number for prompts with ``word`` in them; else the likeness to the clean picture."""

    def __init__(self, name: str = "shy", word: str = "cube") -> None:
        self.name, self._word, self._likeness = name, word, Likeness(name)

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        scores = self._likeness.score(images, prompts)
        return [float("nan") if self._word in prompt else score for score, prompt in zip(scores, prompts, strict=True)]


class Flawed:
    """The painter, but a repaint of a prompt with ``word`` in it is black, or (``breaks``) an error.

    draws: drawings of such a prompt are black as well.
    """

    native_size, grid = Painter.native_size, Painter.grid

    def __init__(self, word: str = "cube", breaks: bool = False, draws: bool = False) -> None:
        self._painter, self._word, self._breaks, self._draws = Painter(skill=1.0), word, breaks, draws

    def fits(self, prompt: str) -> tuple[str, str]:
        return self._painter.fits(prompt)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        hit = [self._draws and self._word in prompt for prompt in prompts]
        return darkened(self._painter.draw(prompts, seeds, negative_prompts), hit)

    def cost(self, strength: float | None = None) -> int:
        return 1

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        hit = [self._word in job.prompt for job in jobs]
        if self._breaks and any(hit):
            raise ValueError("the decoder gave up")
        return darkened(self._painter.inpaint(jobs), hit)


def darkened(images: Sequence[Image], hit: Sequence[bool]) -> list[Image]:
    return [PIL.Image.new("RGB", image.size) if bad else image for bad, image in zip(hit, images, strict=True)]
