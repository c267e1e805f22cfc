"""Pre-training of the mini model's two image encoders on the still-life world.

The published LEGION starts from CLIP and SAM towers that others have trained on the world's images. Here they start from nothing, so
they learn first, by dense supervision with heads that are thrown away: which solid stands where (shape, colour, size, material), where
the light is, what is damaged and how. After this both towers are frozen, as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refine import trunk
from refine.controllers.legion.cache import Cache
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import CLIP_MEAN, CLIP_STD, SAM_MEAN, SAM_STD
from refine.stilllife.packing import KINDS
from refine.stilllife.scene import ATTRIBUTES

COUNTS = [len(names) for names in ATTRIBUTES.values()]
PRESENT = 0.03  # share of a patch that a fault covers at least, to count as in it
NOWHERE = -100  # label of a cell without a solid
ATTRIBUTE_WEIGHT, IMAGE_WEIGHT, FAULT_WEIGHT = 0.25, 10.0, 20.0  # the last two: most cells are whole, most kinds absent


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """Pixels and dense truth of B images: images (B, 3, S, S) in [0, 1], faults (B, K, S/2, S/2) in [0, 1] by kind,
    labels (B, 4, S/2, S/2) attribute index or -100, light (B,)."""

    images: Tensor
    faults: Tensor
    labels: Tensor
    light: Tensor

    def to(self, device: torch.device) -> Dense:
        """The same on another device."""
        return Dense(*(getattr(self, name).to(device) for name in ("images", "faults", "labels", "light")))

    def mirrored(self) -> Dense:
        """Left and right exchanged, the light's side too."""
        return Dense(self.images.flip(-1), self.faults.flip(-1), self.labels.flip(-1), 1 - self.light)


def dense(cache: Cache, rows: npt.NDArray[np.intp]) -> Dense:
    """The dense truth of some rows of a cache."""
    return Dense(
        pixels(cache, rows),
        torch.stack([_faults(cache, int(row)) for row in rows]),
        torch.from_numpy(np.stack([_labels(cache.ids[row], cache.solids[row]) for row in rows])),
        torch.from_numpy(cache.light[rows].astype(np.int64)),
    )


def pixels(cache: Cache, rows: npt.NDArray[np.intp]) -> Tensor:
    """(B, 3, S, S) float32 in [0, 1]."""
    return torch.from_numpy(cache.images[rows]).permute(0, 3, 1, 2).float() / 255


def normalised(images: Tensor, mean: tuple[float, float, float], std: tuple[float, float, float]) -> Tensor:
    """Images (B, 3, H, W) minus ``mean`` over ``std``; they have the tower's size already."""
    return (images - images.new_tensor(mean)[:, None, None]) / images.new_tensor(std)[:, None, None]


