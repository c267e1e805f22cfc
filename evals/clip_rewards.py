"""Scores that are one formula over a published CLIP: PickScore, CLIPScore and the LAION aesthetic predictor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from refine.errors import UnknownName
from refine.evals.checkpoints import load_strict, locate, read_state
from refine.evals.checks import check_pairs
from refine.evals.clip import Read, See, Towers, load_clip
from refine.evals.clip_text import as_written, clean, original
from refine.evals.preprocess import centre_crop, clip_crop
from refine.types import Image

Protocol = dict[str, str | int | float | bool]


class PickScore:
    """A ``Reward``: PickScore v1 (Kirstain et al. 2023, arXiv 2305.01569), exp(logit scale) × cosine. Real scores lie around 20 to 23.

    The prompt is tokenized as it is, as the authors' code does: no mending of mojibake or HTML.
    """

    def __init__(self, towers: Towers, *, name: str = "pickscore") -> None:
        self.towers, self.name = towers, name
        self.scale = float(towers.model.logit_scale.float().exp())

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "yuvalkirstain/PickScore_v1",
        *,
        name: str = "pickscore",
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        local_files_only: bool = False,
    ) -> PickScore:
        """From a ``CLIPModel`` folder or hub repository."""
        model, words = load_clip(source, "a PickScore checkpoint", act="gelu", local_files_only=local_files_only)
        return cls(Towers(model, words, clip_crop, as_written, batch_size=batch_size, device=device, dtype=dtype), name=name)

    @property
    def protocol(self) -> Protocol:
        """Everything besides the weights that moves the numbers; stored with every result."""
        return {"model": "PickScore", "version": "v1", "scale": self.scale, **_seen(self.towers)}

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each (image, prompt) pair."""
        return [self.scale * one for one in cosines(self.towers, images, prompts)]


@dataclass(frozen=True, slots=True)
class Formula:
    """``factor`` × cosine, not below ``floor``, of the image and ``prefix`` + prompt; crop and text as in the code that it comes from."""

    factor: float
    floor: float
    prefix: str
    see: See
    read: Read


FORMULAS: Mapping[str, Formula] = {
    "torchmetrics": Formula(100.0, -100.0, "", clip_crop, as_written),
    "hessel": Formula(2.5, 0.0, "A photo depicts ", centre_crop, clean),
    "cosine": Formula(1.0, -1.0, "", centre_crop, clean),
}


class CLIPScore:
    """A ``Reward``: how well image and text fit, by a CLIP. One name for several scales, so the formula is named too:

    torchmetrics  100 × cosine (its average over images is cut at 0, a single score is not)
    hessel        2.5 × max(cosine, 0) with "A photo depicts " before the text (Hessel et al. 2021, arXiv 2104.08718)
    cosine        the bare cosine, as ImageReward's tables have it
    """

    def __init__(self, towers: Towers, *, name: str = "clipscore", formula: str, backbone: str) -> None:
        self.towers, self.name, self.formula, self.backbone = towers, name, formula, backbone

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "openai/clip-vit-large-patch14",
        *,
        name: str = "clipscore",
        formula: Literal["torchmetrics", "hessel", "cosine"] = "torchmetrics",
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        local_files_only: bool = False,
    ) -> CLIPScore:
        """From any ``CLIPModel`` folder or hub repository. Hessel's own numbers are from ``openai/clip-vit-base-patch32``."""
        if formula not in FORMULAS:
            raise UnknownName("CLIPScore formula", formula, FORMULAS)
        model, words = load_clip(source, "a CLIP checkpoint", local_files_only=local_files_only)
        rule = FORMULAS[formula]
        words = original(words) if rule.read is clean else words
        towers = Towers(model, words, rule.see, rule.read, batch_size=batch_size, device=device, dtype=dtype)
        return cls(towers, name=name, formula=formula, backbone=Path(source).name)

    @property
    def protocol(self) -> Protocol:
        """Everything besides the weights that moves the numbers; stored with every result."""
        scale = FORMULAS[self.formula].factor
        return {"model": "CLIPScore", "version": self.backbone, "formula": self.formula, "scale": scale, **_seen(self.towers)}

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each (image, prompt) pair."""
        check_pairs(images, prompts)
        rule = FORMULAS[self.formula]
        texts = [rule.prefix + prompt for prompt in prompts]
        return [max(rule.floor, rule.factor * one) for one in cosines(self.towers, images, texts)]


class Aesthetic:
    """A ``Reward``: the LAION aesthetic predictor v2, about 1 to 10. It looks at the image alone; prompts are not read.

    Linear layers 768-1024-128-64-16-1 without activations on the unit image vector of OpenAI's ViT-L/14. Two heads are in circulation,
    ``sac+logos+ava1-l14-linearMSE`` (most papers) and ``ava+logos-l14-linearMSE``: their scores must not be compared.
    """

    def __init__(self, towers: Towers, head: nn.Sequential, *, name: str = "aesthetic", version: str = "") -> None:
        self.towers, self.name, self.version = towers, name, version
        self.head = head.to(towers.model.device).float().eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "openai/clip-vit-large-patch14",
        *,
        head: str | Path = "trl-lib/ddpo-aesthetic-predictor",
        name: str = "aesthetic",
        batch_size: int = 16,
        device: str | torch.device = "cpu",
        dtype: str | torch.dtype = "float32",
        local_files_only: bool = False,
    ) -> Aesthetic:
        """``source``: a ``CLIPModel`` folder or hub repository. ``head``: a ``.pth`` file with ``layers.0.weight`` and so on, or a hub
        repository that holds it as ``aesthetic-model.pth``."""
        model, words = load_clip(source, "a CLIP checkpoint", local_files_only=local_files_only)
        file = locate(head, HEAD_FILE, local_files_only=local_files_only)
        layers = linear_probe(model.config.projection_dim)
        load_strict(nn.ModuleDict({"layers": layers}), read_state(file), f"an aesthetic head for {model.config.projection_dim} features")
        towers = Towers(model, words, centre_crop, clean, batch_size=batch_size, device=device, dtype=dtype)
        return cls(towers, layers, name=name, version=Path(head).name)

    @property
    def protocol(self) -> Protocol:
        """Everything besides the weights that moves the numbers; stored with every result."""
        return {"model": "LAION aesthetic predictor v2", "version": self.version, "scale": 1.0, **_seen(self.towers)}

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        """One score for each image."""
        check_pairs(images, prompts)
        return self._judge(self.towers.images(images)).tolist() if images else []

    @torch.inference_mode()
    def _judge(self, features: Tensor) -> Tensor:
        """(B, D) unit vectors to (B,) scores."""
        scores: Tensor = self.head(features)
        return scores.squeeze(-1)


HEAD_FILE = "aesthetic-model.pth"


def linear_probe(width: int) -> nn.Sequential:
    """The head's layers, ImageReward's too; the numbering 0, 2, 4, 6, 7 is the checkpoints' (dropout acts in training only)."""
    return nn.Sequential(
        *(nn.Linear(width, 1024), nn.Dropout(0.2)),
        *(nn.Linear(1024, 128), nn.Dropout(0.2)),
        *(nn.Linear(128, 64), nn.Dropout(0.1)),
        *(nn.Linear(64, 16), nn.Linear(16, 1)),
    )


def cosines(towers: Towers, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
    """The cosine of each pair, in float32."""
    check_pairs(images, prompts)
    return (towers.images(images) * towers.texts(prompts)).sum(-1).tolist() if images else []


def _seen(towers: Towers) -> Protocol:
    return {"side": towers.side, "resize": "shortest side bicubic (Pillow), centre crop", "dtype": towers.dtype}
