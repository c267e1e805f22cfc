"""Pictures made worse on purpose, to see how far a controller's figures fall (LEGION, arXiv 2503.15264, table 10).

jpeg:Q    JPEG at quality Q, 1 to 95; the paper uses 50, 35, 20
noise:S   Gaussian noise of standard deviation S on the scale 0 to 1, cut to the scale; the paper uses 0.1, 0.2, 0.3
blur:K    Gaussian blur of K × K pixels, K odd; the standard deviation follows from K as in OpenCV; the paper uses 5, 9, 15
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL.Image
from scipy import ndimage

from refine.errors import InputError
from refine.types import Image

# What OpenCV takes for small kernels instead of the formula: binomial weights, the one of 9 set by hand.
SMALL: Mapping[int, tuple[float, ...]] = {
    3: (1 / 4, 2 / 4, 1 / 4),
    5: (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16),
    7: (2 / 64, 7 / 64, 14 / 64, 18 / 64, 14 / 64, 7 / 64, 2 / 64),
    9: (4 / 256, 13 / 256, 30 / 256, 51 / 256, 60 / 256, 51 / 256, 30 / 256, 13 / 256, 4 / 256),
}
EXAMPLES = "jpeg:50, noise:0.1, blur:9"


@dataclass(frozen=True, slots=True)
class Perturbation:
    """One kind of damage at one level."""

    kind: str
    level: float

    def __str__(self) -> str:
        return f"{self.kind}:{self.level:g}"

    def __call__(self, image: Image, seed: int) -> Image:
        """The picture made worse, of the same size. ``seed`` decides the noise."""
        return KINDS[self.kind].apply(image, self.level, seed)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is applied, and which levels it takes."""

    apply: Callable[[Image, float, int], Image]
    allows: Callable[[float], bool]
    rule: str


def parse(text: str) -> Perturbation:
    """``kind:level`` to a perturbation. Raises InputError, with the rule of the kind, for anything else."""
    match = re.fullmatch(r"(\w+):(\d+(?:\.\d+)?)", text)
    if not match or match[1] not in KINDS:
        raise InputError(f"--perturb {text!r} must read KIND:LEVEL, with one of {', '.join(KINDS)}; for example {EXAMPLES}.")
    kind, level = KINDS[match[1]], float(match[2])
    if not kind.allows(level):
        raise InputError(f"--perturb {text!r}: {kind.rule}.")
    return Perturbation(match[1], level)


def kernel(size: int) -> npt.NDArray[np.float64]:
    """(size,) weights of OpenCV's Gaussian kernel whose standard deviation is left open: 0.3 ((size - 1) / 2 - 1) + 0.8."""
    if size in SMALL:
        return np.array(SMALL[size])
    steps = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(steps**2) / (2 * (0.3 * ((size - 1) / 2 - 1) + 0.8) ** 2))
    return np.asarray(weights / weights.sum())


def _jpeg(image: Image, level: float, seed: int) -> Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=int(level))
    with PIL.Image.open(buffer) as opened:
        return opened.convert("RGB")


def _noise(image: Image, level: float, seed: int) -> Image:
    pixels = np.asarray(image, np.float64)
    return _picture(pixels + 255 * level * np.random.default_rng(seed).standard_normal(pixels.shape))


def _blur(image: Image, level: float, seed: int) -> Image:
    weights, pixels = kernel(int(level)), np.asarray(image, np.float64)
    for axis in (0, 1):
        pixels = ndimage.correlate1d(pixels, weights, axis=axis, mode="mirror")
    return _picture(pixels)


def _picture(pixels: npt.NDArray[np.float64]) -> Image:
    return PIL.Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


KINDS: Mapping[str, Kind] = {
    "jpeg": Kind(_jpeg, lambda level: level == int(level) and 1 <= level <= 95, "the quality is a whole number from 1 to 95"),
    "noise": Kind(_noise, lambda level: 0 < level <= 1, "the standard deviation is above 0 and at most 1 (white is 1)"),
    "blur": Kind(_blur, lambda level: level % 2 == 1 and level >= 3, "the kernel is an odd number of pixels, at least 3"),
}
