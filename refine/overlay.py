"""Masks over an image, for people to look at."""

from __future__ import annotations

import numpy as np
import PIL.Image
from scipy import ndimage

from refine.regions import EIGHT
from refine.types import Critique, Image

# Colour-blind safe (Okabe and Ito): physics, structure, distortion, none.
COLOURS = {"physics": (86, 180, 233), "structure": (213, 94, 0), "distortion": (240, 228, 66), None: (204, 121, 167)}
TINT = 0.35


def overlay(image: Image, critique: Critique) -> Image:
    """The image with each region tinted and outlined in the colour of its category."""
    pixels = np.asarray(image).astype(np.float32)
    for region in critique.regions:
        colour = np.array(COLOURS[region.category], np.float32)
        pixels[region.mask] += TINT * (colour - pixels[region.mask])
    width = max(1, round(min(image.size) / 256))
    for region in critique.regions:
        inner = ndimage.binary_erosion(region.mask, EIGHT, iterations=width)
        pixels[region.mask & ~inner] = COLOURS[region.category]
    return PIL.Image.fromarray(np.rint(pixels).astype(np.uint8))
