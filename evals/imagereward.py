"""ImageReward-v1.0 (Xu et al. 2023, arXiv 2304.05977) on transformers' BLIP towers.

The text reads the image by cross-attention; the state of [CLS] goes through a head of five linear layers without activations.
The score is standardised by the mean and deviation that the authors measured: about 0 on average, mostly within [-2, 2].
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import BertTokenizer, BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

from refine.errors import CheckpointError
from refine.evals.backends import IMAGEREWARD_FILE as FILE
from refine.evals.backends import vocabulary
from refine.evals.batching import FeatureCache, content, in_batches
from refine.evals.checkpoints import count_layers, download, load_strict, locate, need, precision, read_state, unfilled
from refine.evals.checks import check_pairs
from refine.evals.clip_rewards import linear_probe
from refine.evals.preprocess import centre_crop, square_side
from refine.types import Image

WHAT = "an ImageReward checkpoint"
MEAN, STD = 0.16717362830052426, 1.0333394966054072
LENGTH = 35
IMAGES = 32  # images whose tokens are remembered: 0.8 MB each at the published size

_VISION = {
    "cls_token": "embeddings.class_embedding",
    "pos_embed": "embeddings.position_embedding",
    "patch_embed.proj.": "embeddings.patch_embedding.",
    "blocks.": "encoder.layers.",
    "norm.": "post_layernorm.",
}
_BLOCK = {".norm1.": ".layer_norm1.", ".norm2.": ".layer_norm2.", ".attn.qkv.": ".self_attn.qkv.", ".attn.proj.": ".self_attn.projection."}


@dataclass(frozen=True, slots=True)
class Standard:
    """How the raw head output becomes the score: (raw - mean) / std. ``length`` is the number of text tokens read."""

    mean: float = MEAN
    std: float = STD
    length: int = LENGTH


class ImageRewardModel(nn.Module):
    """The vision tower, the text tower with cross-attention, and the head."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig) -> None:
        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        self.mlp = nn.ModuleDict({"layers": linear_probe(text.hidden_size)})

    def forward(self, image_tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, n, V) image tokens, (B, L) token ids and padding mask to (B,) raw scores."""
        return self.judge(self.read(image_tokens, ids, mask))

    def read(self, image_tokens: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, L, T) states of the text after it has read the image."""
        seen = torch.ones(image_tokens.shape[:2], dtype=torch.long, device=image_tokens.device)
        out = self.text(input_ids=ids, attention_mask=mask, encoder_hidden_states=image_tokens, encoder_attention_mask=seen)
        states: Tensor = out.last_hidden_state
        return states

    def judge(self, states: Tensor) -> Tensor:
        """(B,) raw scores from the states of [CLS], always in float32."""
        with torch.autocast(states.device.type, enabled=False):
            raw: Tensor = self.mlp["layers"](states[:, 0].float())
        return raw.squeeze(-1)

    def see(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) normalised pixels to (B, n, V) image tokens."""
        tokens: Tensor = self.vision(pixel_values=pixels).last_hidden_state
        return tokens

    @property
    def dtype(self) -> torch.dtype:
        weight: Tensor = next(self.vision.parameters())
        return weight.dtype

    @property
    def device(self) -> torch.device:
        weight: Tensor = next(self.vision.parameters())
        return weight.device


class ImageReward:
    """A ``Reward``: the standardised ImageReward score, unbounded, higher is better."""

    def __init__(
        self,
        model: ImageRewardModel,
        tokenizer: BertTokenizer,
        *,
        name: str = "imagereward",
        standard: Standard | None = None,
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
    ) -> None:
        self.name, self.standard, self.batch_size = name, standard or Standard(), batch_size
        self.model = model.to(device=device, dtype=precision(dtype)).eval().requires_grad_(False)
        self.model.mlp.float()
        self.tokenizer = tokenizer
        self.side = square_side(model.vision.config)
        self.known_images: FeatureCache[Image] = FeatureCache(self._see, content, batch_size, IMAGES)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "THUDM/ImageReward",
        *,
        name: str = "imagereward",
        tokenizer: str | Path = "bert-base-uncased",
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        local_files_only: bool = False,
        vision_heads: int | None = None,
        text_heads: int | None = None,
    ) -> ImageReward:
        """From the published ``ImageReward.pt`` (or safetensors), a folder written by :func:`save`, an embedded
        model (``mini:imagereward``), or a hub id.

        ``tokenizer`` (a vocab.txt, a folder or a hub id) is read for original checkpoints only. Head counts are not in them: by
        default 16 (ViT-L) and 12 (BERT base).
        """
        path = locate(source, FILE, local_files_only=local_files_only)
        if path.is_dir():
            model, standard = load(path)
            words = bert_tokenizer(path, local_files_only=True)
        else:
            model, standard = from_state(read_state(path), vision_heads or 16, text_heads or 12), Standard()
            words = bert_tokenizer(tokenizer, local_files_only=local_files_only)
        return cls(model, words, name=name, standard=standard, batch_size=batch_size, device=device, dtype=dtype)

    @property
    def protocol(self) -> dict[str, str | int | float | bool]:
        """Everything besides the weights that moves the numbers; stored with every result."""
        return {
            "model": "ImageReward",
            "version": "v1.0",
            "scale": 1.0,
            "side": self.side,
            "resize": "shortest side bicubic (Pillow), centre crop",
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **asdict(self.standard),
        }

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each (image, prompt) pair."""
        check_pairs(images, prompts)
        pairs = list(zip(images, prompts, strict=True))
        return in_batches(self._score_pairs, pairs, self.batch_size).tolist() if pairs else []

    def matrix(self, images: Sequence[Image], prompts: Sequence[str]) -> list[list[float]]:
        """Scores of every image (rows) for every prompt (columns); each image is encoded once."""
        if not prompts:
            return [[] for _ in images]
        return [self._score_prompts(self.known_images([image]), prompts) for image in images]

    def _score_pairs(self, pairs: Sequence[tuple[Image, str]]) -> Tensor:
        return self._judge(self.known_images([image for image, _ in pairs]), [prompt for _, prompt in pairs])

    def _score_prompts(self, seen: Tensor, prompts: Sequence[str]) -> list[float]:
        """Scores of one image's tokens (1, n, V) for many prompts."""
        scores = in_batches(lambda some: self._judge(seen.expand(len(some), -1, -1), some), prompts, self.batch_size)
        return [float(score) for score in scores]

    @torch.inference_mode()
    def _see(self, images: Sequence[Image]) -> Tensor:
        """(B, n, V) image tokens."""
        pixels = torch.stack([centre_crop(image, self.side) for image in images])
        return self.model.see(pixels.to(self.model.device, self.model.dtype))

    @torch.inference_mode()
    def _judge(self, image_tokens: Tensor, prompts: Sequence[str]) -> Tensor:
        """(B,) standardised scores."""
        ids, mask = token_ids(self.tokenizer, prompts, self.standard.length)
        raw: Tensor = self.model(image_tokens, ids.to(self.model.device), mask.to(self.model.device))
        return (raw - self.standard.mean) / self.standard.std


