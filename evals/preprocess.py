"""Pictures to pixels, as each reward model was trained to see them.

Input: RGB ``PIL.Image`` of any size (other modes are converted upstream). Output: float32 (3, side, side), normalised with
CLIP's mean and standard deviation.
"""

from __future__ import annotations

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedConfig

from refine.errors import InputError
from refine.types import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def letterbox(image: Image, side: int, antialias: bool) -> Tensor:
    """HPSv2: bicubic resize of the longest edge to ``side``, black bars around it, then normalise.

    The resize works on the float tensor and is not clamped. ``antialias=False`` is what torchvision did up to 0.16 (the model's
    training and its published tables), True is what it does since 0.17: two protocols whose scores must not be compared.
    """
    pixels = _to_tensor(image)
    height, width = pixels.shape[1:]
    scale = side / max(height, width)
    if scale != 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        pixels = F.interpolate(pixels[None], size, mode="bicubic", align_corners=False, antialias=antialias)[0]
    down, right = side - pixels.shape[1], side - pixels.shape[2]
    bars = (right // 2, right - right // 2, down // 2, down - down // 2)
    return normalise(F.pad(pixels, bars))


def resize_protocol(antialias: bool) -> str:
    """How a result names the two."""
    return "torchvision>=0.17" if antialias else "legacy"


def centre_crop(image: Image, side: int) -> Tensor:
    """ImageReward, and whatever was built on OpenAI's code: bicubic resize (Pillow) of the shortest edge to ``side``, central square, then
    normalise. Half a pixel of offset is rounded to even."""
    resized = _shortest_to(image, side)
    return _square(resized, side, round((resized.width - side) / 2), round((resized.height - side) / 2))


def clip_crop(image: Image, side: int) -> Tensor:
    """PickScore and CLIPScore, as transformers' processor does it: the same, with half a pixel of offset rounded down."""
    resized = _shortest_to(image, side)
    return _square(resized, side, (resized.width - side) // 2, (resized.height - side) // 2)


def _shortest_to(image: Image, side: int) -> Image:
    width, height = require_rgb(image).size
    short, long = sorted((width, height))
    other = int(side * long / short)
    size = (side, other) if width <= height else (other, side)
    return image if size == image.size else image.resize(size, PIL.Image.Resampling.BICUBIC)


def _square(image: Image, side: int, left: int, top: int) -> Tensor:
    return normalise(_to_tensor(image.crop((left, top, left + side, top + side))))


def normalise(pixels: Tensor) -> Tensor:
    """(..., 3, H, W) in [0, 1] to zero mean and unit deviation by CLIP's constants."""
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std


def require_rgb(image: Image) -> Image:
    """The same image, or an error for a mode that would be scored wrongly."""
    if image.mode != "RGB":
        raise InputError(f"A reward model was given an image of mode {image.mode!r}; it reads RGB. Convert it first: image.convert('RGB').")
    return image


def square_side(config: PreTrainedConfig) -> int:
    """The side of the square, in pixels, that a vision tower reads."""
    side: int = config.image_size
    return side


def _to_tensor(image: Image) -> Tensor:
    """(3, H, W) float32 in [0, 1]."""
    array = np.array(require_rgb(image), np.uint8)
    return torch.from_numpy(array).permute(2, 0, 1).float().div_(255)
