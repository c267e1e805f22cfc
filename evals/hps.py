"""HPSv2 and HPSv2.1 (Wu et al. 2023, arXiv 2306.09341) on transformers' ``CLIPModel``.

The score is the cosine of image and text features, without the logit scale; published tables are 100 times it. Scores compare
images of one prompt, within one version and one resize protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from refine.errors import UnknownName
from refine.evals.batching import TextCache, check_pairs, in_batches
from refine.evals.checkpoints import count_layers, load_strict, locate, need, precision, read_state, unfilled
from refine.evals.clip_text import clean, openai_tokenizer, token_ids
from refine.evals.preprocess import letterbox, square_side
from refine.types import Image

Version = Literal["v2.0", "v2.1"]
FILES: Mapping[str, str] = {"v2.0": "HPS_v2_compressed.pt", "v2.1": "HPS_v2.1_compressed.pt"}
WHAT = "an HPSv2 checkpoint (open_clip layout)"

_PLACES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_PREFIXES = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "ln_final.": "text_model.final_layer_norm.",
}
_PARTS = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


class HPSv2:
    """A ``Reward``: how much people would like each image for its prompt. Higher is better; real scores lie around 0.2 to 0.35."""

    def __init__(
        self,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        *,
        name: str = "hps",
        version: Version = "v2.1",
        antialias: bool = True,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
    ) -> None:
        self.name, self.version, self.antialias, self.batch_size = name, version, antialias, batch_size
        nn.Module.to(model, device=device, dtype=precision(dtype))
        self.model = model.train(False).requires_grad_(False)
        self.tokenizer = tokenizer
        self.side = square_side(model.vision_model.config)
        self._texts = TextCache(self._encode_texts, batch_size)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "xswu/HPSv2",
        *,
        version: Version = "v2.1",
        name: str = "hps",
        antialias: bool = True,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        local_files_only: bool = False,
        vision_heads: int | None = None,
        text_heads: int | None = None,
    ) -> HPSv2:
        """From the published ``.pt`` (or the same tensors as safetensors), a ``CLIPModel`` folder with its tokenizer, an embedded model
        (``mini:hps``), or a hub id.

        Head counts are not in an original checkpoint: by default 16 each, as in ViT-H/14.
        """
        if version not in FILES:
            raise UnknownName("HPS version", version, FILES)
        path = locate(source, FILES[version], local_files_only=local_files_only)
        if path.is_dir():
            model = CLIPModel.from_pretrained(path, dtype=torch.float32, local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(path, local_files_only=True)
        else:
            model, tokenizer = clip_from_state(read_state(path), vision_heads or 16, text_heads or 16), openai_tokenizer()
        return cls(
            model, tokenizer, name=name, version=version, antialias=antialias, batch_size=batch_size, device=device, dtype=dtype
        )

    @property
    def protocol(self) -> dict[str, str | int | float | bool]:
        """Everything besides the weights that moves the numbers; stored with every result."""
        return {
            "model": "HPSv2",
            "version": self.version,
            "scale": 1.0,
            "side": self.side,
            "resize": "letterbox bicubic",
            "resize_antialias": "torchvision>=0.17" if self.antialias else "legacy",
            "dtype": str(self.model.dtype).removeprefix("torch."),
        }

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each (image, prompt) pair, in [-1, 1]."""
        check_pairs(images, prompts)
        if not images:
            return []
        return (self.image_features(images) * self.text_features(prompts)).sum(-1).tolist()

    def matrix(self, images: Sequence[Image], prompts: Sequence[str]) -> list[list[float]]:
        """Scores of every image (rows) for every prompt (columns)."""
        if not images or not prompts:
            return [[] for _ in images]
        features, texts = self.image_features(images), self.text_features(prompts)
        return [(row * texts).sum(-1).tolist() for row in features]

    def image_features(self, images: Sequence[Image]) -> Tensor:
        """(B, D) float32 of length 1."""
        return in_batches(self._encode_images, images, self.batch_size)

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """(B, D) float32 of length 1; each cleaned prompt is encoded once."""
        return self._texts([clean(prompt) for prompt in prompts])

    @torch.inference_mode()
    def _encode_images(self, images: Sequence[Image]) -> Tensor:
        pixels = torch.stack([letterbox(image, self.side, self.antialias) for image in images])
        return embed_images(self.model, pixels.to(self.model.device, self.model.dtype))

    @torch.inference_mode()
    def _encode_texts(self, cleaned: Sequence[str]) -> Tensor:
        length = self.model.text_model.config.max_position_embeddings
        return embed_texts(self.model, token_ids(self.tokenizer, cleaned, length).to(self.model.device))


def embed_images(model: CLIPModel, pixels: Tensor) -> Tensor:
    """(B, 3, H, W) normalised pixels to (B, D) float32 unit vectors."""
    features: Tensor = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    return F.normalize(features.float(), dim=-1)


def embed_texts(model: CLIPModel, ids: Tensor) -> Tensor:
    """(B, n) token ids to (B, D) float32 unit vectors."""
    features: Tensor = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    return F.normalize(features.float(), dim=-1)


def clip_from_state(state: Mapping[str, Tensor], vision_heads: int, text_heads: int) -> CLIPModel:
    """A float32 ``CLIPModel`` of the sizes found in an open_clip state dict."""
    config = clip_config(state, vision_heads, text_heads)
    model = unfilled(lambda: CLIPModel(config))
    load_strict(model, {key: value.float() for key, value in rename(state).items()}, WHAT)
    return model


def clip_config(state: Mapping[str, Tensor], vision_heads: int, text_heads: int) -> CLIPConfig:
    """Sizes from tensor shapes; the settings that no tensor shows (exact GELU, epsilon) as published."""
    width, _, patch, _ = need(state, "visual.conv1.weight", WHAT).shape
    tokens = need(state, "visual.positional_embedding", WHAT).shape[0]
    vocabulary, text_width = need(state, "token_embedding.weight", WHAT).shape
    dimension = need(state, "text_projection", WHAT).shape[1]
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=need(state, "visual.transformer.resblocks.0.mlp.c_fc.weight", WHAT).shape[0],
        num_hidden_layers=count_layers(state, "visual.transformer.resblocks."),
        num_attention_heads=vision_heads,
        image_size=round((tokens - 1) ** 0.5) * patch,
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        projection_dim=dimension,
    )
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=text_width,
        intermediate_size=need(state, "transformer.resblocks.0.mlp.c_fc.weight", WHAT).shape[0],
        num_hidden_layers=count_layers(state, "transformer.resblocks."),
        num_attention_heads=text_heads,
        max_position_embeddings=need(state, "positional_embedding", WHAT).shape[0],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=0,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        projection_dim=dimension,
    )
    return CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=dimension)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip names to ``CLIPModel`` names: fused query, key, value rows are split, the two projections transposed."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        new = _place(key)
        if ".attn.in_proj_" in key:
            stem, kind = new.split(".attn.in_proj_")
            renamed |= {f"{stem}.self_attn.{letter}_proj.{kind}": part for letter, part in zip("qkv", value.chunk(3), strict=True)}
        else:
            renamed[new] = value.T.contiguous() if key in ("visual.proj", "text_projection") else value
    return renamed


def _place(key: str) -> str:
    """The new name of one tensor; an unknown name stays, and is reported when loading."""
    if key in _PLACES:
        return _PLACES[key]
    for old, new in _PREFIXES.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
            break
    for old, new in _PARTS.items():
        key = key.replace(old, new)
    return key
