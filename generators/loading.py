"""A pipeline from a folder or the hub: any class, quantized or not, under the offloading policy that fits."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any, Literal

import torch
from diffusers import DiffusionPipeline, PipelineQuantizationConfig

from refine import device as devices
from refine.device import Offload
from refine.embedded import resolve
from refine.errors import MissingDependency, loading
from refine.generators import attention as attentions
from refine.generators.attention import Attention
from refine.generators.quiet import quiet
from refine.generators.shapes import denoiser

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Quantize = Literal["none", "8bit", "4bit"]


def load(
    source: str, dtype: Precision, device: str, variant: str | None, quantize: Quantize, attention: Attention = "sdpa"
) -> tuple[Any, str]:
    """The pipeline, still off the accelerator, and the device it is meant for. Raises CheckpointError, ConfigError, MissingDependency."""
    where = _accelerator() if device == "auto" else device
    attentions.check(attention, where)
    precision = getattr(torch, ("float32" if where == "cpu" else "bfloat16") if dtype == "auto" else dtype)
    place = resolve(source)
    advice = "Give a folder with a model_index.json, or a hub name. What a preset needs is downloaded with: refine fetch --preset NAME"
    with quiet(), loading(f"a text-to-image pipeline from {source!r}", advice):
        how: Mapping[str, Any] = {} if quantize == "none" else {"quantization_config": quantization(place, quantize, precision)}
        pipe = DiffusionPipeline.from_pretrained(place, dtype=precision, variant=variant, **how)
    attentions.use(denoiser(pipe), attention)
    return pipe, where


def settle(pipe: Any, policy: Offload, device: str, vae_tiling: bool) -> Offload:
    """Put a pipeline that is ours where it shall work; the policy it ended up under, since a full accelerator asks for a smaller one."""
    devices.check_policy(policy, device)
    if vae_tiling:
        for way in ("enable_tiling", "enable_slicing"):
            if hasattr(pipe.vae, way):
                getattr(pipe.vae, way)()
    chosen: Offload = "none" if device == "cpu" else policy  # without an accelerator there is nothing to keep off it

    def change(less: Offload) -> None:
        nonlocal chosen
        chosen = less

    _, found = devices.fitted(lambda: devices.place(pipe, chosen, device), chosen, change)
    return found


def quantization(source: str, quantize: Quantize, dtype: torch.dtype) -> PipelineQuantizationConfig:
    """bitsandbytes for the denoiser and the large text encoders; CLIP and the VAE are small and keep their precision."""
    if find_spec("bitsandbytes") is None:
        raise MissingDependency("bitsandbytes", f"generator.quantize={quantize}", "quant")
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype}
    index = DiffusionPipeline.load_config(source)
    return PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{quantize}",
        quant_kwargs=four if quantize == "4bit" else {"load_in_8bit": True},
        components_to_quantize=quantized_parts(index),
    )


def quantized_parts(index: Mapping[str, Any]) -> list[str]:
    """The names in a ``model_index.json`` of what is large enough to be quantized."""
    return [
        name
        for name, kind in index.items()
        if name in ("unet", "transformer")
        or (name.startswith("text_encoder") and isinstance(kind, list | tuple) and kind[1] and not kind[1].startswith("CLIP"))
    ]


def _accelerator() -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
