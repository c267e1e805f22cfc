"""What a diffusers pipeline needs its inputs to be: sizes, mask cells, prompt lengths, and how many steps a strength walks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import PIL.Image

from refine.types import Image, Mask


def denoiser(pipe: Any) -> Any:
    """The UNet or the transformer."""
    unet = pipe.components.get("unet")
    return pipe.components["transformer"] if unet is None else unet


def grid(pipe: Any) -> int:
    """Sides must be multiples of this many pixels: a latent cell, times the patch a transformer takes."""
    cell: int = pipe.vae_scale_factor
    patch: int = denoiser(pipe).config.get("patch_size") or 1
    step: int = pipe.image_processor.config.vae_scale_factor
    return max(cell * patch, step)


def native_size(pipe: Any) -> int:
    """The side in pixels the model was trained at; 0 where its parts do not say."""
    cells = getattr(pipe, "default_sample_size", None) or denoiser(pipe).config.get("sample_size") or 0
    cell: int = pipe.vae_scale_factor
    return cell * int(min(cells) if isinstance(cells, Sequence) else cells)


def snap(mask: Mask, cell: int) -> Image:
    """The mask as a grey picture, grown to whole latent cells of ``cell`` pixels: a thin line would vanish on the latent's grid."""
    height, width = mask.shape
    blocks = mask.reshape(height // cell, cell, width // cell, cell).any((1, 3))
    return PIL.Image.fromarray(np.kron(blocks, np.ones((cell, cell), np.bool_)).astype(np.uint8) * 255)


def budgets(pipe: Any, longest: int | None = None) -> Iterator[tuple[Any, int]]:
    """Every tokenizer with the number of tokens, special ones included, that are read of its output.

    CLIP encoders are bound by their position table; the others by the call's ``max_sequence_length`` (``longest``, where it is given).
    """
    default = parameters(pipe).get("max_sequence_length")
    bound = longest or (default.default if default is not None else None)
    for name, part in pipe.components.items():
        if name.startswith("tokenizer") and part is not None:
            reader = getattr(part, "tokenizer", part)  # of a processor
            is_clip = type(reader).__name__.startswith("CLIP")
            yield reader, reader.model_max_length if is_clip or bound is None else min(reader.model_max_length, bound)


def has_ip_adapter(pipe: Any) -> bool:
    """True where the denoiser waits for a picture's embedding beside the text's. diffusers does not repeat it for a batch."""
    network = denoiser(pipe)
    loaded = type(getattr(network, "encoder_hid_proj", None)).__name__
    return loaded == "MultiIPAdapterImageProjection" or network.config.get("encoder_hid_dim_type") == "ip_image_proj"


def readable(words: Sequence[str], tokenizer: Any, limit: int) -> int:
    """How many of the first words fit ``limit`` tokens."""
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(tokenizer(" ".join(words[:middle]), truncation=False, verbose=False).input_ids) <= limit
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def is_guided(pipe: Any, guidance: Mapping[str, float], above: float = 1.0) -> bool:
    """True where each step evaluates the denoiser with and without the prompt. ``above``: the scale from which on it does."""
    if "true_cfg_scale" in guidance:
        return guidance["true_cfg_scale"] > above
    is_distilled = denoiser(pipe).config.get("time_cond_proj_dim") is not None or bool(pipe.config.get("is_distilled"))
    return guidance.get("guidance_scale", 0) > above and not is_distilled


def steps_walked(pipe: Any, steps: int, strength: float) -> int:
    """Steps of an inpainting call: UNet families and those of the blend round their number down, the transformer families up."""
    if "unet" in pipe.components or "strength" not in parameters(pipe):
        return max(1, min(int(steps * strength), steps))
    return steps - int(max(steps - min(steps * strength, steps), 0))


def parameters(pipe: Any) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's call."""
    return inspect.signature(pipe.__call__).parameters
