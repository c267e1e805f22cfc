"""Training data of the small reward models: groups of pictures, made once, and batches with the labels that dense supervision needs.

Axes: B groups, V = 4 views of a group (clean, mild, severe, twin), P = 64 patches of 16 × 16 pixels, row by row.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from refine.evals.pairs import Group, make_group
from refine.evals.preprocess import normalise
from refine.stilllife.captions import caption, parse
from refine.stilllife.scene import ATTRIBUTES, FLOORS, LIGHTS, Scene, sample_scene
from refine.stilllife.tools import other_side

FIRST_SEED = 300_000
SHARD = 500
SIDE, PATCH = 128, 16
SLOTS = 3
READ_PER_GROUP = 4
SOLID_CLASSES = tuple(1 + len(names) for names in ATTRIBUTES.values())  # class 0: no solid
SCENE_CLASSES = SOLID_CLASSES * SLOTS + (len(FLOORS), len(LIGHTS))

Bytes = npt.NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Groups:
    """Many groups as arrays.

    images (N, V, SIDE, SIDE, 3) uint8; solid (N, 2, 8, 8) int8, the solid that covers most of a patch of clean and twin (-1: none
    covers a fifth of it); fault (N, 2, 8, 8) uint8, damaged share of a patch of mild and severe × 255; scenes: (scene, twin).
    """

    images: Bytes
    solid: npt.NDArray[np.int8]
    fault: Bytes
    scenes: tuple[tuple[Scene, Scene], ...]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """pixels (B, V, 3, H, W) normalised; solids (B, V, P, 4) and scenes (B, 2, 14) class numbers; fault (B, V, P) share in [0, 1].

    right and wrong: captions of scene and twin, worded alike. read: more captions, without pictures, with class numbers told (M, 14).
    """

    pixels: Tensor
    solids: Tensor
    scenes: Tensor
    fault: Tensor
    right: list[str]
    wrong: list[str]
    read: list[str]
    told: Tensor


def load_groups(folder: Path, count: int, shard: int = SHARD) -> Groups:
    """``count`` groups (whole shards), made and stored in ``folder`` where they are not there yet."""
    shards = [_shard(folder, FIRST_SEED + shard * k, shard) for k in range(-(-count // shard))]
    images, solid, fault = (np.concatenate([shard[k] for shard in shards]) for k in ("images", "solid", "fault"))
    texts = np.concatenate([shard["captions"] for shard in shards])
    return Groups(images, solid, fault, tuple((_scene(str(right)), _scene(str(wrong))) for right, wrong in texts))


def _scene(text: str) -> Scene:
    scene = parse(text)
    assert scene is not None, f"the grammar cannot read its own caption {text!r}"
    return scene


def _shard(folder: Path, first: int, size: int) -> dict[str, npt.NDArray[Any]]:
    path = folder / f"pairs_{first}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays = _arrays([make_group(seed) for seed in range(first, first + size)])
        temporary = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(temporary, allow_pickle=False, **arrays)
        temporary.rename(path)
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def _arrays(groups: Sequence[Group]) -> dict[str, npt.NDArray[Any]]:
    views = [(g.clean.image, g.mild.image, g.severe.image, g.twin_view.image) for g in groups]
    return {
        "images": np.array([[np.asarray(image) for image in view] for view in views], np.uint8),
        "solid": np.array([[_solid_patches(view.ids) for view in (g.clean, g.twin_view)] for g in groups], np.int8),
        "fault": np.array([[_share(fault.mask) * 255 for fault in (g.mild, g.severe)] for g in groups]).round().astype(np.uint8),
        "captions": np.array([[caption(g.scene), caption(g.twin)] for g in groups]),
    }


def _share(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Share of True in each patch, (8, 8)."""
    n = SIDE // PATCH
    shares: npt.NDArray[np.float64] = mask.reshape(n, PATCH, n, PATCH).mean((1, 3))
    return shares


