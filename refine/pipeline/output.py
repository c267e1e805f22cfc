"""What comes out: images in the type that was asked for, and the record of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import ImagePipelineOutput

from refine.errors import InputError, unknown
from refine.types import Image, Record

OUTPUT_TYPES = ("pil", "np", "pt")


@dataclass
class RefineOutput(ImagePipelineOutput):  # type: ignore[misc]
    """``images`` as any image pipeline gives them, and ``records``, one per image: every round, candidate and reason."""

    records: list[Record] = field(default_factory=list)


def check_type(output_type: str) -> None:
    """Raises InputError for a type that images cannot be given in."""
    if output_type == "latent":
        raise InputError(
            "output_type is 'latent', but refine inspects and repairs pixels, so its images have no latents. "
            "Ask for 'pil', 'np' or 'pt', and encode them with the pipeline's VAE where latents are needed."
        )
    if output_type not in OUTPUT_TYPES:
        raise InputError(unknown("output_type", str(output_type), OUTPUT_TYPES))


def give(images: Sequence[Image], output_type: str) -> Any:
    """PIL images as they are, or float32 in [0, 1]: "np" (N, H, W, 3), "pt" (N, 3, H, W); images of mixed sizes come as a list."""
    if output_type == "pil":
        return list(images)
    arrays = [np.asarray(image.convert("RGB"), np.float32) / 255 for image in images]
    tensors = [torch.from_numpy(array).permute(2, 0, 1).contiguous() for array in arrays]
    one_size = len({image.size for image in images}) == 1
    if output_type == "pt":
        return torch.stack(tensors) if one_size else tensors
    return np.stack(arrays) if one_size else arrays