def token_ids(tokenizer: BertTokenizer, prompts: Sequence[str], length: int = LENGTH) -> tuple[Tensor, Tensor]:
    """(B, L) ids and mask, L <= ``length``: [CLS] text [SEP], longer texts are cut. The prompt is taken as it is."""
    batch = tokenizer(list(prompts), padding="longest", truncation=True, max_length=length, return_tensors="pt")
    return batch["input_ids"], batch["attention_mask"]


def bert_tokenizer(source: str | Path, *, local_files_only: bool = False) -> BertTokenizer:
    """From a ``vocab.txt`` (or a folder that holds one), or a hub id."""
    file = vocabulary(source) or download(str(source), "vocab.txt", local_files_only=local_files_only)
    return BertTokenizer(vocab={word: k for k, word in enumerate(Path(file).read_text(encoding="utf-8").splitlines())})


def from_state(state: Mapping[str, Tensor], vision_heads: int, text_heads: int) -> ImageRewardModel:
    """A float32 model of the sizes found in an original state dict."""
    vision, text = configs(state, vision_heads, text_heads)
    model = unfilled(lambda: ImageRewardModel(vision, text))
    load_strict(model, {key: value.float() for key, value in rename(state).items()}, WHAT)
    return model


def configs(state: Mapping[str, Tensor], vision_heads: int, text_heads: int) -> tuple[BlipVisionConfig, BlipTextConfig]:
    """Sizes from tensor shapes; the settings that no tensor shows (epsilons, exact GELU) as published."""
    width, _, patch, _ = need(state, "blip.visual_encoder.patch_embed.proj.weight", WHAT, 4).shape
    tokens = need(state, "blip.visual_encoder.pos_embed", WHAT, 3).shape[1]
    vocabulary, text_width = need(state, "blip.text_encoder.embeddings.word_embeddings.weight", WHAT, 2).shape
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=need(state, "blip.visual_encoder.blocks.0.mlp.fc1.weight", WHAT, 2).shape[0],
        num_hidden_layers=count_layers(state, "blip.visual_encoder.blocks."),
        num_attention_heads=vision_heads,
        image_size=round((tokens - 1) ** 0.5) * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    text = BlipTextConfig(
        vocab_size=vocabulary,
        hidden_size=text_width,
        encoder_hidden_size=width,
        intermediate_size=need(state, "blip.text_encoder.encoder.layer.0.intermediate.dense.weight", WHAT, 2).shape[0],
        num_hidden_layers=count_layers(state, "blip.text_encoder.encoder.layer."),
        num_attention_heads=text_heads,
        max_position_embeddings=need(state, "blip.text_encoder.embeddings.position_embeddings.weight", WHAT, 2).shape[0],
        bos_token_id=vocabulary - 2,  # [DEC] and [ENC] follow the plain vocabulary
        is_decoder=True,  # creates the cross-attention layers; the call itself stays bidirectional
    )
    return vision, text


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Original names to ours; the contrastive projections and the position counter are not part of the score."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith("blip.visual_encoder."):
            renamed["vision." + _vision_place(key.removeprefix("blip.visual_encoder."))] = value
        elif key.startswith("blip.text_encoder.") and not key.endswith("position_ids"):
            renamed["text." + key.removeprefix("blip.text_encoder.")] = value
        elif not key.startswith(("blip.vision_proj.", "blip.text_proj.", "blip.text_encoder.")):
            renamed[key] = value
    return renamed


