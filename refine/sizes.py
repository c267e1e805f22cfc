"""How large the published models are: weights counted on the meta device, before anything is downloaded.

Each number comes from building the architecture without memory, in the sizes that its authors publish, and counting its state dict:
``python -m benchmarks.architectures`` does it again and says where they differ. ``stored`` is the bytes per weight of the files a preset
downloads, as their repository holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Bytes of a quantized weight: 4bit is NF4 with a float32 scale for every 64 of them (bitsandbytes; Dettmers et al. 2023, section 3).
SHRUNK: Mapping[str, float] = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
BYTES: Mapping[str, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
GB = 1e9


@dataclass(frozen=True, slots=True)
class Part:
    """One network of a repository: millions of numbers in its state dict (fixed tables too, as they are stored), bytes each on the hub.

    linear: millions of them that ``quantize`` shrinks; 0 where it leaves the network alone.
    """

    name: str
    millions: float
    stored: int = 2
    linear: float = 0.0


SD15_UNET = Part("sd15-unet", 859.52, linear=270.05)
CLIP_L = Part("clip-l", 123.06)
CLIP_L_PROJECTED = Part("clip-l-projected", 123.65)
CLIP_G = Part("clip-g", 694.66)
T5_XXL = Part("t5-xxl", 4762.31, linear=3623.88)
SD_VAE = Part("sd-vae", 83.65)
FLAT_VAE = Part("flat-vae", 83.82)
SDXL = (Part("sdxl-unet", 2567.46, linear=2232.65), CLIP_L, CLIP_G, SD_VAE)
QWEN_VL = Part("qwen2.5-vl-7b", 8292.17, linear=7199.82)
FLUX_READERS = (CLIP_L, T5_XXL, FLAT_VAE)

# Repository → its networks, by their names in benchmarks/architectures.py.
TABLE: Mapping[str, tuple[Part, ...]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": (SD15_UNET, CLIP_L, SD_VAE, Part("safety-checker", 303.98)),
    "stabilityai/stable-diffusion-xl-base-1.0": SDXL,
    "stabilityai/sdxl-turbo": SDXL,
    "stabilityai/stable-diffusion-3.5-medium": (Part("sd35-medium", 2469.66, linear=2241.82), CLIP_L_PROJECTED, CLIP_G, T5_XXL, FLAT_VAE),
    "black-forest-labs/FLUX.1-dev": (Part("flux", 11901.41, linear=11898.32), *FLUX_READERS),
    "black-forest-labs/FLUX.1-schnell": (Part("flux-schnell", 11891.18, linear=11888.10), *FLUX_READERS),
    "black-forest-labs/FLUX.1-Fill-dev": (Part("flux-fill", 11902.39, linear=11899.31), *FLUX_READERS),
    "Qwen/Qwen-Image": (Part("qwen-image", 20430.40, linear=20424.82), QWEN_VL, Part("qwen-vae", 126.89)),
    # The language model and the towers; a published file also holds what its training left behind (see its preset's cost).
    "fanqiNO1/LEGION-8B-replicate": (Part("legion", 7721.90, linear=6476.01),),
    "khr0516/legion_LE": (Part("legion", 7721.90, linear=6476.01),),
    "openai/clip-vit-large-patch14-336": (Part("clip-l-336", 427.94, 4),),
    "Qwen/Qwen2.5-VL-7B-Instruct": (QWEN_VL,),
    "Qwen/Qwen2.5-7B-Instruct": (Part("qwen2.5-7b", 7615.62),),
    "facebook/sam-vit-huge": (Part("sam-huge", 641.09, 4),),
    "facebook/sam-vit-base": (Part("sam-base", 93.74, 4),),
    "google/owlv2-base-patch16-ensemble": (Part("owlv2-base", 154.97, 4),),
    "openai/clip-vit-large-patch14": (Part("clip-l-224", 427.62, 4),),
    "xswu/HPSv2": (Part("hps", 986.11),),
    "yuvalkirstain/PickScore_v1": (Part("hps", 986.11, 4),),  # the same CLIP ViT-H/14
    "trl-lib/ddpo-aesthetic-predictor": (Part("aesthetic-head", 0.93, 4),),
    "THUDM/ImageReward": (Part("imagereward", 446.21, 4),),
    "bert-base-uncased": (),  # its vocabulary alone: 0.2 MB
}


def weights(repo: str) -> float | None:
    """Gigabytes of weights that a repository's preset downloads; None where the table does not know it."""
    return sum(part.millions * 1e6 * part.stored for part in TABLE[repo]) / GB if repo in TABLE else None


def millions() -> dict[str, float]:
    """Millions of weights by architecture."""
    return {part.name: part.millions for parts in TABLE.values() for part in parts}


def linear() -> dict[str, float]:
    """Millions of weights that quantizing shrinks, by architecture."""
    return {part.name: part.linear for parts in TABLE.values() for part in parts if part.linear}


def loaded(parts: Iterable[Part], dtype: str | None, quantize: str | None = None) -> list[float]:
    """Gigabytes of each part in memory, in a precision (None: as stored), its linear layers in "8bit" or "4bit" where asked for."""
    shrunk = SHRUNK.get(quantize or "")
    total = []
    for part in parts:
        width = BYTES[dtype] if dtype else part.stored
        saved = 0.0 if shrunk is None else part.linear * (width - shrunk)
        total.append((part.millions * width - saved) * 1e6 / GB)
    return total
