"""From ledgers to paired comparisons: every arm against the baseline, sample by sample.

Rules, so that no arm can look better than it is:
- a sample that an arm failed on or left blank (one flat colour: a judge may find nothing wrong with it), or whose score is not a number,
  counts as the baseline's value: zero gain. All are counted.
- a sample that the baseline itself lacks (not finished, failed, blank, or not a number) says nothing and leaves the table for all arms.
  These are counted, too, and so is a set or a metric of which nothing is left.
- a sample that some arm has not finished yet leaves the table for all arms of the set.
- the unit is the prompt: seeds of one prompt are averaged before anything is resampled.
- a change in the last bits (``statistics.settled``) is none.
- p-values are adjusted for the number of arms (Holm), per set and metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np

from refine.bench import folder
from refine.bench.arms import Arm, steering
from refine.bench.folder import Line, Plan
from refine.bench.metrics import AREA, CORE, Metric
from refine.bench.samples import Sample
from refine.bench.work import tables
from refine.evals import statistics
from refine.evals.statistics import Floats, Interval

MISSING: Line = {}
Curve = tuple[tuple[int, float | None], ...]  # (denoiser evaluations spent, metric) at the start and after each kept attempt
WORSE = 0.001  # of the picture: a smaller artifact counts as none, as in the loop
SOLID = 20  # baselines above 0: with so many, no resample sums to 0
GRID = 32  # points of a curve over compute


@dataclass(frozen=True, slots=True)
class Row:
    """One arm against the baseline by one metric, in the metric's own unit; ``gain`` is arm − baseline (its sign: as measured).

    ratio: ratio of means − 1; mean_ratio: mean of ratios − 1 (None where a baseline is not above 0; the ratio of means is there as well
    where no value is negative and ``SOLID`` baselines are above 0). wins: share of the prompts with a difference where the arm is better.
    ``n`` prompts from ``pictures`` samples, of them ``failed`` (or blank) and ``nan`` at zero gain.
    """

    arm: str
    n: int
    pictures: int
    failed: int
    nan: int
    baseline: float
    mean: float
    gain: Interval
    ratio: Interval | None
    mean_ratio: Interval | None
    wins: Interval
    changed: int
    p: float
    p_holm: float
    steered: bool


@dataclass(frozen=True, slots=True)
class Duel:
    """``ours`` against another arm by the first metric, paired: ``gain`` is ours − arm (its sign: as measured), wins are those of ours."""

    arm: str
    gain: Interval
    wins: Interval
    changed: int
    p: float
    p_holm: float


Compared = TypeVar("Compared", Row, Duel)


@dataclass(frozen=True, slots=True)
class Cost:
    """What an arm spent per picture, and how it ended. Seconds by worker: generator, controller, rewards."""

    arm: str
    about: str
    pictures: int
    failed: int
    blank: int
    evaluations: float
    most_evaluations: int
    seconds: Mapping[str, float]
    flops: float | None
    tried: int
    accepted: int


@dataclass(frozen=True, slots=True)
class Harm:
    """What an arm made worse, by the held-out judge (None: no judge, or nothing to judge), and what it touched beside its masks.

    A picture is worse than another where its artifact area is larger by more than ``WORSE``, or where the prompt's core is not right any
    more. repairs: share of the accepted repairs that made the picture worse. pictures: share of the pictures that ended worse than the
    unrefined ones. strayed: of the pixels outside the mask of an accepted repaint, the share that changed.
    """

    arm: str
    accepted: int
    repairs: Interval | None
    pictures: Interval | None
    strayed: float | None


@dataclass(frozen=True, slots=True)
class Table:
    """One set: the arms in the suite's order, and for each metric the rows of all arms but the baseline.

    ours: the plan's, or where that does not run the first arm beside the baseline. left_out: samples by reason. dropped: metrics with a
    number on fewer than two prompts of the baseline. Without anything to compare, ``metrics`` is empty.
    """

    set: str
    baseline: str
    ours: str
    samples: tuple[Sample, ...]
    left_out: Mapping[str, int]
    metrics: tuple[Metric, ...]
    dropped: tuple[Metric, ...]
    rows: Mapping[str, tuple[Row, ...]]
    duels: tuple[Duel, ...]
    costs: tuple[Cost, ...]
    harm: tuple[Harm, ...]
    values: Mapping[tuple[str, str], Floats]  # (arm, metric) -> (samples,) with dropped ones at the baseline's value; NaN: left out
    curves: Mapping[str, tuple[Curve, ...]]  # arm -> per sample, by the first metric; empty where they are of another one


def summarise(where: Path, plan: Plan) -> list[Table]:
    """One table per set."""
    ledgers = {arm.name: folder.ledger(where, arm.name) for arm in plan.arms}
    return [table(name, plan, metrics, ledgers, flops(where)) for name, metrics in tables(plan).items()]


def flops(where: Path) -> Mapping[str, float | None]:
    """Operations per call, as counted when the bench began."""
    counted: Mapping[str, float | None] = folder.counted(where)["flops"]
    return counted


def table(
    name: str,
    plan: Plan,
    metrics: Sequence[Metric],
    ledgers: Mapping[str, Mapping[tuple[str, str], Line]],
    calls: Mapping[str, float | None],
) -> Table:
    """The comparisons of one set."""
    arms, group = plan.arms_of(name), plan.sets[name]
    others = [arm for arm in arms if arm.name != plan.baseline]
    lines = {arm.name: [ledgers[arm.name].get((name, sample.key), MISSING) for sample in group] for arm in arms}
    finished = [all(lines[arm.name][i] for arm in arms) for i in range(len(group))]
    whole = [done and not lost(line) for done, line in zip(finished, lines[plan.baseline], strict=True)]
    samples = tuple(sample for sample, there in zip(group, whole, strict=True) if there)
    kept = {arm: [line for line, there in zip(rows, whole, strict=True) if there] for arm, rows in lines.items()}
    values = {(arm.name, metric.name): column(kept[arm.name], kept[plan.baseline], metric) for arm in arms for metric in metrics}
    shown = tuple(one for one in metrics if others and len(by_prompt(values[plan.baseline, one.name][:, None], samples)) >= 2)
    ours = plan.ours if plan.ours in lines else next((arm.name for arm in others), plan.baseline)
    return Table(
        set=name,
        baseline=plan.baseline,
        ours=ours,
        samples=samples,
        left_out={"not finished by every arm": finished.count(False), "failed or blank unrefined": sum(finished) - sum(whole)},
        metrics=shown,
        dropped=tuple(metric for metric in metrics if metric not in shown),
        rows={one.name: adjusted([row(arm, one, samples, kept[arm.name], values, plan) for arm in others]) for one in shown},
        duels=adjusted([duel(ours, arm.name, shown[0], samples, values) for arm in others if arm.name != ours]) if shown else (),
        costs=tuple(spent(arm, kept[arm.name], calls) for arm in arms),
        harm=tuple(harmed(arm.name, kept[arm.name], kept[plan.baseline]) for arm in others),
        values=values,
        curves=curves(shown[0], kept) if shown else {},
    )


def curves(metric: Metric, kept: Mapping[str, Sequence[Line]]) -> dict[str, tuple[Curve, ...]]:
    """By arm, a curve per sample, which a lost picture has none of. Nothing where any is not of this metric."""
    drawn = [line for lines in kept.values() for line in lines if not lost(line)]
    if any(line.get("curve_of") != metric.name or (line["curve"][-1][1] is None) != (value(line, metric) is None) for line in drawn):
        return {}
    return {
        arm: tuple(() if lost(line) else tuple((spent, number) for spent, number in line["curve"]) for line in lines)
        for arm, lines in kept.items()
    }


def lost(line: Line) -> bool:
    """True for a sample without a picture, or with a blank one."""
    return "failed" in line or bool(line.get("blank"))


def value(line: Line, metric: Metric) -> float | None:
    """The number in a ledger's line; None where the picture is lost, or it is not a number."""
    found: float | None = None if lost(line) else line.get("metrics", {}).get(metric.name)
    return found


