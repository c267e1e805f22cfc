"""Small checkpoints of HPSv2 and ImageReward in the authors' layouts, computed instead of stored, and what the authors' code makes of them.

The expected scores in ``data/rewards_small.json`` are those of the packages ``hpsv2x`` 1.2.0 and ``image-reward`` 1.5, never of our own
code. To compute them again, run this file with an interpreter that has both (``refine.evals.official.official_environment``):

    PYTHON tests/small_rewards.py > tests/data/rewards_small.json
"""

from __future__ import annotations

import json
import os
import runpy
import tempfile
import zlib
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

HEADS = {"vision_heads": 2, "text_heads": 2}
PROMPTS = ["a red cube left of a small cone", "two HORNS &amp; a “cat” — café", "b " * 90]
SIZES = ((300, 200), (224, 224), (97, 351), (512, 640))  # width, height
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghij",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
    "red",
    "cat",
    "two",
    "of",
]
VISION, TEXT, LAYERS, OUT, PATCH, SIDE = 24, 16, 2, 12, 14, 56
SMALL_VIT = {"width": 32, "depth": 2, "heads": 4}  # the published one is 1024, 24, 16
MED = {
    "architectures": ["BertModel"], "hidden_act": "gelu", "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 64,
    "layer_norm_eps": 1e-12, "max_position_embeddings": 64, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 1,
    "pad_token_id": 0, "type_vocab_size": 2, "vocab_size": len(WORDS) + 2, "encoder_width": 768, "add_cross_attention": True,
}  # fmt: skip