def _vision_place(key: str) -> str:
    for old, new in _VISION.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
            break
    for old, new in _BLOCK.items():
        key = key.replace(old, new)
    return key


def save(folder: Path, model: ImageRewardModel, tokenizer: BertTokenizer, standard: Standard) -> None:
    """``config.json``, ``model.safetensors`` (float16) and ``vocab.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {
        "model_type": "imagereward",
        "standard": asdict(standard),
        "vision_config": model.vision.config.to_diff_dict(),
        "text_config": model.text.config.to_diff_dict(),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    save_file({key: value.half().contiguous() for key, value in model.state_dict().items()}, folder / "model.safetensors", {"format": "pt"})
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(word + "\n" for word, _ in words), encoding="utf-8")


def load(folder: Path) -> tuple[ImageRewardModel, Standard]:
    """What :func:`save` wrote, in float32."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config.get("model_type") != "imagereward":
        raise CheckpointError(f"{folder} holds a model of type {config.get('model_type')!r}; type 'imagereward' is needed.")
    model = unfilled(lambda: ImageRewardModel(BlipVisionConfig(**config["vision_config"]), BlipTextConfig(**config["text_config"])))
    load_strict(model, {key: value.float() for key, value in read_state(folder / "model.safetensors").items()}, WHAT)
    return model, Standard(**config["standard"])
