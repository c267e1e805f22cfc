"""A controller and a reward for tests of the diffusers stages: real objects that any run can name, whatever is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import PIL.Image

from refine.types import Critique, Image, Region

BOX = (4, 6, 18, 16)
RULES: dict[str, Any] = {"gate": {"rule": "off"}, "budget": {"rounds": 1}, "policy": {"strengths": [0.6]}}
NODES: dict[str, Any] = {"controller": f"{__name__}:Corner", "rewards": {"brightness": f"{__name__}:Brightness"}, **RULES}


def corner(image: Image) -> Any:
    """A mask (H, W) of a fixed box."""
    mask = np.zeros(image.size[::-1], np.bool_)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


class Corner:
    """A ``Controller`` that always finds the same box."""

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [Critique(image.size, (Region(corner(image), "artifact"),)) for image in images]


def brightness(image: Image, prompt: str) -> float:
    return float(np.asarray(image).mean())


class Brightness:
    """A ``Reward``: the mean level."""

    def __init__(self, name: str = "brightness") -> None:
        self.name = name

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        return [brightness(image, prompt) for image, prompt in zip(images, prompts, strict=True)]


def noise(seed: int, width: int = 48, height: int = 32) -> Image:
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def same(first: Sequence[Image], second: Sequence[Image]) -> bool:
    """True where every image has the same bytes as its partner."""
    pairs = list(zip(first, second, strict=True))
    return bool(pairs) and all(one.size == two.size and one.tobytes() == two.tobytes() for one, two in pairs)