def column(lines: Sequence[Line], base: Sequence[Line], metric: Metric) -> Floats:
    """(samples,) values; where the arm has none, the baseline's; NaN where the baseline has none."""
    pairs = [(value(line, metric), value(other, metric)) for line, other in zip(lines, base, strict=True)]
    return np.array([math.nan if b is None else b if a is None else a for a, b in pairs], np.float64)


def row(
    arm: Arm, metric: Metric, samples: Sequence[Sample], lines: Sequence[Line], values: Mapping[tuple[str, str], Floats], plan: Plan
) -> Row:
    """One comparison; its Holm value is filled in by ``adjusted``."""
    base = values[plan.baseline, metric.name]
    pairs = by_prompt(np.stack([base, values[arm.name, metric.name]], 1), samples)
    used = [line for line, kept in zip(lines, np.isfinite(base).tolist(), strict=True) if kept]
    gains = metric.sign * (pairs[:, 1] - pairs[:, 0])
    positive = bool((pairs[:, 0] > 0).all())
    sums = positive or bool((pairs >= 0).all() and (pairs[:, 0] > 0).sum() >= SOLID)
    return Row(
        arm=arm.name,
        n=len(pairs),
        pictures=len(used),
        failed=sum(map(lost, used)),
        nan=sum(not lost(line) and value(line, metric) is None for line in used),
        baseline=float(pairs[:, 0].mean()),
        mean=float(pairs[:, 1].mean()),
        gain=statistics.bootstrap(pairs),
        ratio=statistics.bootstrap(pairs, statistics.relative_change) if sums else None,
        mean_ratio=statistics.bootstrap(pairs, statistics.mean_ratio_change) if positive else None,
        wins=statistics.win_rate(gains),
        changed=int((gains != 0).sum()),
        p=statistics.sign_test(gains),
        p_holm=math.nan,
        steered=metric.source in steering(arm.tree, plan.base),
    )


