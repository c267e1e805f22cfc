"""Which kernels compute a denoiser's attention: PyTorch's own, or those of xformers or flash-attn.

diffusers has two ways to say so. Its newer denoisers (FLUX, Qwen-Image, ...) send every attention to a backend that can be named; those of
UNets, SD3, PixArt and Sana have processors, of which xformers can take the place. Processors that compute something else than softmax
attention (Sana's linear one) keep their place: diffusers would swap them too, and the pictures would be wrong.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch
from diffusers.models.attention_dispatch import attention_backend

from refine.errors import ConfigError, MissingDependency
from refine.generators.quiet import quiet

Attention = Literal["sdpa", "xformers", "flash_attention_2"]
# Module, package and extra of each.
PACKAGES = {"xformers": ("xformers", "xformers", "xformers"), "flash_attention_2": ("flash_attn", "flash-attn", None)}
BACKENDS = {"xformers": "xformers", "flash_attention_2": "flash"}
SOFTMAX = ("AttnProcessor", "AttnProcessor2_0", "JointAttnProcessor2_0")  # the processors that xformers computes the same of


def check(attention: Attention, device: str) -> None:
    """Before weights load. Raises MissingDependency without the package, ConfigError where it cannot work."""
    if attention == "sdpa":
        return
    module, package, extra = PACKAGES[attention]
    if find_spec(module) is None:
        raise MissingDependency(package, f"generator.attention={attention}", extra)
    if not device.startswith("cuda"):
        raise ConfigError(f"generator.attention={attention} needs a CUDA device; the generator is on {device!r}. Use attention=sdpa there.")
    if attention == "xformers" and (reason := broken(device)):
        raise ConfigError(
            f"The installed xformers does not work with torch {torch.__version__} on {device!r} ({reason}). "
            "Install a build for this torch, or use generator.attention=sdpa."
        )


def broken(device: str) -> str:
    """Why a smallest call of xformers fails: a build for another torch imports all the same. Empty where it works."""
    try:
        from xformers.ops import memory_efficient_attention

        one = torch.zeros(1, 2, 1, 32, device=device, dtype=torch.float16)
        memory_efficient_attention(one, one, one)
    except (ImportError, NotImplementedError, RuntimeError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return ""


def use(denoiser: Any, attention: Attention) -> None:
    """Let a denoiser that is ours compute its attention so. ``sdpa`` leaves everything as it is. Raises ConfigError."""
    if attention == "sdpa":
        return
    kind = type(denoiser).__name__
    if has_backends(denoiser):
        dispatch(denoiser, BACKENDS[attention])
        return
    layers = softmax_layers(denoiser)
    if attention != "xformers" or not layers:
        offered = "sdpa or xformers" if layers else "sdpa"
        raise ConfigError(f"generator.attention={attention}: diffusers does not offer it for a {kind}. Use {offered}.")
    for layer in layers:
        layer.set_use_memory_efficient_attention_xformers(True)


def has_backends(denoiser: Any) -> bool:
    """True where attention is sent to a backend that can be named."""
    return any(hasattr(getattr(part, "processor", None), "_attention_backend") for part in denoiser.modules())


def softmax_layers(denoiser: Any) -> list[Any]:
    """The attention layers whose processor xformers can replace."""
    return [part for part in denoiser.modules() if type(getattr(part, "processor", None)).__name__ in SOFTMAX]


def dispatch(denoiser: Any, backend: str) -> None:
    """Name the backend of one denoiser alone: diffusers would make it the default of the whole process besides."""
    with quiet(), attention_backend("native"):  # on leaving it, the process's default is what it was before
        denoiser.set_attention_backend(backend)