def _faults(cache: Cache, row: int) -> Tensor:
    """(K, S/2, S/2): by kind, the share of each 2 × 2 cell that is damaged."""
    planes = torch.zeros(len(KINDS), cache.side // 2, cache.side // 2)
    for fault in cache.faults(row):
        mask = torch.from_numpy(cache.mask(int(fault))).float()
        plane = planes[cache.kinds[fault]]
        plane.copy_(torch.maximum(plane, F.avg_pool2d(mask[None], 2)[0]))
    return planes


def _labels(ids: npt.NDArray[np.int8], solids: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """(4, h, w): the attributes of the solid in every cell."""
    values = solids[ids.clip(0)].astype(np.int64)  # (h, w, 4)
    return np.where(ids[..., None] >= 0, values, NOWHERE).transpose(2, 0, 1)


class ClipHeads(nn.Module):
    """Thrown away after pre-training. patch: kinds of fault and attributes of each patch · image: kinds present, damaged or not, light."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.Linear(width, 1 + len(KINDS) + sum(COUNTS))
        self.image = nn.Linear(width, 2 + len(KINDS))


class SamHeads(nn.Module):
    """Thrown away after pre-training. cell: attributes of each cell of the embedding · mask: kinds of fault and "any", four times finer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = nn.Conv2d(width, sum(COUNTS), 1)
        self.mask = nn.Sequential(
            nn.ConvTranspose2d(width, 64, 2, 2), nn.GELU(), nn.ConvTranspose2d(64, 32, 2, 2), nn.GELU(), nn.Conv2d(32, 1 + len(KINDS), 1)
        )


def _clip(model: LegionModel) -> tuple[nn.Module, ClipHeads]:
    return model.clip, ClipHeads(model.config.clip_config.hidden_size)


def _sam(model: LegionModel) -> tuple[nn.Module, SamHeads]:
    return model.sam.vision_encoder, SamHeads(model.config.sam_config.vision_config.output_channels)


@torch.no_grad()
def whiten(embedding: nn.Conv2d, images: Tensor, floor: float = 1e-3) -> None:
    """Start a patch embedding as the whitening of the patches of ``images`` (N, 3, S, S), normalised for the tower.

    Faults are small and faint beside the plain colour of a patch; with random filters the first layer drowns them. The rows become the
    leading principal components, each scaled to unit variance; ``floor`` (share of the largest variance) keeps the faintest from noise.
    """
    side = embedding.kernel_size[0]
    patches = F.unfold(images, side, stride=side).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    variances, axes = torch.linalg.eigh(torch.cov((patches - mean).T))
    count = min(len(variances), embedding.out_channels)
    leading = axes.T.flip(0)[:count] / (variances.flip(0)[:count] + floor * variances[-1]).sqrt()[:, None]
    embedding.weight[:count] = leading.view(count, *embedding.weight.shape[1:])
    if embedding.bias is not None:
        embedding.bias[:count] = -leading @ mean


def start(model: LegionModel, tower: str, images: Tensor) -> None:
    """Whiten the first layer of a tower for ``images`` (N, 3, S, S) in [0, 1]."""
    if tower == "clip":
        whiten(model.clip.embeddings.patch_embedding, normalised(images, CLIP_MEAN, CLIP_STD))
    else:
        whiten(model.sam.vision_encoder.patch_embed.projection, normalised(255 * images, SAM_MEAN, SAM_STD))


def clip_from_sam(model: LegionModel, images: Tensor) -> None:
    """Begin a mini model's CLIP tower as a copy of its SAM tower. images: (N, 3, S, S) in [0, 1], to measure the embedding's spread."""
    begin = trunk.of(model.sam.vision_encoder.state_dict())
    trunk.into_clip(model.clip, begin, normalised(images, CLIP_MEAN, CLIP_STD), CLIP_MEAN, CLIP_STD)


TOWERS: dict[str, Callable[[LegionModel], tuple[nn.Module, ClipHeads | SamHeads]]] = {"clip": _clip, "sam": _sam}


def tower_losses(model: LegionModel, heads: ClipHeads | SamHeads, batch: Dense) -> Mapping[str, Tensor]:
    """The losses of the tower that ``heads`` belong to."""
    return clip_losses(model, heads, batch) if isinstance(heads, ClipHeads) else sam_losses(model, heads, batch)


def clip_states(model: LegionModel, images: Tensor) -> Tensor:
    """Images (B, 3, S, S) in [0, 1] -> CLIP's states (B, 1 + P, D) at the layer that LEGION reads; row 0 is the class token."""
    seen = model.clip(normalised(images, CLIP_MEAN, CLIP_STD), output_hidden_states=True)
    return seen.hidden_states[model.config.vision_layer]  # type: ignore[no-any-return]


def sam_embeddings(model: LegionModel, images: Tensor) -> Tensor:
    """Images (B, 3, S, S) in [0, 1] -> SAM's embeddings (B, C, h, h)."""
    return model.sam_features(normalised(255 * images, SAM_MEAN, SAM_STD))


def with_any(faults: Tensor) -> Tensor:
    """(B, K, ...) -> (B, K + 1, ...): the kinds, then their maximum."""
    return torch.cat((faults, faults.amax(1, keepdim=True)), 1)


def clip_losses(model: LegionModel, heads: ClipHeads, batch: Dense) -> Mapping[str, Tensor]:
    """What CLIP's patches and class token must know."""
    states = clip_states(model, batch.images).float()
    side = round((states.shape[1] - 1) ** 0.5)
    grid = heads.patch(states[:, 1:]).transpose(1, 2).unflatten(2, (side, side))
    faults = with_any(batch.faults)
    present = (F.adaptive_avg_pool2d(faults, side) > PRESENT).float()
    image = heads.image(states[:, 0])
    truth = torch.cat((faults.amax((2, 3)).round(), batch.light[:, None].float()), 1)
    kinds = grid.shape[1] - sum(COUNTS)
    return {
        "fault": F.binary_cross_entropy_with_logits(grid[:, :kinds], present) * FAULT_WEIGHT,
        "solid": _attributes(grid[:, kinds:], batch.labels),
        "image": F.binary_cross_entropy_with_logits(image, truth) * IMAGE_WEIGHT,
    }


def sam_losses(model: LegionModel, heads: SamHeads, batch: Dense) -> Mapping[str, Tensor]:
    """What SAM's embedding must know."""
    embedding = sam_embeddings(model, batch.images)
    logits, truth = heads.mask(embedding).float(), with_any(batch.faults)
    return {
        "fault": F.binary_cross_entropy_with_logits(logits, truth) * FAULT_WEIGHT,
        "dice": soft_dice(logits[:, -1:].sigmoid(), truth[:, -1:]),
        "solid": _attributes(heads.cell(embedding).float(), batch.labels),
    }


def soft_dice(probability: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice per image and kind (B, K, H, W), mean; a little smoothing makes empty truth a finite goal."""
    both = (probability * truth).sum((2, 3))
    return (1 - (2 * both + 8) / (probability.sum((2, 3)) + truth.sum((2, 3)) + 8)).mean()


def _attributes(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of the four attributes over the cells that show a solid; ``labels`` are read at the cells' centres."""
    step = labels.shape[-1] // logits.shape[-1]
    centres = labels[..., step // 2 :: step, step // 2 :: step]
    parts = logits.split(COUNTS, 1)
    losses = [F.cross_entropy(part, centres[:, k], ignore_index=NOWHERE) for k, part in enumerate(parts)]
    return torch.stack(losses).sum() * ATTRIBUTE_WEIGHT
