"""YOLO detectors of the package ultralytics (not installed with refine; AGPL-3.0), the kind that ADetailer's users have.

Their weight files are pickles, which run code when they are loaded: take them from people you trust.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from refine.controllers.vlm import filled
from refine.errors import CheckpointError, ConfigError, MissingDependency, unknown
from refine.types import Critique, Image, Mask, Region


class YoloFinder:
    """A ``Controller`` that finds things, not faults: the ``finder`` of a ``detector``. Masks are outlines, or boxes where it has none.

    model: an ``ultralytics.YOLO`` (or anything that is called like one). labels: the classes that count (none: all). threshold: the
    least score. Raises ConfigError for a label that the model does not know: it would never find anything, and all would seem well.
    """

    def __init__(self, model: Any, *, labels: Sequence[str] = (), threshold: float = 0.3, device: str | None = None) -> None:
        if not 0 <= threshold <= 1:
            raise ConfigError(f"threshold is {threshold}; it must be between 0 and 1.")
        names = getattr(model, "names", None)  # ultralytics' class names by index
        known = set(names.values()) if isinstance(names, Mapping) else set(labels)
        if wrong := [unknown("label", label, known) for label in labels if label not in known]:
            raise ConfigError(wrong)
        self.model, self.labels, self.threshold, self.device = model, tuple(labels), threshold, device

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, labels: tuple[str, ...] = (), threshold: float = 0.3, device: str | None = None
    ) -> YoloFinder:
        """Load a weight file on this machine. Raises MissingDependency and CheckpointError."""
        if not Path(source).expanduser().is_file():
            raise CheckpointError(f"There is no file {source}. Download the detector's weights first and give their path.")
        try:
            from ultralytics import YOLO
        except ImportError as error:
            missing = (error.name or "ultralytics").partition(".")[0]  # it brings torchvision, and does not start without it
            raise MissingDependency(missing, "controller 'yolo'") from error
        return cls(YOLO(str(Path(source).expanduser())), labels=labels, threshold=threshold, device=device)

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Critique:
        [result] = self.model(image.convert("RGB"), conf=self.threshold, device=self.device, retina_masks=True, verbose=False)
        found = [region for region in detections(result, image.size) if not self.labels or region.phrase in self.labels]
        return Critique(image.size, tuple(found), f"{len(found)} found.")


def detections(result: Any, size: tuple[int, int]) -> list[Region]:
    """The regions of one result of ultralytics: ``boxes`` (xyxy, conf, cls), ``names``, and ``masks`` (data) where there are outlines."""
    planes = result.masks.data if result.masks is not None else [None] * len(result.boxes)
    rows = zip(result.boxes.xyxy.tolist(), result.boxes.conf.tolist(), result.boxes.cls.tolist(), planes, strict=True)
    named = [(_mask(box, plane, size), str(result.names[int(index)]), float(score)) for box, score, index, plane in rows]
    return [Region(mask, name, score=score) for mask, name, score in named if mask.any()]


def _mask(box: Sequence[float], plane: Any, size: tuple[int, int]) -> Mask:
    """(H, W) bool in the frame of the image; ``plane`` is a (h, w) tensor of 0 and 1 over the same view, or None."""
    if plane is None:
        x0, y0 = (max(0, math.floor(value)) for value in box[:2])
        x1, y1 = (min(limit, math.ceil(value)) for value, limit in zip(box[2:], size, strict=True))
        return filled((x0, y0, x1, y1), size)
    picture = PIL.Image.fromarray((plane.cpu().numpy() > 0.5).astype(np.uint8) * 255)
    mask: Mask = np.asarray(picture.resize(size, PIL.Image.Resampling.NEAREST)) > 127
    return mask
