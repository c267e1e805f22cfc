"""How well a mask finds the fault, and how well a text explains it: the measures of the LEGION paper (arXiv 2503.15264, section 5).

Both mask measures are means over images, so a large fault does not outweigh a small one. mIoU is the mean of the IoU of the
foreground and of the background: a model that finds nothing still gets about one half of it.
Pure: numpy only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from refine.errors import InputError
from refine.types import Mask, Region


@dataclass(frozen=True, slots=True)
class Overlap:
    """Pixel counts of one predicted mask against the truth."""

    both: int
    predicted: int
    true: int
    pixels: int

    @property
    def precision(self) -> float:
        return self.both / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.both / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        """Foreground F1 in [0, 1]; 1 if there is nothing to find and nothing was predicted."""
        return 2 * self.both / (self.predicted + self.true) if self.predicted + self.true else 1.0

    @property
    def iou(self) -> float:
        """Foreground IoU in [0, 1]; 0 for two empty masks, as in the paper's evaluation (a guard of 1e-6 in the divisor)."""
        return self.both / (self.predicted + self.true - self.both + 1e-6)

    @property
    def miou(self) -> float:
        """Mean of foreground and background IoU, in [0, 1]."""
        neither = self.pixels - (self.predicted + self.true - self.both)
        return (self.iou + neither / (self.pixels - self.both + 1e-6)) / 2


def overlap(predicted: Mask, true: Mask) -> Overlap:
    """Compare two (H, W) bool masks of one frame."""
    if predicted.shape != true.shape:
        raise InputError(f"The predicted mask is {predicted.shape}, the truth {true.shape} (H, W): bring both to the frame of the image.")
    return Overlap(int((predicted & true).sum()), int(predicted.sum()), int(true.sum()), int(true.size))


def union(regions: Iterable[Region], shape: tuple[int, int]) -> Mask:
    """(H, W) bool: every pixel that some region covers."""
    mask = np.zeros(shape, np.bool_)
    for region in regions:
        mask |= region.mask
    return mask


def f1(predicted: Sequence[Mask], true: Sequence[Mask]) -> float:
    """Foreground F1, mean over images."""
    return float(np.mean([overlap(p, t).f1 for p, t in zip(predicted, true, strict=True)]))


def miou(predicted: Sequence[Mask], true: Sequence[Mask]) -> float:
    """Mean of foreground and background IoU, mean over images."""
    return float(np.mean([overlap(p, t).miou for p, t in zip(predicted, true, strict=True)]))


def words(text: str) -> list[str]:
    """Lower-case runs of letters and digits."""
    return re.findall(r"[a-z0-9]+", text.lower())


def rouge_l(candidate: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words, in [0, 1] (Lin 2004; precision and recall weigh the same)."""
    ours, theirs = words(candidate), words(reference)
    row = [0] * (len(theirs) + 1)
    for word in ours:
        diagonal = 0
        for j, other in enumerate(theirs, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(ours) + len(theirs)) if ours and theirs else float(not ours and not theirs)
