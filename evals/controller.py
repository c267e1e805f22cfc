"""How good a controller is: one row of plain numbers per picture, and from rows the measures of LEGION's tables with their intervals.

Localisation (arXiv 2503.15264, table 2), per picture, between the union of the controller's masks and the union of the true ones:
    mIoU            mean of the IoU of the faults and of the IoU of everything else; finding nothing already gives about one half
    F1              of the faults' pixels; 1 where there is nothing to find and nothing was found
    foreground IoU  of the faults alone
then the mean over pictures, so that a large picture counts no more than a small one. "Pooled" figures add up pixels over all pictures
first. Pictures that are known to be clean are not in these means (a controller that finds nothing would score 1 on them): they
count in the share of clean pictures on which nothing was found.

Explanation (table 3): ROUGE-L and CSS of the whole answer against the whole reference. Both texts share a fixed opening, which lifts
ROUGE-L; the second ROUGE-L compares only phrases and explanations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from refine.errors import InputError
from refine.evals.datasets.items import Item
from refine.evals.statistics import Interval, Statistic, bootstrap, mean, mean_change, wilson
from refine.overlap import Overlap, overlap, rouge_l, union
from refine.types import Critique, Mask

UNTOUCHED = "none"  # the condition of a picture as it is
EXACT = 5_000  # rows up to which the interval is corrected for bias and skew, which takes time in their square and matters little beyond
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured on one picture under one condition. Pixel counts are None where places are not annotated; ``css`` comes later."""

    id: str
    condition: str
    width: int
    height: int
    regions: int
    predicted: int
    both: int | None
    true: int | None
    clean: bool
    fake: bool | None
    fake_probability: float | None
    answer: str
    reference: str
    rouge_l: float | None
    rouge_l_faults: float | None
    css: float | None = None
    groups: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()  # (kind, detail) of what was odd about the entry

    @property
    def overlap(self) -> Overlap | None:
        """The pixel counts as ``refine.overlap`` takes them."""
        if self.both is None or self.true is None:
            return None
        return Overlap(self.both, self.predicted, self.true, self.width * self.height)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Row:
        return Row(**(dict(data) | {"groups": tuple(data["groups"]), "notes": tuple((kind, text) for kind, text in data["notes"])}))


def measure(item: Item, critique: Critique, condition: str = UNTOUCHED) -> Row:
    """Compare what a controller says of a picture with its truth. Raises InputError where a mask is not in the picture's frame."""
    found = _union(critique, item.image.size)
    counts = overlap(found, item.mask) if item.mask is not None else None
    explained = bool(item.text) and not item.clean
    answer = told(critique)
    return Row(
        id=item.id,
        condition=condition,
        width=item.image.width,
        height=item.image.height,
        regions=len(critique.regions),
        predicted=int(found.sum()),
        both=counts.both if counts else None,
        true=counts.true if counts else None,
        clean=item.clean,
        fake=item.fake,
        fake_probability=critique.fake_probability,
        answer=answer,
        reference=item.text,
        rouge_l=rouge_l(answer, item.text) if explained else None,
        rouge_l_faults=rouge_l(_faults([(r.phrase, r.explanation) for r in critique.regions]), _faults(item.parts)) if explained else None,
        groups=item.groups,
        notes=tuple((note.kind, note.detail) for note in item.notes),
    )


def _union(critique: Critique, size: tuple[int, int]) -> Mask:
    """(H, W) bool, everything that the controller marked."""
    shape = (size[1], size[0])
    if wrong := [region.mask.shape for region in critique.regions if region.mask.shape != shape]:
        raise InputError(f"The controller gave a mask of {wrong[0]} for a picture of {shape} (H, W): it must be in the picture's frame.")
    return union(critique.regions, shape)


def told(critique: Critique) -> str:
    """A critique as SynthScars writes one: the summary, then ``phrase:explanation`` for each fault."""
    return " ".join([critique.summary, "".join(f"{region.phrase}:{region.explanation}" for region in critique.regions)]).strip()


def _faults(parts: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"{phrase} {explanation}" for phrase, explanation in parts)


# The measures of localisation, each from pixel counts: per picture, or pooled over (n, 4) rows of both, predicted, true, pixels.
PER_PICTURE: Mapping[str, Callable[[Overlap], float]] = {
    "mIoU": lambda one: one.miou,
    "F1": lambda one: one.f1,
    "foreground IoU": lambda one: one.iou,
}


def pooled_f1(counts: Floats) -> Floats:
    """(..., n, 4) -> (...)."""
    both, predicted, true = (counts[..., column].sum(-1) for column in range(3))
    return np.asarray(2 * both / np.maximum(predicted + true, 1))


def pooled_iou(counts: Floats) -> Floats:
    """(..., n, 4) -> (...)."""
    both, predicted, true = (counts[..., column].sum(-1) for column in range(3))
    return np.asarray(both / np.maximum(predicted + true - both, 1))