def noise(name: str, count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``count`` numbers in [-1, 1) that depend on the name alone: SplitMix64, the same on any machine."""
    with np.errstate(over="ignore"):
        x = (np.arange(count, dtype=np.uint64) + np.uint64(zlib.crc32(name.encode()) << 20)) * np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (x >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def weights(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers of a size at which signals neither die nor explode; norms around 1."""
    values = noise(name, int(np.prod(shape))).reshape(shape)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 25
    if len(shape) == 1 and name.endswith("weight"):
        return torch.tensor(1 + 0.2 * values, dtype=torch.float32)
    return torch.tensor(values * (3 / fan_in) ** 0.5 * (4 if "embedding" in name else 1), dtype=torch.float32)


def hps_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "visual.class_embedding": (VISION,), "visual.positional_embedding": ((SIDE // PATCH) ** 2 + 1, VISION),
        "visual.conv1.weight": (VISION, 3, PATCH, PATCH), "visual.proj": (VISION, OUT), "positional_embedding": (77, TEXT),
        "text_projection": (TEXT, OUT), "token_embedding.weight": (49408, TEXT), "logit_scale": (),
    }  # fmt: skip
    for key, width in (("visual.ln_pre", VISION), ("visual.ln_post", VISION), ("ln_final", TEXT)):
        shapes |= {f"{key}.weight": (width,), f"{key}.bias": (width,)}
    for tower, width in (("visual.transformer", VISION), ("transformer", TEXT)):
        for k in range(LAYERS):
            block = f"{tower}.resblocks.{k}."
            shapes |= {block + "attn.in_proj_weight": (3 * width, width), block + "attn.in_proj_bias": (3 * width,)}
            for part, out, into in (("attn.out_proj", width, width), ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width)):
                shapes |= {f"{block}{part}.weight": (out, into), f"{block}{part}.bias": (out,)}
            shapes |= {f"{block}{norm}.{kind}": (width,) for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}
    return shapes


def reward_shapes() -> dict[str, tuple[int, ...]]:
    vision, text, width, wide = "blip.visual_encoder.", "blip.text_encoder.", SMALL_VIT["width"], 768
    pairs: dict[str, tuple[int, ...]] = {vision + "patch_embed.proj": (width, 3, 16, 16), vision + "norm": (width,)}
    for k in range(SMALL_VIT["depth"]):
        block = f"{vision}blocks.{k}."
        pairs |= {block + "norm1": (width,), block + "norm2": (width,), block + "attn.qkv": (3 * width, width)}
        pairs |= {block + "attn.proj": (width, width), block + "mlp.fc1": (4 * width, width), block + "mlp.fc2": (width, 4 * width)}
    layer = text + "encoder.layer.0."
    for part, source in (("attention", wide), ("crossattention", width)):
        pairs |= {f"{layer}{part}.self.{one}": (wide, wide if one == "query" else source) for one in ("query", "key", "value")}
        pairs |= {f"{layer}{part}.output.dense": (wide, wide), f"{layer}{part}.output.LayerNorm": (wide,)}
    pairs |= {layer + "intermediate.dense": (64, wide), layer + "output.dense": (wide, 64), layer + "output.LayerNorm": (wide,)}
    pairs |= {text + "embeddings.LayerNorm": (wide,), "blip.vision_proj": (256, width), "blip.text_proj": (256, wide)}
    sizes = (wide, 1024, 128, 64, 16, 1)
    pairs |= {f"mlp.layers.{k}": (sizes[i + 1], sizes[i]) for i, k in enumerate((0, 2, 4, 6, 7))}
    shapes = {f"{key}.{kind}": (shape if kind == "weight" else shape[:1]) for key, shape in pairs.items() for kind in ("weight", "bias")}
    tables = {"word_embeddings": (len(WORDS) + 2, wide), "position_embeddings": (64, wide)}
    shapes |= {f"{text}embeddings.{key}.weight": shape for key, shape in tables.items()}
    return shapes | {vision + "cls_token": (1, 1, width), vision + "pos_embed": (1, 197, width)}


def write(folder: Path) -> None:
    """Both checkpoints, with what belongs to them, under the names that the hub has."""
    hps = {name: weights(name, shape) for name, shape in hps_shapes().items()}
    torch.save({"state_dict": {name: one.half() for name, one in hps.items()}}, folder / "HPS_v2.1_compressed.pt")
    reward = {name: weights(name, shape) for name, shape in reward_shapes().items()}
    reward["blip.text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    torch.save(reward, folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(MED))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")


def pictures() -> list[PIL.Image.Image]:
    """Noise over a gradient: every frequency, so that a wrong filter or a shifted crop shows."""
    made = []
    for k, (width, height) in enumerate(SIZES):
        grain = noise(f"picture {k}", width * height * 3).reshape(height, width, 3) * 60
        ramp = np.linspace(40, 200, width)[None, :, None] + np.linspace(-30, 30, height)[:, None, None] * [1, -1, 0]
        made.append(PIL.Image.fromarray(np.clip(np.round(ramp + grain), 0, 255).astype(np.uint8)))
    return made


def by_the_authors() -> dict[str, Any]:
    """Scores [prompt][image] by the original packages. Here, and only here, two of their fixed choices are replaced: ImageReward's ViT-L by
    one of ``SMALL_VIT``'s size, and, for the protocol ``legacy``, torchvision's default of antialiasing by that before 0.17."""
    import hpsv2.src.open_clip.transform as hps_transform
    import ImageReward
    from ImageReward.models.BLIP import blip_pretrain
    from ImageReward.models.BLIP.vit import VisionTransformer

    file = Path(__file__).resolve().parent.parent / "evals" / "official_worker.py"
    worker = runpy.run_path(str(file))  # by its path: its folder's other modules must not be found under their short names
    hps, imagereward = worker["hps"], worker["imagereward"]

    def small_vit(vit: str, image_size: int, *rest: object) -> tuple[Any, int]:
        width = SMALL_VIT["width"]
        made = VisionTransformer(image_size, 16, embed_dim=width, depth=SMALL_VIT["depth"], num_heads=SMALL_VIT["heads"])
        return made, width

    blip_pretrain.create_vit = small_vit
    assert ImageReward.__file__
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder)
        options: dict[str, Any] = {"checkpoint": {"path": str(folder / "HPS_v2.1_compressed.pt")}, "version": "v2.1", **HEADS}
        found["hps"] = table(hps(options, "cpu")[0])
        plain, hps_transform.F.resize = hps_transform.F.resize, partial(hps_transform.F.resize, antialias=False)
        found["hps legacy"] = table(hps(options, "cpu")[0])
        hps_transform.F.resize = plain
        options = {"checkpoint": {"path": str(folder / "ImageReward.pt")}, "vocabulary": str(folder / "vocab.txt")}
        found["imagereward"] = table(imagereward(options, "cpu")[0])
    return found


def table(score: Any) -> list[list[float]]:
    return [score(pictures(), [prompt] * len(SIZES)) for prompt in PROMPTS]


if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the packages print
    answers.write(json.dumps(by_the_authors(), indent=1) + "\n")
    answers.close()
