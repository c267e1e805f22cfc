"""Ceiling and floor: players that know the truth of still life, or nothing at all.

They play the same roles as trained models, so a policy, a gate or a benchmark can be tried against them in a second.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from refine.errors import InputError
from refine.regions import EIGHT, resize
from refine.stilllife.captions import parse
from refine.stilllife.damage import damage
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.stilllife.render import render
from refine.stilllife.scene import Scene
from refine.types import Critique, Image, InpaintJob, Region

SIZE = 128


def scene_of(prompt: str) -> Scene:
    """The scene a caption describes. Raises InputError for a text that is not of the grammar."""
    scene = parse(prompt)
    if scene is None:
        raise InputError(f"{prompt!r} is no still life caption. Write it like: {DEFAULT_PROMPTS[0]!r}.")
    return scene


def clean(prompt: str) -> Image:
    """The undamaged picture of a caption, 128 × 128."""
    return render(scene_of(prompt), SIZE).image


def compare(image: Image, truth: Image, tolerance: float = 24.0, least: int = 6) -> Critique:
    """One region per connected part (of at least ``least`` pixels) where a channel differs by more than ``tolerance`` (of 255)."""
    wanted = np.asarray(resize(truth, image.size), np.int16)
    far = np.abs(np.asarray(image, np.int16) - wanted).max(axis=2) > tolerance
    labels, count = ndimage.label(far, EIGHT)
    masks = [mask for index in range(1, count + 1) if (mask := labels == index).sum() >= least]
    regions = tuple(Region(mask, "differing part", "It differs from the clean picture.") for mask in masks)
    return Critique(image.size, regions, f"{len(regions)} parts differ from the clean picture.", float(bool(regions)))


class Oracle:
    """A ``Controller`` that compares an image with the nearest clean picture of the ``prompts`` it may be shown.

    Prompts that are no captions are passed over. Raises InputError where all are, or none is given.
    """

    def __init__(self, prompts: Sequence[str] = DEFAULT_PROMPTS, tolerance: float = 24.0) -> None:
        if not prompts:
            raise InputError("The oracle needs at least one still life caption in prompts.")
        readable = [prompt for prompt in prompts if parse(prompt) is not None]
        self._truths = [clean(prompt) for prompt in readable or prompts]
        self._tolerance = tolerance

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [compare(image, self._nearest(image), self._tolerance) for image in images]

    def _nearest(self, image: Image) -> Image:
        return min(self._truths, key=lambda truth: distance(image, truth))


class Blind:
    """A ``Controller`` that never finds a fault."""

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [Critique(image.size, summary="Nothing is looked at.") for image in images]


class Painter:
    """A ``Generator`` that renders still life captions with one fault each, and repaints without it with probability ``skill``.

    A repaint shows the whole scene, so it fits where the crop is the whole image (the default for small images). ``words``: how many
    words of a prompt are read.
    """

    native_size = SIZE
    grid = 8

    def __init__(self, skill: float = 0.7, words: int = 60) -> None:
        self._skill, self._words = skill, words

    def fits(self, prompt: str) -> tuple[str, str]:
        words = prompt.split()
        return " ".join(words[: self._words]), " ".join(words[self._words :])

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        return [self._faulty(prompt, np.random.default_rng(seed)) for prompt, seed in zip(prompts, seeds, strict=True)]

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        return [resize(self._repaint(job), job.image.size) for job in jobs]

    def cost(self, strength: float | None = None) -> int:
        return 1

    def _repaint(self, job: InpaintJob) -> Image:
        rng = np.random.default_rng(job.seed)
        return clean(self.fits(job.prompt)[0]) if rng.random() < self._skill else self._faulty(job.prompt, rng)

    def _faulty(self, prompt: str, rng: np.random.Generator) -> Image:
        return damage(scene_of(self.fits(prompt)[0]), rng, size=SIZE).image


class Likeness:
    """A ``Reward``: minus the mean difference (0 to 1) between an image and the clean picture of its prompt."""

    def __init__(self, name: str = "likeness") -> None:
        self.name = name

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        return [-distance(image, clean(prompt)) / 255 for image, prompt in zip(images, prompts, strict=True)]


def distance(image: Image, truth: Image) -> float:
    """Mean absolute difference of two images, in levels of 255, in the frame of the first."""
    return float(np.abs(np.asarray(image, np.float32) - np.asarray(resize(truth, image.size), np.float32)).mean())
