"""What a reader of the judge's form sees broken in pictures without truth, as training data for a controller.

The reader that labels is not the held-out judge: it is trained on the controller's own seeds
(``python -m refine.evals.judge_training --seed 200000``), so that the judge stays apart from everything that the loop learns from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from scipy import ndimage
from torch.nn import functional as F

from refine.evals.judge import ARTIFACT, GRID, Judge, peaks, to_tensor
from refine.stilllife.captions import parse
from refine.stilllife.damage import REPAINTED, Sample
from refine.stilllife.scene import FRAME_WIDTH, Scene
from refine.stilllife.tools import MIN_AREA, other_side
from refine.types import Heat, Image, Mask, Region

REACH = 1.6  # radii from the middle of a solid: what lies farther off is no part of it
BATCH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """artifact (H, W) probability; middles: (row, column) pixels of the solids, left to right."""

    artifact: Heat
    middles: tuple[tuple[float, float], ...]


def labelled(reader: Judge, images: Sequence[Image], prompts: Sequence[str]) -> Iterator[Sample]:
    """Pictures whose solids the reader finds as the caption tells them, each with the faults that the reader sees in it."""
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        for image, prompt, seen in zip(part, prompts[start : start + BATCH], look(reader, part), strict=True):
            scene = parse(prompt)
            if scene is not None and len(seen.middles) == len(scene.solids):
                regions = tuple(faults(seen, scene))
                kinds = ("other",) * len(regions)
                yield Sample(image, image, scene, prompt, regions, kinds, (1.0,) * len(regions))


def write_folders(samples: Sequence[Sample], folder: Path) -> None:
    """PNG files by number: ``clean/``, ``faulty/`` and, for these, ``masks/`` (white: fault)."""
    for name in ("clean", "faulty", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, sample in enumerate(samples):
        sample.image.save(folder / ("faulty" if sample.regions else "clean") / f"{index:06d}.png")
        if sample.regions:
            PIL.Image.fromarray(sample.mask).save(folder / "masks" / f"{index:06d}.png")


@torch.inference_mode()
def look(reader: Judge, images: Sequence[Image]) -> list[Seen]:
    """The reader's map of broken pixels and the middles of the solids, one per picture."""
    dense = reader(torch.stack([to_tensor(image) for image in images]).to(reader.reading.weight.device))
    heats = dense.heat.sigmoid().cpu().numpy()
    seen = []
    for image, heat, logits in zip(images, heats, dense.artifact.cpu(), strict=True):
        map_HW = F.interpolate(logits[None, None], (image.height, image.width), mode="bilinear", align_corners=False)[0, 0].sigmoid()
        scale_y, scale_x = image.height / GRID, image.width / GRID
        seen.append(Seen(map_HW.numpy(), tuple(((y + 0.5) * scale_y, (x + 0.5) * scale_x) for y, x in peaks(heat))))
    return seen


def faults(seen: Seen, scene: Scene) -> Iterator[Region]:
    """One region per connected part of what is broken, told in the words of repainted damage."""
    parts, count = ndimage.label(seen.artifact > ARTIFACT)
    for index in range(1, count + 1):
        mask = parts == index
        if mask.sum() >= MIN_AREA:
            yield _told(mask, seen, scene)


def _told(mask: Mask, seen: Seen, scene: Scene) -> Region:
    """A fault of the nearest solid, in units of its radius; one that lies beyond it is of its shadow, or of the floor."""
    row, column = ndimage.center_of_mass(mask)
    unit = mask.shape[1] / FRAME_WIDTH  # pixels
    distances = [
        np.hypot(row - y, column - x) / (solid.radius * unit) for (y, x), solid in zip(seen.middles, scene.solids, strict=True)
    ]
    nearest = int(np.argmin(distances))
    solid = scene.solids[nearest]
    away = other_side(scene.light)
    on_that_side = (column > seen.middles[nearest][1]) == (away == "right")
    content = "solid" if distances[nearest] < REACH else "shadow" if on_that_side else "floor"
    category, phrase, explanation = REPAINTED[content]
    words = {"name": f"{solid.colour} {solid.shape}", "colour": solid.colour, "shape": solid.shape}
    return Region(mask, phrase.format(**words), explanation.format(**words), category, 1.0)
