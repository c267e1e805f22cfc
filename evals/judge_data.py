"""Pictures and truth for the judge: made from seeds, cached in shards, spoiled a little on the way into a batch.

The judge must read pictures that a decoder made, not a renderer. So whole pictures are blurred, recoloured, made noisy and saved as
JPEG, with the truth unchanged: what touches every pixel alike is no artifact.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F

from refine.evals.judge import GRID, HEADS, MOST_SOLIDS, SCENE_HEADS, SIDE, SOLID_HEADS
from refine.stilllife.damage import Sample, sample_damage
from refine.stilllife.render import render
from refine.types import Image, Mask

SHARD = 500
HEAT_RADIUS = 1.5  # cells: standard deviation of the target around the middle of a solid
Bytes = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int8]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """N pictures with truth.

    image, clean: (N, 128, 128, 3) uint8, damaged and not. mask: (N, 2048) the damaged pixels, packed bits. ids: (N, 32, 32) int8, which
    solid a cell of ``clean`` shows (-1: none). middles: (N, 3, 2) int8 cells (row, column) of the solids, -1 where there is none.
    solids: (N, 3, 4) int8 classes in the order of ``SOLID_HEADS``, -1 none. scene: (N, 2) int8 classes of floor and light.
    """

    image: Bytes
    clean: Bytes
    mask: Bytes
    ids: Labels
    middles: Labels
    solids: Labels
    scene: Labels

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """x (B, 3, 128, 128) in [-1, 1] · heat (B, 32, 32) in [0, 1] · truth name -> (B, 32, 32) classes, -1 unknown · artifact (B, 64, 64)."""

    x: Tensor
    heat: Tensor
    truth: dict[str, Tensor]
    artifact: Tensor


def example(sample: Sample) -> Examples:
    """One picture, as Examples of length 1. The reading grid follows the undamaged scene."""
    ids = render(sample.scene, SIDE).ids
    middles, solids = np.full((MOST_SOLIDS, 2), -1, np.int8), np.full((MOST_SOLIDS, len(SOLID_HEADS)), -1, np.int8)
    for index, solid in enumerate(sample.scene.solids):
        rows, columns = np.nonzero(ids == index)
        if len(rows):
            middles[index] = rows.mean() * GRID / SIDE, columns.mean() * GRID / SIDE
        solids[index] = [names.index(word) for names, word in zip(SOLID_HEADS.values(), solid.kind, strict=True)]
    surroundings = [names.index(word) for names, word in zip(SCENE_HEADS.values(), (sample.scene.floor, sample.scene.light), strict=True)]
    step = SIDE // GRID
    return Examples(
        image=_bytes(sample.image)[None],
        clean=_bytes(sample.clean)[None],
        mask=np.packbits(sample.mask)[None],
        ids=ids[None, step // 2 :: step, step // 2 :: step],
        middles=middles[None],
        solids=solids[None],
        scene=np.array([surroundings], np.int8),
    )


def _bytes(image: Image) -> Bytes:
    return np.asarray(image.convert("RGB"), np.uint8)


def join(parts: Iterable[Examples]) -> Examples:
    """One set of all parts, in order."""
    listed = list(parts)
    return Examples(**{field.name: np.concatenate([getattr(part, field.name) for part in listed]) for field in fields(Examples)})


def from_seeds(seeds: Sequence[int]) -> Examples:
    """One picture per seed, with no to three faults."""
    return join(example(sample_damage(np.random.default_rng(seed), SIDE)) for seed in seeds)


def cached(folder: Path, first: int, count: int) -> Examples:
    """Pictures of the seeds first, first + 1, ... from shards in ``folder``; shards that are missing are made."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(first, first + count, SHARD)
    return join(load(folder / f"{start}.npz", lambda start=start: from_seeds(range(start, start + SHARD))) for start in starts)  # type: ignore[misc]


def load(path: Path, make: Callable[[], Examples] | None = None) -> Examples:
    """Read a shard; make and store it first where it is missing."""
    if make is not None and not path.exists():
        made = make()
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, **{field.name: getattr(made, field.name) for field in fields(Examples)})
        temporary.rename(path)
    with np.load(path) as arrays:
        return Examples(**{field.name: arrays[field.name] for field in fields(Examples)})


def batch(examples: Examples, rng: Rng, size: int, damaged: float = 0.65) -> Batch:
    """A random training batch: damaged pictures with probability ``damaged``, else their clean ones; spoiled and mirrored."""
    rows = rng.integers(0, len(examples), size)
    use_damaged = rng.random(size) < damaged
    pixels = np.where(use_damaged[:, None, None, None], examples.image[rows], examples.clean[rows])
    pixels = np.stack([jpeg(picture, int(rng.integers(50, 96))) if rng.random() < 0.2 else picture for picture in pixels])
    whole = truth(examples, rows, use_damaged)
    x = spoil(torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).float(), rng)
    return mirror(replace(whole, x=x), torch.from_numpy(rng.random(size) < 0.5))