def duel(ours: str, other: str, metric: Metric, samples: Sequence[Sample], values: Mapping[tuple[str, str], Floats]) -> Duel:
    """``ours`` against another arm; its Holm value is filled in by ``adjusted``."""
    pairs = by_prompt(np.stack([values[other, metric.name], values[ours, metric.name]], 1), samples)
    gains = metric.sign * (pairs[:, 1] - pairs[:, 0])
    changed = int((gains != 0).sum())
    return Duel(other, statistics.bootstrap(pairs), statistics.win_rate(gains), changed, statistics.sign_test(gains), math.nan)


def by_prompt(pairs: Floats, samples: Sequence[Sample]) -> Floats:
    """(samples, k) to (prompts, k): rows with a NaN are left out, the others averaged over the seeds of their prompt, and settled."""
    there = np.flatnonzero(np.isfinite(pairs).all(axis=1)).tolist()
    return statistics.settled(statistics.group_means(pairs[there], [samples[index].id for index in there]))


def adjusted(rows: Sequence[Compared]) -> tuple[Compared, ...]:
    """The rows with p-values adjusted for their number."""
    holm = statistics.holm({row.arm: row.p for row in rows})
    return tuple(replace(row, p_holm=holm[row.arm]) for row in rows)


def spent(arm: Arm, lines: Sequence[Line], calls: Mapping[str, float | None]) -> Cost:
    """Means per finished picture."""
    done = [line for line in lines if "failed" not in line]
    count = max(1, len(done))
    workers = ("generator", "controller", "rewards")
    seconds = {name: sum(line["seconds"].get(name, 0.0) for line in done) / count for name in workers}
    asked = {name: sum(line["calls"].get(name, 0.0) for line in done) / count for name in workers}
    evaluations = [line["evaluations"] for line in done]
    amounts = {"evaluation": sum(evaluations) / count, "controller": asked["controller"], "rewards": asked["rewards"]}
    counted = [amount * (calls[name] or 0.0) for name, amount in amounts.items()]
    return Cost(
        arm=arm.name,
        about=arm.about,
        pictures=len(done),
        failed=len(lines) - len(done),
        blank=sum(line["blank"] for line in done),
        evaluations=amounts["evaluation"],
        most_evaluations=max(evaluations, default=0),
        seconds=seconds,
        flops=sum(counted) or None,
        tried=sum(line["attempts"] for line in done),
        accepted=sum(line["accepted"] for line in done),
    )


