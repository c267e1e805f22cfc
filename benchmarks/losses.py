"""Where does the loop lose? What is left of the error of damaged renders, by the step that left it.

    python -m benchmarks.losses --n 96    tuning seeds; one row per picture in runs/bench/losses.csv

Every pixel of the truth mask is booked once, by what the loop did with it: no attempt touched it, because the fault was not found or
because the mask was narrower than the fault; an attempt touched it and was rejected; or a repaint was kept, and what is left is how well
the generator paints. With ``--set policy=oracle-mask`` the same books for the true masks: the ceiling of the controller.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import common
from benchmarks.recipe import SEED0
from benchmarks.repair import damaged, gap
from refine.bench.work import Known
from refine.errors import spoken
from refine.evals import statistics
from refine.evals.statistics import Floats
from refine.stilllife.damage import Sample
from refine.types import Attempt, Mask, Record

FOUND = 0.1  # a fault is found where an attempt may change at least this share of it
BETTER = 0.7  # a candidate is truly better where it leaves less than this share of the error in the truth that it may change
BOOKS = ("gone", "not_found", "too_narrow", "rejected", "repainted")
TITLES = ("gone", "left: fault not found", "left: mask narrower than the fault", "left: attempt rejected", "left: repainted, and kept")


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(seed0=SEED0, n=96)
    args = parser.parse_args(argv)
    chosen = common.settings(args)
    bench = common.load(args, chosen)
    path = args.out / f"losses{'-hard' if args.hard else ''}.csv"
    rows = common.collect(path, {"config": chosen.tree, "hard": args.hard}, args, bench.batch, lambda seeds: make(bench, seeds, args.hard))
    if len(rows) > 1:
        common.report(f"losses on damaged renders, n = {len(rows)}, [95 % CI]", summarise(rows), path)


def make(bench: common.Bench, seeds: Sequence[int], hard: bool) -> list[common.Row]:
    """Refine damaged renders and keep the books."""
    samples = [damaged(seed, hard) for seed in seeds]
    known = dataclasses.replace(bench.models, truth=Known(tuple(sample.clean for sample in samples)))
    informed = dataclasses.replace(bench, models=known)
    records = informed.refine([s.caption for s in samples], list(seeds), [s.image for s in samples])
    return [{"seed": seed, **books(sample, record)} for seed, sample, record in zip(seeds, samples, records, strict=True)]


def books(sample: Sample, record: Record) -> dict[str, float | str]:
    """One row. ``before`` and the books: mean error over the truth mask, in levels of 255; the books add up to ``before``."""
    attempts = record.repairs
    truth = sample.mask
    before, after = (gap(image, sample.clean) for image in (record.first.image, record.best.image))
    tried, kept = (covered(truth, attempts, kept_only) for kept_only in (False, True))
    found = {index: bool((region.mask & tried).sum() >= FOUND * region.mask.sum()) for index, region in enumerate(sample.regions)}
    missed = np.zeros_like(truth)
    for index, region in enumerate(sample.regions):
        missed |= region.mask & ~tried & (not found[index])
    places = {"not_found": missed, "too_narrow": truth & ~tried & ~missed, "rejected": tried & ~kept, "repainted": kept}
    left = {name: float((after * (place & truth)).sum() / truth.sum()) for name, place in places.items()}
    start = float(before[truth].mean())
    faults = " ".join(f"{kind}:{'found' if found[index] else 'missed'}" for index, kind in enumerate(sample.kinds))
    return {"before": start, "gone": start - sum(left.values()), **left, "faults": faults, **decisions(sample, record, attempts, truth)}


def covered(truth: Mask, attempts: Sequence[Attempt], kept_only: bool) -> Mask:
    """The pixels that attempts (those with a kept candidate only) may change; a redraw may change all."""
    mask = np.zeros_like(truth)
    for attempt in attempts:
        if attempt.kept is not None or not kept_only:
            mask |= True if attempt.mask is None else attempt.mask
    return mask


def decisions(sample: Sample, record: Record, attempts: Sequence[Attempt], truth: Mask) -> dict[str, float | str]:
    """How the gate's verdicts agree with truth, and what a better choice among the accepted candidates would win."""
    reasons: Counter[str] = Counter()
    count: Counter[str] = Counter()
    chosen, least, image = 0.0, 0.0, record.first.image
    for attempt in attempts:
        place = truth if attempt.mask is None else truth & attempt.mask
        old = float(gap(image, sample.clean)[place].sum())
        new = [float(gap(candidate.image, sample.clean)[place].sum()) for candidate in attempt.candidates]
        accepted = [verdict.accepted for verdict in attempt.verdicts]
        reasons.update(verdict.reason for verdict in attempt.verdicts)
        for error, taken in zip(new, accepted, strict=True):
            count[f"{'accepted' if taken else 'rejected'}_{'better' if error < BETTER * old else 'worse'}"] += 1
        if attempt.kept is not None:
            chosen += new[attempt.kept] / float(truth.sum())
            least += min(error for error, taken in zip(new, accepted, strict=True) if taken) / float(truth.sum())
            image = attempt.candidates[attempt.kept].image
    names = ("accepted_better", "accepted_worse", "rejected_better", "rejected_worse")
    return {
        "kept_error": chosen,
        "best_accepted_error": least,
        **{name: float(count[name]) for name in names},
        "reasons": " ".join(f"{reason}:{times}" for reason, times in sorted(reasons.items())),
    }


def summarise(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """The books as shares of the error before, then the decisions, then what was found, by kind of fault."""
    before = common.column(rows, "before")
    lines = [("error inside the truth mask before, of 255", f"{before.mean():.1f}")]
    for name, title in zip(BOOKS, TITLES, strict=True):
        pairs = np.stack([before, common.column(rows, name)], 1)
        lines.append((title, common.percent(statistics.bootstrap(pairs, share))))
    kept, least = (common.column(rows, name).mean() for name in ("kept_error", "best_accepted_error"))
    lines.append(("error where kept: of the choice, of the best accepted candidate", f"{kept:.1f}, {least:.1f}"))
    for name in ("accepted", "rejected"):
        good, bad = (int(common.column(rows, f"{name}_{how}").sum()) for how in ("better", "worse"))
        lines.append((f"candidates {name}: truly better, not", f"{good}, {bad}"))
    lines += [(f"verdict {reason}", str(times)) for reason, times in verdicts(rows).most_common()]
    seen = Counter(word for row in rows for word in row["faults"].split())
    kinds = sorted({word.partition(":")[0] for word in seen})
    return lines + [(f"{kind}: found, missed", f"{seen[f'{kind}:found']}, {seen[f'{kind}:missed']}") for kind in kinds]


def share(pairs: Floats) -> Floats:
    """Sum of the second column over the sum of the first, along the last axis but one."""
    return np.asarray(pairs[..., 1].sum(-1) / pairs[..., 0].sum(-1))


def verdicts(rows: Sequence[Mapping[str, str]]) -> Counter[str]:
    """How many candidates got which reason code."""
    total: Counter[str] = Counter()
    for row in rows:
        for word in row["reasons"].split():
            reason, _, times = word.partition(":")
            total[reason] += int(times)
    return total


if __name__ == "__main__":
    spoken(main)
