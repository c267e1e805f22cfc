"""The held-out judge of still life: it reads pictures, and it steers nothing.

No model of the loop shares its architecture (a plain convolutional U-Net, no attention, no text), its seeds (5,000,000 and up) or
its training data. It answers two questions about a picture:

- what is in it: up to three solids from left to right with shape, colour, size and material, the floor, the side of the light
  (``prompt_accuracy`` compares that with a caption; the idea is GenEval's, Ghosh et al. 2023, arXiv:2310.11513);
- which pixels look broken: an artifact probability for each.

Both are dense: every cell of a 32 × 32 grid says how close it is to the middle of a solid (a heat map as in CenterNet, Zhou et al.
2019, arXiv:1904.07850) and what it belongs to, so that attributes are bound to places by construction.

Shapes: B batch · C channels · H, W cells of the named grid.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from refine.embedded import WEIGHTS
from refine.errors import InputError, loading
from refine.stilllife.captions import parse
from refine.stilllife.scene import ATTRIBUTES, FLOORS, LIGHTS, Scene
from refine.types import Heat, Image

SIDE = 128  # pixels: the side that pictures are resized to
GRID = 32  # cells: the side of the reading grid
MOST_SOLIDS = 3
PEAK = 0.3  # the least heat of the middle of a solid
NEAR = 2  # cells: two peaks this close are one solid
ARTIFACT = 0.5  # a pixel above this probability counts as broken
FAULTY = 0.005  # a picture with more than this share of broken pixels is faulty

SOLID_HEADS = ATTRIBUTES
SCENE_HEADS: Mapping[str, tuple[str, ...]] = MappingProxyType({"floor": FLOORS, "light": LIGHTS})
HEADS: Mapping[str, tuple[str, ...]] = MappingProxyType({**SOLID_HEADS, **SCENE_HEADS})
DEFAULT_PATH = WEIGHTS / "mini" / "judge"

Kind = tuple[str, str, str, str]


@dataclass(frozen=True, slots=True)
class Config:
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the picture."""

    widths: tuple[int, int, int, int] = (24, 64, 104, 128)


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What the judge sees in one picture.

    solids: (shape, colour, size, material) from left to right. artifact: (H, W) float32 probability in the frame of the picture.
    """

    solids: tuple[Kind, ...]
    floor: str
    light: str
    artifact: Heat

    @property
    def count(self) -> int:
        return len(self.solids)

    @property
    def artifact_area(self) -> float:
        """Share of pixels that are broken, in [0, 1]."""
        return float((self.artifact > ARTIFACT).mean())

    @property
    def faulty(self) -> bool:
        return self.artifact_area > FAULTY


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """Raw answers: heat (B, 32, 32) logits, heads name -> (B, classes, 32, 32) logits, artifact (B, 64, 64) logits."""

    heat: Tensor
    heads: Mapping[str, Tensor]
    artifact: Tensor


class Block(nn.Module):
    """Residual block, two 3 × 3 convolutions (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        inner = self.second(F.relu(self.first(x_BCHW), inplace=True))
        return F.relu(x_BCHW + inner)


class Judge(nn.Module):
    """A U-Net of residual blocks with two outputs, at 32 × 32 (reading) and at 64 × 64 (artifacts)."""

    def __init__(self, config: Config = Config()) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth, low = config.widths
        self.stem = _conv(3, half, 2)
        self.down4 = nn.Sequential(_conv(half, quarter, 2), nn.ReLU(inplace=True), Block(quarter), Block(quarter))
        self.down8 = nn.Sequential(_conv(quarter, eighth, 2), nn.ReLU(inplace=True), Block(eighth), Block(eighth))
        self.down16 = nn.Sequential(_conv(eighth, low, 2), nn.ReLU(inplace=True), Block(low))
        self.up8, self.merge8 = nn.Conv2d(low, eighth, 1), Block(eighth)
        self.up4, self.merge4 = nn.Conv2d(eighth, quarter, 1), Block(quarter)
        self.reading = nn.Conv2d(quarter, 1 + sum(len(names) for names in HEADS.values()), 1)
        self.up2, self.merge2 = nn.Conv2d(quarter, half, 1), _conv(half, half)
        self.artifact = nn.Conv2d(half, 1, 1)

    def forward(self, x_BCHW: Tensor) -> Dense:
        """x: (B, 3, 128, 128) in [-1, 1]."""
        x2 = F.relu(self.stem(x_BCHW))
        x4 = self.down4(x2)
        x8 = self.down8(x4)
        x16 = self.down16(x8)
        y8 = self.merge8(x8 + _twice(self.up8(x16)))
        y4 = self.merge4(x4 + _twice(self.up4(y8)))
        heat, *heads = self.reading(y4).float().split([1, *(len(names) for names in HEADS.values())], dim=1)
        y2 = F.relu(self.merge2(F.relu(x2 + _twice(self.up2(y4)))))
        return Dense(heat[:, 0], dict(zip(HEADS, heads, strict=True)), self.artifact(y2).float()[:, 0])

    @torch.inference_mode()
    def read(self, images: Sequence[Image], batch: int = 32) -> list[Reading]:
        """Read pictures of any size; one reading each, in order."""
        readings: list[Reading] = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            dense = self(torch.stack([to_tensor(image) for image in part]).to(self.reading.weight.device))
            readings += decode(dense, [image.size for image in part])
        return readings

    def save_pretrained(self, path: str | Path) -> None:
        """Write config.json and model.safetensors (fp16)."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        state = {k: (v.half() if v.is_floating_point() else v).contiguous().cpu() for k, v in self.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def from_pretrained(path: str | Path = DEFAULT_PATH) -> Judge:
        """Load what ``save_pretrained`` wrote, in float32 and ready to read. Raises CheckpointError."""
        folder = Path(path)
        with loading(f"a judge from {folder}", "It must hold config.json and model.safetensors as written by save_pretrained."):
            widths = json.loads((folder / "config.json").read_text(encoding="utf-8"))["widths"]
            judge = Judge(Config(tuple(widths)))
            state = load_file(folder / "model.safetensors")
            judge.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
        return judge.eval()


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


def _twice(x_BCHW: Tensor) -> Tensor:
    return F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest")


def to_tensor(image: Image) -> Tensor:
    """(3, 128, 128) float32 in [-1, 1]."""
    resized = image.convert("RGB").resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1)


def decode(dense: Dense, sizes: Sequence[tuple[int, int]]) -> list[Reading]:
    """One reading per picture of the batch; ``sizes`` are (width, height) pixels."""
    heat = dense.heat.sigmoid().cpu().numpy()
    shares = {name: logits.softmax(1).cpu().numpy() for name, logits in dense.heads.items()}
    readings = []
    for index, (width, height) in enumerate(sizes):
        maps = {name: share[index] for name, share in shares.items()}
        solids = tuple(_attributes(maps, heat[index], y, x) for y, x in peaks(heat[index]))
        floor, light = (names[int(maps[name].mean((1, 2)).argmax())] for name, names in SCENE_HEADS.items())
        artifact = F.interpolate(dense.artifact[index][None, None], (height, width), mode="bilinear", align_corners=False)
        readings.append(Reading(solids, floor, light, artifact[0, 0].sigmoid().cpu().numpy().astype(np.float32)))
    return readings


def peaks(heat: Heat) -> list[tuple[int, int]]:
    """(row, column) of the middles of at most three solids, left to right: the highest cells, each ``NEAR`` cells from higher ones."""
    found: list[tuple[int, int]] = []
    for cell in np.argsort(heat, axis=None)[::-1]:
        y, x = divmod(int(cell), heat.shape[1])
        if heat[y, x] < PEAK or len(found) == MOST_SOLIDS:
            break
        if all(max(abs(y - v), abs(x - u)) > NEAR for v, u in found):
            found.append((y, x))
    return sorted(found, key=lambda cell: cell[1])


def _attributes(maps: Mapping[str, npt.NDArray[np.float32]], heat: Heat, y: int, x: int) -> Kind:
    """The class of each attribute with the largest share around a peak, cells weighted by their heat."""
    window = np.s_[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
    shape, colour, size, material = (
        names[int((maps[name][(slice(None), *window)] * heat[window]).sum((1, 2)).argmax())] for name, names in SOLID_HEADS.items()
    )
    return shape, colour, size, material


def prompt_accuracy(reading: Reading, caption: str) -> dict[str, float]:
    """How well a reading agrees with a caption; every value is in [0, 1].

    core: 1 if count, colours, shapes and left/right order are all right; every: 1 if size, material, floor and light are right too;
    mean: share of all attributes that are right (the count is one; solids that are missing have four wrong ones). Also one value
    per attribute: count, shape, colour, size, material (means over the caption's solids), floor, light.
    Raises InputError for a caption outside the grammar.
    """
    wanted = parse(caption)
    if wanted is None:
        raise InputError(f"The judge reads still-life captions only, and this is none: {caption!r}. See refine/stilllife/captions.py.")
    return agreement(reading, wanted)


def agreement(reading: Reading, wanted: Scene) -> dict[str, float]:
    """The measures of ``prompt_accuracy`` against a scene."""
    kinds = [solid.kind for solid in wanted.solids]
    hits = _align(reading.solids, kinds)
    count = float(reading.count == len(kinds))
    floor, light = float(reading.floor == wanted.floor), float(reading.light == wanted.light)
    by_head = dict(zip(SOLID_HEADS, hits.mean(0).tolist(), strict=True))
    core = count * float(by_head["shape"] == 1 and by_head["colour"] == 1)
    every = core * float(hits.all() and floor and light)
    average = (count + hits.sum() + floor + light) / (3 + hits.size)
    return {"core": core, "every": every, "mean": float(average), "count": count, **by_head, "floor": floor, "light": light}


def _align(seen: Sequence[Kind], wanted: Sequence[Kind]) -> npt.NDArray[np.float64]:
    """(wanted, 4) 1 where an attribute is right, under the order-keeping assignment of seen to wanted solids with the most hits."""
    size = min(len(seen), len(wanted))
    best = np.zeros((len(wanted), len(SOLID_HEADS)))
    for rows in combinations(range(len(wanted)), size):
        for columns in combinations(range(len(seen)), size):
            hits = np.zeros_like(best)
            for row, column in zip(rows, columns, strict=True):
                hits[row] = [a == b for a, b in zip(seen[column], wanted[row], strict=True)]
            best = max(best, hits, key=lambda table: float(table.sum()))
    return best
