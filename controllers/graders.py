"""Good or bad: what tells a faulty face or hand from a healthy one, on a crop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import pipeline

from refine.errors import ConfigError, loading
from refine.types import Image, Reward

THING = "{thing}"


class ClipGrader:
    """A ``Grader``: which of two sets of texts a crop is nearer to, by a model of the CLIP or SigLIP kind.

    good and bad: texts with ``{thing}`` where the finder's phrase goes. The grade is the bad texts' share of all probabilities.
    pipe: transformers' pipeline ``zero-shot-image-classification``. Zero-shot grades are rough: try your texts on images you know.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        good: Sequence[str] = ("a photo of a normal, well-formed {thing}",),
        bad: Sequence[str] = ("a photo of a deformed, distorted {thing}",),
        batch_size: int = 16,
    ) -> None:
        if not good or not bad or set(good) & set(bad):
            raise ConfigError(f"good is {list(good)} and bad is {list(bad)}; each needs a text that the other has not.")
        self.pipe, self.good, self.bad, self.batch_size = pipe, tuple(good), tuple(bad), batch_size

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "openai/clip-vit-large-patch14",
        *,
        good: tuple[str, ...] = ("a photo of a normal, well-formed {thing}",),
        bad: tuple[str, ...] = ("a photo of a deformed, distorted {thing}",),
        batch_size: int = 16,
        device: str | None = None,
    ) -> ClipGrader:
        """Load a folder or a hub name. Raises CheckpointError."""
        return cls(load_pipe("zero-shot-image-classification", source, device), good=good, bad=bad, batch_size=batch_size)

    def grade(self, crops: Sequence[Image], phrases: Sequence[str]) -> list[float]:
        """Crops of one phrase share a call."""
        grades: dict[int, float] = {}
        for phrase in dict.fromkeys(phrases):
            these = [index for index, other in enumerate(phrases) if other == phrase]
            bad = {text.replace(THING, phrase) for text in self.bad}
            texts = [text.replace(THING, phrase) for text in (*self.good, *self.bad)]
            answers = self.pipe(
                [crops[i] for i in these], candidate_labels=texts, hypothesis_template="{}", batch_size=self.batch_size
            )  # fmt: skip
            grades |= {index: share(answer, bad) for index, answer in zip(these, answers, strict=True)}
        return [grades[index] for index in range(len(crops))]


def share(answer: Sequence[Mapping[str, Any]], bad: set[str]) -> float:
    """The bad texts' part of all probabilities (SigLIP's do not add up to 1)."""
    total = math.fsum(one["score"] for one in answer)
    return math.fsum(one["score"] for one in answer if one["label"] in bad) / total if total else 0.5


class RewardGrader:
    """A ``Grader`` from a preference reward: the crop's reward under ``middle`` counts as faulty.

    The grade is 1 / (1 + exp((reward - middle) / scale)). Both numbers depend on the reward and the things: take them from the rewards of
    crops you know. prompt: what the reward reads with the crop.
    """

    def __init__(self, reward: Reward, *, middle: float, scale: float, prompt: str = "a photo of a {thing}, high quality") -> None:
        if scale <= 0:
            raise ConfigError(f"scale is {scale}; it must be above 0 (how far from the middle a reward has the grade 0.73 or 0.27).")
        self.reward, self.middle, self.scale, self.prompt = reward, middle, scale, prompt

    def grade(self, crops: Sequence[Image], phrases: Sequence[str]) -> list[float]:
        scores = self.reward.score(crops, [self.prompt.replace(THING, phrase) for phrase in phrases])
        return [0.5 - 0.5 * math.tanh((score - self.middle) / (2 * self.scale)) for score in scores]


def load_pipe(task: str, source: str | Path, device: str | None) -> Any:
    """A pipeline of transformers. device None: the accelerator where there is one. Raises CheckpointError."""
    where = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
    with loading(f"a model for {task} from {str(source)!r}"):
        return pipeline(task, model=str(source), device=where)