def _solid_patches(ids: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """The solid that covers most of each patch, -1 where none covers a fifth."""
    shares = np.stack([_share(ids == k) for k in range(SLOTS)])
    best: npt.NDArray[np.int64] = np.where(shares.max(0) >= 0.2, shares.argmax(0), -1)
    return best


def batch(groups: Groups, indices: npt.NDArray[np.int64], rng: np.random.Generator) -> Batch:
    """A batch of those groups, each mirrored with probability one half, captions drawn anew."""
    flips = rng.random(len(indices)) < 0.5
    images, solid, fault = (_mirror(array[indices], flips) for array in (groups.images, groups.solid, groups.fault))
    stored = [groups.scenes[k] for k in indices]
    scenes = [(mirrored(a), mirrored(b)) if flip else (a, b) for (a, b), flip in zip(stored, flips, strict=True)]
    words = rng.integers(2**31, size=len(indices))
    unseen = [sample_scene(rng) for _ in range(READ_PER_GROUP * len(indices))]
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 1, 4, 2, 3).float().div_(255)
    return Batch(
        pixels=normalise(spoiled(pixels, rng)),
        solids=torch.from_numpy(np.array([_patch_labels(pair, ids) for pair, ids in zip(stored, solid, strict=True)])),
        scenes=torch.from_numpy(np.array([[scene_labels(s) for s in pair] for pair in scenes])),
        fault=_fault_labels(fault.astype(np.float32) / np.float32(255)),
        right=[caption(pair[0], np.random.default_rng(w)) for pair, w in zip(scenes, words, strict=True)],
        wrong=[caption(pair[1], np.random.default_rng(w)) for pair, w in zip(scenes, words, strict=True)],
        read=[caption(scene, rng) for scene in unseen],
        told=torch.tensor([scene_labels(scene) for scene in unseen]),
    )


def spoiled(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """(B, V, 3, H, W) in [0, 1]: blur, gain, offset and noise that all views of a group share.

    What touches a whole picture alike (a decoder, a JPEG) is no damage, and must not be scored as such.
    """
    shape = (len(pixels), 1, 1, 1, 1)
    ranges = ((-0.8, 0.8), (0.92, 1.08), (-0.03, 0.03), (-0.03, 0.03))
    blur, gain, offset, noise = (torch.from_numpy(rng.uniform(low, high, shape).astype(np.float32)) for low, high in ranges)
    soft = F.avg_pool2d(F.pad(pixels.flatten(0, 1), (1, 1, 1, 1), mode="replicate"), 3, stride=1).view_as(pixels)
    grain = torch.from_numpy(rng.standard_normal((len(pixels), 1, *pixels.shape[2:]), np.float32))
    out = pixels.lerp(soft, blur.clamp(min=0)) * gain + offset + grain * noise.clamp(min=0)
    return out.clamp(0, 1)


def mirrored(scene: Scene) -> Scene:
    """The scene in a mirror: order reversed, light from the other side."""
    return Scene(tuple(replace(solid, x=-solid.x) for solid in scene.solids[::-1]), scene.floor, other_side(scene.light))


def _mirror(arrays: npt.NDArray[Number], flips: npt.NDArray[np.bool_]) -> npt.NDArray[Number]:
    """Flip axis 3 (columns) of the rows that are to be mirrored."""
    arrays = arrays.copy()
    arrays[flips] = arrays[flips][:, :, :, ::-1]
    return arrays


def _solid_row(scene: Scene, k: int) -> list[int]:
    """Class numbers of solid k; zeros where there is none."""
    if not 0 <= k < len(scene.solids):
        return [0] * len(ATTRIBUTES)
    return [1 + names.index(word) for names, word in zip(ATTRIBUTES.values(), scene.solids[k].kind, strict=True)]


def _patch_labels(scenes: tuple[Scene, Scene], ids: npt.NDArray[np.int8]) -> Labels:
    """(V, P, 4) from the numbers (2, 8, 8) of solids as stored; damaged views carry the labels of the clean one."""
    tables = [np.array([_solid_row(scene, k) for k in (*range(SLOTS), -1)]) for scene in scenes]
    clean, other = (table[numbers.reshape(-1)] for table, numbers in zip(tables, ids, strict=True))
    return np.stack([clean, clean, clean, other])


def scene_labels(scene: Scene) -> list[int]:
    """14 class numbers: shape, colour, size, material of three places from left to right, floor, light."""
    solids = [number for k in range(SLOTS) for number in _solid_row(scene, k)]
    return [*solids, FLOORS.index(scene.floor), LIGHTS.index(scene.light)]


def _fault_labels(shares: npt.NDArray[np.float32]) -> Tensor:
    """(B, V, P): clean and twin have none."""
    damaged = torch.from_numpy(shares).flatten(2)
    none = torch.zeros_like(damaged[:, :1])
    return torch.cat([none, damaged, none], 1)