def truth(examples: Examples, rows: npt.NDArray[np.int64], damaged: npt.NDArray[np.bool_]) -> Batch:
    """The targets of these rows (with an empty ``x``); undamaged ones have no artifact."""
    ids = examples.ids[rows].astype(np.int64)
    solids, scene = examples.solids[rows].astype(np.int64), examples.scene[rows].astype(np.int64)
    where = np.maximum(ids, 0).reshape(len(rows), -1)
    classes = {}
    for index, name in enumerate(SOLID_HEADS):
        values = np.take_along_axis(solids[:, :, index], where, 1).reshape(ids.shape)
        classes[name] = torch.from_numpy(np.where(ids >= 0, values, -1))
    for index, name in enumerate(SCENE_HEADS):
        classes[name] = torch.from_numpy(np.broadcast_to(scene[:, index, None, None], ids.shape).copy())
    masks = unpack(examples.mask[rows]) & damaged[:, None, None]
    artifact = F.avg_pool2d(torch.from_numpy(masks).float()[:, None], 2)[:, 0]
    return Batch(torch.empty(0), heat_target(examples.middles[rows]), classes, artifact)


def unpack(bits: Bytes) -> Mask:
    """(N, 2048) packed bits -> (N, 128, 128) bool."""
    return np.unpackbits(bits, axis=1).reshape(-1, SIDE, SIDE).astype(np.bool_)


def heat_target(middles: Labels) -> Tensor:
    """(B, 32, 32): a Gaussian hill of height 1 on the middle of every solid."""
    y, x = np.mgrid[:GRID, :GRID]
    at = middles.astype(np.float32)[..., None, None]
    hills = np.exp(-((y - at[:, :, 0]) ** 2 + (x - at[:, :, 1]) ** 2) / (2 * HEAT_RADIUS**2))
    return torch.from_numpy((hills * (at[:, :, 0] >= 0)).max(1).astype(np.float32))


def mirror(made: Batch, which: Tensor) -> Batch:
    """Mirror the pictures of ``which`` (B,) left to right; the light then comes from the other side."""

    def flip(values: Tensor) -> Tensor:
        return torch.where(which.view(-1, *[1] * (values.dim() - 1)), values.flip(-1), values)

    classes = {name: flip(values) for name, values in made.truth.items()}
    classes["light"] = torch.where(which[:, None, None], len(HEADS["light"]) - 1 - classes["light"], classes["light"])
    return Batch(flip(made.x), flip(made.heat), classes, flip(made.artifact))


def spoil(x_BCHW: Tensor, rng: Rng) -> Tensor:
    """Blur (half of the pictures, σ up to 1.2 px), recolour and add noise, each picture in its own way."""
    size = len(x_BCHW)
    x = blur(x_BCHW, rng.uniform(0.05, 1.2, size) * (rng.random(size) < 0.5))

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (size, *shape))).float()

    x = x * draw(0.93, 1.07, 3, 1, 1) + draw(-0.06, 0.06, 1, 1, 1)
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32)) * draw(0.0, 0.04, 1, 1, 1) * (draw(0, 1, 1, 1, 1) < 0.4)
    return (x + noise).clamp(-1, 1)


def blur(x_BCHW: Tensor, sigmas: npt.ArrayLike) -> Tensor:
    """Gaussian blur, one σ (pixels) per picture; 0 leaves it."""
    sigma = torch.as_tensor(np.maximum(np.asarray(sigmas, np.float32), 1e-3))[:, None]
    taps = torch.exp(-(torch.arange(-4, 5)[None] ** 2) / (2 * sigma**2))
    kernel = (taps / taps.sum(1, keepdim=True)).repeat_interleave(3, 0)
    flat = F.pad(x_BCHW.reshape(1, -1, *x_BCHW.shape[2:]), (4, 4, 4, 4), mode="replicate")
    across = F.conv2d(flat, kernel[:, None, None, :], groups=len(kernel))
    return F.conv2d(across, kernel[:, None, :, None], groups=len(kernel)).reshape(x_BCHW.shape)


def patched(before: Bytes, after: Bytes, rng: Rng) -> Bytes:
    """(N, H, W, 3): ``after``, but every second picture only inside a random box, as a picture of which a part was repainted."""
    height, width = before.shape[1:3]
    made = after.copy()
    for index in range(0, len(before), 2):
        y, x = int(rng.integers(0, height * 3 // 4)), int(rng.integers(0, width * 3 // 4))
        box = np.s_[index, y : y + int(rng.integers(height // 4, height)), x : x + int(rng.integers(width // 4, width))]
        made[index] = before[index]
        made[box] = after[box]
    return made


def jpeg(picture: Bytes, quality: int) -> Bytes:
    """The picture after a JPEG file of this quality."""
    file = io.BytesIO()
    PIL.Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file), np.uint8)
