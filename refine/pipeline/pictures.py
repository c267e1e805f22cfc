"""What goes in: images as their users have them, read into pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch

from refine import images
from refine.errors import InputError
from refine.images import Picture
from refine.types import Image


def pictures(given: Any) -> list[Picture]:
    """One image or many, of mixed kinds and sizes.

    PIL images of any mode; paths; arrays (H, W, 3) or (N, H, W, 3) and tensors (3, H, W) or (N, 3, H, W), uint8 or floats in [0, 1].
    Raises InputError with the place of the image that cannot be used.
    """
    if isinstance(given, PIL.Image.Image | str | Path):
        return [_one(given, "The image")]
    if not isinstance(given, np.ndarray | torch.Tensor | Sequence):
        raise InputError(f"images is a {type(given).__name__}. Give PIL images, paths, numpy arrays or torch tensors, or a list of them.")
    listed = given if isinstance(given, Sequence) else _planes(given)
    if not len(listed):
        raise InputError("There are no images. Give at least one.")
    return [_one(image, f"Image {index}") for index, image in enumerate(listed)]


def _planes(given: npt.NDArray[Any] | torch.Tensor) -> Sequence[Any]:
    if given.ndim not in (3, 4):
        raise InputError(f"The images have the shape {tuple(given.shape)}; it must be {_layout(given)}, with or without N.")
    return given if given.ndim == 4 else [given]  # type: ignore[return-value]


def _one(given: Any, name: str) -> Picture:
    if isinstance(given, str | Path):
        return images.read(Path(given))
    if isinstance(given, PIL.Image.Image):
        return images.take(given, name)
    if isinstance(given, np.ndarray | torch.Tensor):
        return images.take(_pixels(given, name), name)
    raise InputError(f"{name} is a {type(given).__name__}. Give a PIL image, a path, a numpy array or a torch tensor.")


def _pixels(given: npt.NDArray[Any] | torch.Tensor, name: str) -> Image:
    """8-bit RGB of one (H, W, 3) array or (3, H, W) tensor."""
    channels = 0 if isinstance(given, torch.Tensor) else 2
    if given.ndim != 3 or given.shape[channels] != 3:
        raise InputError(f"{name} has the shape {tuple(given.shape)}; it must be {_layout(given)} with 3 channels.")
    array = np.moveaxis(given.detach().cpu().float().numpy(), 0, 2) if isinstance(given, torch.Tensor) else np.asarray(given)
    if array.dtype == np.uint8 or (isinstance(given, torch.Tensor) and given.dtype == torch.uint8):
        return PIL.Image.fromarray(array.astype(np.uint8))
    if not np.issubdtype(array.dtype, np.floating):
        raise InputError(f"{name} has values of type {array.dtype}; they must be uint8, or floats from 0 to 1.")
    if not np.isfinite(array).all():
        raise InputError(
            f"{name} has values that are not finite numbers (NaN or infinite): the pipeline that drew it overflowed. "
            "A VAE in float16 often does; load it in bfloat16 or float32."
        )
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise InputError(f"{name} has values from {low:g} to {high:g}; floats must be from 0 to 1. From -1 to 1: image / 2 + 0.5.")
    return PIL.Image.fromarray(np.rint(array * 255).astype(np.uint8))


def _layout(given: npt.NDArray[Any] | torch.Tensor) -> str:
    return "(N, 3, H, W)" if isinstance(given, torch.Tensor) else "(N, H, W, 3)"