def harmed(arm: str, lines: Sequence[Line], base: Sequence[Line]) -> Harm:
    """Counts over finished pictures; a lost picture is the unrefined one, as everywhere."""
    walks = [line.get("judged", ()) for line in lines]
    rises = [is_worse(before, after) for walk in walks for before, after in pairwise(walk) if None not in (*before, *after)]
    ends = [[(value(one, AREA), value(one, CORE)) for one in (other, line)] for line, other in zip(lines, base, strict=True)]
    worse = [is_worse(before, after) for before, after in ends if None not in before]
    strayed = [share for line in lines for share in line.get("strayed", ())]
    return Harm(
        arm=arm,
        accepted=sum(line.get("accepted", 0) for line in lines),
        repairs=statistics.wilson(sum(rises), len(rises)) if rises else None,
        pictures=statistics.wilson(sum(worse), len(worse)) if worse else None,
        strayed=float(np.mean(strayed)) if strayed else None,
    )


def is_worse(before: Sequence[float | None], after: Sequence[float | None]) -> bool:
    """Of two readings (artifact area, core), whether the later one is worse; one without a number is not."""
    (area, core), (new_area, new_core) = before, after
    if area is None or core is None or new_area is None or new_core is None:
        return False
    return new_area - area > WORSE or new_core < core


def win_matrix(table: Table, metric: Metric) -> list[list[Interval | None]]:
    """Row beats column: the share of prompts with a difference where the row's arm is better; None on the diagonal."""
    arms = [cost.arm for cost in table.costs]

    def against(one: str, other: str) -> Interval | None:
        if one == other:
            return None
        pairs = np.stack([table.values[other, metric.name], table.values[one, metric.name]], 1)
        means = by_prompt(pairs, table.samples)
        return statistics.win_rate(metric.sign * (means[:, 1] - means[:, 0]))

    return [[against(one, other) for other in arms] for one in arms]


def by_category(table: Table, metric: Metric, arm: str) -> dict[str, tuple[int, Interval | None]]:
    """Prompts and mean gain (arm − baseline) per category; no interval below two prompts."""
    found: dict[str, tuple[int, Interval | None]] = {}
    for category in sorted({sample.category for sample in table.samples} - {""}):
        chosen = [index for index, sample in enumerate(table.samples) if sample.category == category]
        pairs = np.stack([table.values[name, metric.name][chosen] for name in (table.baseline, arm)], 1)
        means = by_prompt(pairs, [table.samples[index] for index in chosen])
        found[category] = (len(means), statistics.bootstrap(means) if len(means) > 1 else None)
    return found


def over_compute(table: Table, arm: str, most: int) -> list[tuple[int, Interval]]:
    """(denoiser evaluations, mean change by the first metric) from where every picture of the arm has begun.

    Bands are 95 % percentile bootstrap (2,000 resamples) over prompts. A picture counts with the last one it had kept by then.
    """
    metric = table.metrics[0]
    base = table.values[table.baseline, metric.name]
    final = table.values[arm, metric.name]
    starts = [steps[0][0] for steps in table.curves[arm] if steps]
    points = np.unique(np.linspace(max(starts, default=0), most, GRID).round().astype(int)).tolist()
    made = []
    for point in points:
        reached = [_reached(steps, point, end) for steps, end in zip(table.curves[arm], final, strict=True)]
        now = np.where(np.isfinite(reached), reached, base)
        means = by_prompt(np.stack([base, now], 1), table.samples)
        made.append((int(point), statistics.bootstrap(means, resamples=2_000, method="percentile")))
    return made


def _reached(steps: Curve, point: int, end: float) -> float:
    """The metric of the last picture kept within ``point`` evaluations; the final value where there is no curve (a lost picture)."""
    values = [number for spent, number in steps if spent <= point]
    return end if not steps else math.nan if not values or values[-1] is None else float(values[-1])
