"""HPSv2 and HPSv2.1 (Wu et al. 2023, arXiv 2306.09341) on transformers' ``CLIPModel``.

The score is the cosine of image and text features, without the logit scale; published tables are 100 times it. Scores compare
images of one prompt, within one version and one resize protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from refine.errors import UnknownName
from refine.evals.backends import HPS_FILES as FILES
from refine.evals.checks import check_pairs
from refine.evals.clip import Towers, load_clip
from refine.evals.clip_text import clean, original
from refine.evals.preprocess import letterbox, resize_protocol
from refine.types import Image

Version = Literal["v2.0", "v2.1"]
WHAT = "an HPSv2 checkpoint"


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
        self.name, self.version, self.antialias = name, version, antialias
        see = partial(letterbox, antialias=antialias)
        self.towers = Towers(model, original(tokenizer), see, clean, batch_size=batch_size, device=device, dtype=dtype)

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
        """From the published ``.pt`` (or the same tensors as safetensors), a ``CLIPModel`` folder, an embedded model (``mini:hps``), or a
        hub id with either layout.

        ``antialias``: False resizes as torchvision did up to 0.16 (training and published tables), True as it does since; scores of the
        two must not be compared. Head counts are not in an original checkpoint: by default 16 each, as in ViT-H/14.
        """
        if version not in FILES:
            raise UnknownName("HPS version", version, FILES)
        heads = {"vision_heads": vision_heads or 16, "text_heads": text_heads or 16}
        model, tokenizer = load_clip(source, WHAT, filename=FILES[version], act="gelu", local_files_only=local_files_only, **heads)
        return cls(model, tokenizer, name=name, version=version, antialias=antialias, batch_size=batch_size, device=device, dtype=dtype)

    @property
    def protocol(self) -> dict[str, str | int | float | bool]:
        """Everything besides the weights that moves the numbers; stored with every result."""
        return {
            "model": "HPSv2",
            "version": self.version,
            "scale": 1.0,
            "side": self.towers.side,
            "resize": "letterbox bicubic",
            "resize_antialias": resize_protocol(self.antialias),
            "dtype": self.towers.dtype,
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
        return self.towers.images(images)

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        """(B, D) float32 of length 1; each cleaned prompt is encoded once."""
        return self.towers.texts(prompts)