POOLED: Mapping[str, Statistic] = {"pooled F1": pooled_f1, "pooled IoU": pooled_iou}


def overlaps(rows: Sequence[Row]) -> list[Overlap]:
    """The pixel counts of the rows that count for localisation: annotated, and not known to be clean."""
    return [one for row in rows if not row.clean and (one := row.overlap) is not None]


def localisation(counts: Sequence[Overlap]) -> dict[str, Interval]:
    """Every measure with its 95 % bootstrap interval over pictures; empty for no picture."""
    if not counts:
        return {}
    singles = {name: interval([of(one) for one in counts]) for name, of in PER_PICTURE.items()}
    return singles | {name: interval(_table(counts), of) for name, of in POOLED.items()}


def estimates(counts: Sequence[Overlap]) -> dict[str, float]:
    """Every measure without its interval; needs one picture at least."""
    singles = {name: float(np.mean([of(one) for one in counts])) for name, of in PER_PICTURE.items()}
    return singles | {name: float(of(_table(counts))) for name, of in POOLED.items()}


def _table(counts: Sequence[Overlap]) -> Floats:
    """(n, 4): both, predicted, true, pixels."""
    return np.array([(one.both, one.predicted, one.true, one.pixels) for one in counts], np.float64)


def finds_nothing(one: Overlap) -> Overlap:
    """The floor: what a controller scores that marks no pixel."""
    return Overlap(0, 0, one.true, one.pixels)


def marks_everything(one: Overlap) -> Overlap:
    """The other floor: what a controller scores that marks every pixel."""
    return Overlap(one.true, one.pixels, one.true, one.pixels)


def explanation(rows: Sequence[Row]) -> dict[str, Interval]:
    """ROUGE-L of the whole answer and of the faults alone, and CSS where it was measured; means over pictures."""
    columns = {
        "ROUGE-L": [row.rouge_l for row in rows],
        "ROUGE-L of the faults": [row.rouge_l_faults for row in rows],
        "CSS": [row.css for row in rows],
    }
    measured = {name: [value for value in column if value is not None] for name, column in columns.items()}
    return {name: interval(column) for name, column in measured.items() if column}


def alarms(rows: Sequence[Row]) -> dict[str, Interval]:
    """Share of clean pictures on which nothing was found, and of faulty ones on which something was (Wilson intervals)."""
    quiet = [row.regions == 0 for row in rows if row.clean]
    heard = [row.regions > 0 for row in rows if not row.clean and row.true]
    shares = {"clean called clean": quiet, "faulty called faulty": heard}
    return {name: wilson(sum(right), len(right)) for name, right in shares.items() if right}


def by_group(rows: Sequence[Row]) -> dict[str, list[Overlap]]:
    """Pixel counts per group, groups by name; empty groups are left out."""
    names = sorted({name for row in rows for name in row.groups})
    grouped = {name: overlaps([row for row in rows if name in row.groups]) for name in names}
    return {name: counts for name, counts in grouped.items() if counts}


def plain_mean(groups: Mapping[str, Sequence[Overlap]], name: str, seed: int = 0, resamples: int = 10_000) -> Interval:
    """Mean of the groups' means of one measure, each group counting the same; 95 % bootstrap within each group.

    Without an interval (NaN) where a group has a single picture: it shows no spread.
    """
    rng = np.random.default_rng(seed)
    values = [np.array([PER_PICTURE[name](one) for one in counts]) for counts in groups.values()]
    estimate = float(np.mean([column.mean() for column in values]))
    if min(map(len, values)) < 2:
        return Interval(estimate, float("nan"), float("nan"))
    drawn = np.mean([_means(column, rng, resamples) for column in values], axis=0)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(estimate, float(low), float(high))


def _means(values: Floats, rng: np.random.Generator, resamples: int, chunk: int = 500) -> Floats:
    """(resamples,) means of draws with replacement."""
    drawn = [values[rng.integers(0, len(values), (chunk, len(values)))].mean(1) for _ in range(0, resamples, chunk)]
    return np.concatenate(drawn)


def change(before: Sequence[Row], after: Sequence[Row], name: str) -> Interval:
    """Mean of after − before of one measure over the pictures that were measured under both conditions. Needs one at least."""
    of = PER_PICTURE[name]
    earlier = {row.id: of(one) for row in before for one in overlaps([row])}
    pairs = [(earlier[row.id], of(one)) for row in after if row.id in earlier for one in overlaps([row])]
    return interval(np.array(pairs), mean_change)


def interval(values: npt.ArrayLike, statistic: Statistic = mean) -> Interval:
    """A statistic with its 95 % bootstrap interval; without an interval (NaN) for a single row."""
    rows = np.asarray(values, np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if len(rows) == 1:
        return Interval(float(statistic(rows)), float("nan"), float("nan"))
    if len(rows) <= EXACT:
        return bootstrap(rows, statistic)
    return bootstrap(rows, statistic, method="percentile", resamples=2_000)
