"""What is measured on every final picture. A metric says where it comes from, so that a table can tell judges from steersmen.

Sources: ``judge`` (the held-out reader of still life) · ``truth`` (the clean picture) · ``reward:NAME`` · ``controller``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from refine.bench.samples import Truth
from refine.errors import InputError
from refine.evals.judge import Judge, prompt_accuracy
from refine.stilllife.captions import parse
from refine.types import Image, Reward


@dataclass(frozen=True, slots=True)
class Metric:
    """One column. ``scale``: what its values are multiplied by to be printed (100 for shares, with the unit %). ``about``: what it is."""

    name: str
    title: str
    source: str
    higher_is_better: bool
    scale: float = 1.0
    unit: str = ""
    about: str = ""

    @property
    def sign(self) -> int:
        """What turns a change into a gain."""
        return 1 if self.higher_is_better else -1

    @property
    def change_unit(self) -> str:
        """The unit of a difference: that of two shares is points, for % of a change would be relative."""
        return "points" if self.unit == "%" else self.unit


BROKEN = "share of the pixels that {} calls broken"
RIGHT = "count, colours, shapes and left/right order"
APART = "mean absolute difference from {}, in levels of 255"

AREA = Metric("area", "artifact area", "judge", False, 100, "%", BROKEN.format("the judge"))
CORE = Metric("core", "prompt accuracy, core", "judge", True, 100, "%", f"pictures on which the judge finds all right: {RIGHT}")
MEAN = Metric("mean", "prompt accuracy, mean", "judge", True, 100, "%", "attributes of the prompt that the judge finds right")
INSIDE = Metric("inside", "error inside the truth", "truth", False, 1, "levels", APART.format("the clean picture where it was damaged"))
OUTSIDE = Metric("outside", "change outside it", "truth", False, 1, "levels", APART.format("the given picture where nothing was wrong"))
HARM = Metric("harm", "error", "truth", False, 1, "levels", APART.format("the clean picture"))
CHANGED = Metric("changed", "pictures changed", "truth", False, 100, "%", "pictures of which any pixel is another than in the given one")
CONTROLLER = Metric("controller", "artifact area by the controller", "controller", False, 100, "%", BROKEN.format("the loop's controller"))

BY_SET: Mapping[str, tuple[Metric, ...]] = {
    "prompts": (AREA, CORE, MEAN),
    "damaged": (INSIDE, AREA, OUTSIDE, CORE),
    "clean": (HARM, CHANGED, AREA, CORE),
}


def of(set_name: str, prompts: Sequence[str], rewards: Sequence[str], steering: Sequence[Collection[str]] = ()) -> tuple[Metric, ...]:
    """The columns of a set's table, the one to look at first in front: one whose source is in none of ``steering`` (one per arm).

    The judge reads still-life captions only; for a set with any other prompt its columns are left out.
    """
    readable = all(parse(prompt) is not None for prompt in prompts)
    own = tuple(metric for metric in BY_SET[set_name] if readable or metric.source != "judge")
    found = (*own, *(Metric(f"reward:{name}", name, f"reward:{name}", True) for name in rewards), CONTROLLER)
    return tuple(sorted(found, key=lambda metric: any(metric.source in sources for sources in steering)))


def measure(
    metrics: Sequence[Metric], images: Sequence[Image], prompts: Sequence[str], truths: Sequence[Truth | None],
    judge: Judge | None, rewards: Mapping[str, Reward],
) -> list[dict[str, float]]:  # fmt: skip
    """These metrics of every picture, against the user's own prompt; ``controller`` is not among them. A value may be NaN."""
    names = {metric.name for metric in metrics}
    rows = [errors(names, image, truth) for image, truth in zip(images, truths, strict=True)]
    if images and judge is not None and any(metric.source == "judge" for metric in metrics):
        for row, reading, prompt in zip(rows, judge.read(images), prompts, strict=True):
            accuracy = prompt_accuracy(reading, prompt)
            row |= {"area": reading.artifact_area, "core": accuracy["core"], "mean": accuracy["mean"]}
    for name, reward in rewards.items():
        if images and f"reward:{name}" in names:
            for row, score in zip(rows, reward.score(images, prompts), strict=True):
                row[f"reward:{name}"] = float(score)
    return [{name: value for name, value in row.items() if name in names} for row in rows]


def errors(names: set[str], image: Image, truth: Truth | None) -> dict[str, float]:
    """Mean absolute differences in levels of 255; those that the set has no use for are left out. Raises InputError for another size."""
    if truth is None:
        return {}
    if image.size != truth.clean.size:
        sizes = [" × ".join(map(str, one.size)) for one in (image, truth.clean)]
        raise InputError(f"The final picture is {sizes[0]} pixels, the given one was {sizes[1]}: an arm must not change the size.")
    pixels = np.asarray(image, np.float64)
    from_clean = np.abs(pixels - np.asarray(truth.clean, np.float64)).mean(2)
    from_given = np.abs(pixels - np.asarray(truth.image, np.float64)).mean(2)
    row = {"outside": float(from_given[~truth.mask].mean()), "harm": float(from_clean.mean()), "changed": float(from_given.any())}
    return row | ({"inside": float(from_clean[truth.mask].mean())} if "inside" in names else {})


def blank(image: Image) -> bool:
    """True for a picture of one flat colour, which is what a safety checker or a crash of the decoder leaves."""
    return not np.ptp(np.asarray(image), axis=(0, 1)).any()
