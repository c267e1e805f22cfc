"""Foreign patches beneath the noise: what a denoiser must have seen to repair a picture, not only to draw one.

Repainting at a strength below 1 starts from the noised picture, fault included. A denoiser that only ever saw noised whole pictures
carries what is left of the fault along. So part of its batches hide a patch from elsewhere under the noise, and the goal stays the whole
picture. The patches are generic (another scene, the same scene displaced, smoothed, noisy); no kind of damage is drawn here.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDES = (2, 9)  # cells: the shortest side of a patch, and one more than the longest
SHIFT = 3  # cells: the farthest displacement
STRENGTH = (0.3, 1.0)  # how much of the picture a patch replaces: on the way down the schedule a repaint has lost part of the fault
KINDS = ("other", "displaced", "smoothed", "noisy")


def graft(latents: Tensor, rng: np.random.Generator) -> Tensor:
    """A copy of (N, C, H, W) latents with one patch each."""
    return torch.stack([_grafted(latents, row, rng) for row in range(len(latents))])


def _grafted(latents: Tensor, row: int, rng: np.random.Generator) -> Tensor:
    own, other = latents[row], latents[(row + int(rng.integers(1, max(2, len(latents))))) % len(latents)]
    patch = _foreign(own, other, rng)
    height, width = (min(int(side), size) for side, size in zip(rng.integers(*SIDES, 2), own.shape[1:], strict=True))
    y, x = (int(rng.integers(0, size - side + 1)) for size, side in zip(own.shape[1:], (height, width), strict=True))
    result, place = own.clone(), (slice(None), slice(y, y + height), slice(x, x + width))
    result[place] = own[place].lerp(patch[place], float(rng.uniform(*STRENGTH)))
    return result


def _foreign(own: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """What a patch is cut from, at the same place."""
    kind = KINDS[int(rng.integers(len(KINDS)))]
    if kind == "other":
        return other.roll(tuple(rng.integers(0, own.shape[1:]).tolist()), (1, 2))
    if kind == "displaced":
        return own.roll(tuple(rng.integers(-SHIFT, SHIFT + 1, 2).tolist()), (1, 2))
    if kind == "smoothed":
        return F.avg_pool2d(own[None], 3, 1, 1, count_include_pad=False)[0]
    noise = torch.from_numpy(rng.standard_normal(own.shape, np.float32)).to(own)
    return own + noise * float(rng.uniform(0.3, 1.0))
