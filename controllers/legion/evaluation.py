"""How good a mini LEGION is on still lifes that it never saw (seeds from 2,000,000 on), through the same controller that the loop uses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from refine.controllers.legion.cache import draw
from refine.controllers.legion.controller import LegionController
from refine.controllers.legion.data import told
from refine.overlap import Overlap, overlap, rouge_l, union
from refine.stilllife.damage import Sample
from refine.types import Critique, Region

FIRST_SEED = 2_000_000
BARS: dict[str, float] = {
    "foreground F1": 0.55, "mIoU": 0.72, "category right": 0.85, "clean called clean": 0.90, "detector accuracy": 0.90,
}  # fmt: skip


def held_out(count: int, size: int = 128) -> Iterator[Sample]:
    """A damaged picture and its undamaged twin for each of ``count`` held-out seeds."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        yield from draw(seed, clean=1.0, size=size)


def evaluate(weights: Path, count: int) -> dict[str, float]:
    """Every measure of ``measures`` for the model in ``weights`` on ``count`` damaged and ``count`` undamaged pictures."""
    samples = list(held_out(count))
    controller = LegionController.from_pretrained(weights, batch_size=32, sam_batch=16, max_new_tokens=160)
    return measures(samples, controller.inspect([sample.image for sample in samples]))


def measures(samples: Sequence[Sample], critiques: Sequence[Critique]) -> dict[str, float]:
    """Masks and texts on damaged pictures (means over pictures; categories over matched faults), false alarms on undamaged ones."""
    pairs = list(zip(samples, critiques, strict=True))
    damaged = [(s, c) for s, c in pairs if s.regions]
    clean = [c for s, c in pairs if not s.regions]
    overlaps = [_overlap(s, c) for s, c in damaged]
    matches = [match for s, c in damaged for match in matched(s.regions, c.regions)]
    return {
        "foreground F1": _mean([o.f1 for o in overlaps]),
        "mIoU": _mean([o.miou for o in overlaps]),
        "category right": _mean([t.category == p.category for t, p in matches]),
        "clean called clean": _mean([not c.regions for c in clean]),
        "detector accuracy": _mean([((c.fake_probability or 0.0) > 0.5) == bool(s.regions) for s, c in pairs]),
        "damaged called damaged": _mean([bool(c.regions) for _, c in damaged]),
        "faults matched": len(matches) / max(1, sum(len(s.regions) for s, _ in damaged)),
        "phrase right": _mean([t.phrase == p.phrase for t, p in matches]),
        "ROUGE-L": _mean([rouge_l(_text([(r.phrase, r.explanation) for r in c.regions]), _text(told(s.regions))) for s, c in damaged]),
    }


def matched(true: Sequence[Region], predicted: Sequence[Region], least: float = 0.1) -> list[tuple[Region, Region]]:
    """True and predicted faults paired one to one, the largest IoU first; pairs of an IoU below ``least`` are none."""
    scored = [(overlap(p.mask, t.mask).iou, i, j) for i, t in enumerate(true) for j, p in enumerate(predicted)]
    pairs, used = list[tuple[Region, Region]](), set[tuple[str, int]]()
    for score, i, j in sorted(scored, reverse=True):
        if score >= least and not used & {("true", i), ("predicted", j)}:
            used |= {("true", i), ("predicted", j)}
            pairs.append((true[i], predicted[j]))
    return pairs


def table(found: Mapping[str, float]) -> str:
    """One line per measure, with the bar it has to reach where there is one."""
    lines = []
    for name, value in found.items():
        bar = BARS.get(name)
        lines.append(f"{name:24} {value:6.3f}" + (f"   bar {bar:.2f}  {'reached' if value >= bar else 'missed'}" if bar else ""))
    return "\n".join(lines)


def _overlap(sample: Sample, critique: Critique) -> Overlap:
    return overlap(union(critique.regions, sample.mask.shape), sample.mask)


def _text(groups: Sequence[tuple[str, str]]) -> str:
    return " ".join(f"{phrase} {explanation}" for phrase, explanation in groups)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
