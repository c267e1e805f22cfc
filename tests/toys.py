"""Small, real implementations of the roles, for tests of the core: no model, full control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import PIL.Image
from scipy import ndimage

from refine.types import Critique, Image, InpaintJob, Region


def picture(seed: int, width: int = 80, height: int = 48) -> Image:
    """A smooth random picture."""
    rng = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(rng.integers(100, 150, (4, 5, 3), dtype=np.uint8))
    return coarse.resize((width, height), PIL.Image.Resampling.BICUBIC)


def scratched(image: Image, boxes: Sequence[tuple[int, int, int, int]]) -> Image:
    """The picture with black boxes: its faults."""
    pixels = np.asarray(image).copy()
    for x0, y0, x1, y1 in boxes:
        pixels[y0:y1, x0:x1] = 0
    return PIL.Image.fromarray(pixels)


@dataclass
class Ticker:
    """A clock that moves only when a model works."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Painter:
    """Draws ``scratched(picture(seed))``; repaints with the nearest kept pixels or, where ``clumsy`` says so by seed, with noise.

    ``censored``: repaints come back black, as from a safety checker. ``fails``: seeds that cannot be drawn. An evaluation takes ``ticker``
    one second.
    """

    target: Image
    boxes: Sequence[tuple[int, int, int, int]] = ()
    clumsy: int = 0
    native_size: int = 64
    grid: int = 8
    calls: list[int] = field(default_factory=list)
    censored: bool = False
    fails: frozenset[int] = frozenset()
    ticker: Ticker = field(default_factory=Ticker)

    def fits(self, prompt: str) -> tuple[str, str]:
        words = prompt.split()
        return " ".join(words[:20]), " ".join(words[20:])

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        if broken := self.fails & set(seeds):
            raise RuntimeError(f"seeds {sorted(broken)} give no image")
        self.ticker.now += self.cost() * len(seeds)
        return [scratched(self.target, self.boxes[: seed % (len(self.boxes) + 1)]) for seed in seeds]

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        self.calls.append(len(jobs))
        self.ticker.now += sum(self.cost(job.strength) for job in jobs)
        return [self._paint(job) for job in jobs]

    def cost(self, strength: float | None = None) -> int:
        return 10 if strength is None else max(1, int(10 * strength))

    def _paint(self, job: InpaintJob) -> Image:
        if self.censored:
            return PIL.Image.new("RGB", job.image.size)
        if self.clumsy and job.seed % self.clumsy:
            noise = np.random.default_rng(job.seed).integers(0, 256, (*job.image.size[::-1], 3), dtype=np.uint8)
            return PIL.Image.fromarray(noise)
        nearest = ndimage.distance_transform_edt(job.mask, return_distances=False, return_indices=True)
        return PIL.Image.fromarray(np.asarray(job.image)[tuple(nearest)])


@dataclass
class Spotter:
    """Finds what differs from the target by more than ``limit`` grey levels."""

    target: Image
    limit: int = 60

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Critique:
        want = np.asarray(self.target.resize(image.size), np.int16)
        wrong = np.abs(np.asarray(image, np.int16) - want).max(2) > self.limit
        regions = (Region(wrong, "a black box", "It hides the picture.", "structure", 0.9),) if wrong.any() else ()
        return Critique(image.size, regions, "found" if regions else "nothing found")


@dataclass
class Fickle:
    """Sees what ``spotter`` sees in one picture, and nothing in any other."""

    spotter: Spotter
    picture: Image

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        known = [np.array_equal(np.asarray(image), np.asarray(self.picture)) for image in images]
        return [self.spotter.inspect([image])[0] if same else Critique(image.size) for image, same in zip(images, known, strict=True)]


@dataclass
class Smoothness:
    """Minus the mean step between neighbouring pixels, in grey levels: black boxes and noise cost."""

    name: str = "smoothness"

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        assert len(images) == len(prompts)
        pixels = [np.asarray(image, np.float64) for image in images]
        return [-float(np.abs(np.diff(p, axis=0)).mean() + np.abs(np.diff(p, axis=1)).mean()) for p in pixels]


@dataclass
class Gloom:
    """Likes dark crops; a picture of ``size`` it does not mind. For repairs that only a crop can show to be worse."""

    size: tuple[int, int]
    name: str = "gloom"

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        return [0.0 if image.size == self.size else -float(np.asarray(image).mean()) for image in images]
