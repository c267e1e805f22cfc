"""A common beginning for the vision transformers of the embedded family: the SAM tower of its LEGION.

The published models stand on towers that others trained on the world's images. Here one tower learns to see still lifes (what stands
where, what is damaged), and the CLIP and BLIP towers of the other models begin as copies of it. SAM's encoder has no class token, its
pixels are normalised otherwise, CLIP has a norm behind the embedding, and most of SAM's layers look at windows only: a copy is a start,
not the same function. The held-out judge shares nothing with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

SAM_MEAN, SAM_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of pixels in [0, 255]
PREFIX = "sam.vision_encoder."


@dataclass(frozen=True, slots=True, eq=False)
class Trunk:
    """A pre-norm vision transformer for pixels in [0, 1]: kernel (D, 3, p, p), places (P, D) with the kernel's bias in them,
    layers: the parameters of each by SAM's names."""

    kernel: Tensor
    places: Tensor
    layers: tuple[Mapping[str, Tensor], ...]


def load(folder: Path) -> Trunk:
    """From the safetensors of a LEGION folder."""
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            state |= {key.removeprefix(PREFIX): tensors.get_tensor(key).float() for key in tensors.keys() if key.startswith(PREFIX)}  # noqa: SIM118
    return of(state)


def of(state: Mapping[str, Tensor]) -> Trunk:
    """From the state of a ``SamVisionEncoder``."""
    mean, std = (torch.tensor(row)[:, None, None] for row in (SAM_MEAN, SAM_STD))
    kernel, bias = state["patch_embed.projection.weight"], state["patch_embed.projection.bias"]
    places = state["pos_embed"].flatten(0, 2) + bias - (kernel * (mean / std)).sum((1, 2, 3))
    depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("layers."))
    layers = [
        {key.removeprefix(f"layers.{k}."): value for key, value in state.items() if key.startswith(f"layers.{k}.")} for k in range(depth)
    ]
    return Trunk(kernel * (255 / std), places, tuple(layers))


def for_pixels(trunk: Trunk, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """The kernel and the places for pixels that are normalised with ``mean`` and ``std`` (of [0, 1])."""
    centre, spread = (torch.tensor(row)[:, None, None] for row in (mean, std))
    return trunk.kernel * spread, trunk.places + (trunk.kernel * centre).sum((1, 2, 3))


@torch.no_grad()
def into_clip(vision: nn.Module, trunk: Trunk, pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Copy into a CLIP vision model, which may have more layers. pixels: (N, 3, S, S) normalised, to measure the embedding's spread."""
    kernel, places = for_pixels(trunk, mean, std)
    parameters = dict(vision.named_parameters())
    parameters["embeddings.patch_embedding.weight"].copy_(kernel)
    parameters["embeddings.position_embedding.weight"][1:].copy_(places)
    spread = vision.get_submodule("embeddings")(pixels)[:, 1:].std(-1).mean()
    parameters["pre_layrnorm.weight"].fill_(float(spread))
    parameters["pre_layrnorm.bias"].zero_()
    for k, layer in enumerate(trunk.layers):
        theirs = dict(_common(layer))
        for name, part in zip("qkv", layer["attn.qkv.weight"].chunk(3), strict=True):
            theirs[f"self_attn.{name}_proj.weight"] = part
        for name, part in zip("qkv", layer["attn.qkv.bias"].chunk(3), strict=True):
            theirs[f"self_attn.{name}_proj.bias"] = part
        for end in ("weight", "bias"):
            theirs[f"self_attn.out_proj.{end}"] = layer[f"attn.proj.{end}"]
        _fill(parameters, f"encoder.layers.{k}.", theirs)


@torch.no_grad()
def into_blip(vision: nn.Module, trunk: Trunk, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Copy into a BLIP vision model of as many layers."""
    kernel, places = for_pixels(trunk, mean, std)
    parameters = dict(vision.named_parameters())
    parameters["embeddings.patch_embedding.weight"].copy_(kernel)
    parameters["embeddings.patch_embedding.bias"].zero_()
    parameters["embeddings.position_embedding"][0, 1:].copy_(places)
    for k, layer in enumerate(trunk.layers):
        theirs = dict(_common(layer))
        for end in ("weight", "bias"):
            theirs[f"self_attn.qkv.{end}"] = layer[f"attn.qkv.{end}"]
            theirs[f"self_attn.projection.{end}"] = layer[f"attn.proj.{end}"]
        _fill(parameters, f"encoder.layers.{k}.", theirs)


def _common(layer: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """What CLIP and BLIP call alike."""
    names = {"layer_norm1": "layer_norm1", "layer_norm2": "layer_norm2", "mlp.fc1": "mlp.lin1", "mlp.fc2": "mlp.lin2"}
    return {f"{ours}.{end}": layer[f"{sams}.{end}"] for ours, sams in names.items() for end in ("weight", "bias")}


def _fill(parameters: Mapping[str, nn.Parameter], prefix: str, values: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        parameters[prefix + name].copy_(value)
