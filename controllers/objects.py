"""Object detectors of transformers as finders: DETR and its kin with their own classes, OWLv2 and OWL-ViT with any words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING

from refine.controllers.graders import load_pipe
from refine.controllers.vlm import filled
from refine.errors import ConfigError, loading, unknown
from refine.types import Critique, Image, Region


class ObjectFinder:
    """A ``Controller`` that finds things, not faults: the ``finder`` of a ``detector``. Masks are boxes, scores the detector's own.

    pipe: transformers' pipeline ``object-detection`` or ``zero-shot-object-detection``. labels: the classes that count (none: all), or, for
    the zero-shot kind, the words to look for. threshold: the least score.
    """

    def __init__(self, pipe: Any, *, labels: Sequence[str] = (), threshold: float = 0.3) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold is {threshold}; it must be between 0 and 1.")
        self.pipe, self.labels, self.threshold = pipe, tuple(labels), threshold
        self.is_open = pipe.task == "zero-shot-object-detection"
        if self.is_open and not labels:
            raise ConfigError("labels is empty; this detector looks for what it is told, for example [face, hand].")
        known = set() if self.is_open else set(pipe.model.config.id2label.values())
        if wrong := [unknown("label", label, known) for label in labels if not self.is_open and label not in known]:
            raise ConfigError(wrong)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, labels: tuple[str, ...] = (), threshold: float = 0.3, device: str | None = None
    ) -> ObjectFinder:
        """Load a folder or a hub name. Raises CheckpointError and ConfigError."""
        with loading(f"a detector from {str(source)!r}"):
            config = AutoConfig.from_pretrained(source)
        is_open = type(config) in MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING
        pipe = load_pipe("zero-shot-object-detection" if is_open else "object-detection", source, device)
        return cls(pipe, labels=labels, threshold=threshold)

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Critique:
        words = {"candidate_labels": list(self.labels)} if self.is_open else {}
        found = [things(one, image.size) for one in self.pipe(image.convert("RGB"), threshold=self.threshold, **words)]
        regions = tuple(region for region in found if region and (self.is_open or not self.labels or region.phrase in self.labels))
        return Critique(image.size, regions, f"{len(regions)} found.")


def things(found: Mapping[str, Any], size: tuple[int, int]) -> Region | None:
    """A detection as a region, cut at the border; None where nothing of it is inside. ``size`` is (width, height)."""
    box = found["box"]
    x0, y0 = max(0, math.floor(box["xmin"])), max(0, math.floor(box["ymin"]))
    x1, y1 = min(size[0], math.ceil(box["xmax"])), min(size[1], math.ceil(box["ymax"]))
    return Region(filled((x0, y0, x1, y1), size), found["label"], score=found["score"]) if x0 < x1 and y0 < y1 else None
