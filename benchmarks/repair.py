"""Does the loop help, and does it harm? Judged by the held-out judge and by truth, which steered nothing.

    python -m benchmarks.repair prompts    the loop on held-out prompts: artifact area and prompt accuracy, before and after
    python -m benchmarks.repair damaged    the loop on damaged renders: error against the clean render inside the truth mask
    python -m benchmarks.repair clean      the loop on clean renders: how many it changes at all

One row per image in runs/bench/repair-<mode>.csv. Rewards are shown too, marked as steered: the gate looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks import common
from refine.errors import spoken
from refine.evals import statistics
from refine.stilllife.damage import Sample, sample_damage
from refine.stilllife.render import render
from refine.types import Image, Inpaint, Mask, Record

FAULT_PROBABILITIES = (0.5, 0.35, 0.15)  # one, two or three faults in a damaged render


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.add_argument("mode", choices=tuple(MODES))
    args = parser.parse_args(argv)
    chosen = common.settings(args)
    bench = common.load(args, chosen)
    make, summarise = MODES[args.mode]
    path = args.out / f"repair-{args.mode}{'-hard' if args.hard else ''}.csv"
    identity = {"config": chosen.tree, "hard": args.hard}
    rows = common.collect(path, identity, args, bench.batch, lambda seeds: make(bench, seeds, args.hard))
    if len(rows) > 1:
        common.report(f"loop on {args.mode}, n = {len(rows)}, [95 % CI]", summarise(rows) + bookkeeping(rows), path)


def on_prompts(bench: common.Bench, seeds: Sequence[int], hard: bool) -> list[common.Row]:
    """Draw, refine, and let the judge read the first and the best picture."""
    prompts = [common.scene_and_prompt(seed, hard)[1] for seed in seeds]
    records = bench.refine(prompts, list(seeds))
    return [{"seed": seed, **judged(bench, record)} for seed, record in zip(seeds, records, strict=True)]


def on_damaged(bench: common.Bench, seeds: Sequence[int], hard: bool) -> list[common.Row]:
    """Refine damaged renders; compare with the clean ones inside the truth mask and outside."""
    samples = [damaged(seed, hard) for seed in seeds]
    records = bench.refine([s.caption for s in samples], list(seeds), [s.image for s in samples])
    return [
        {"seed": seed, "kinds": " ".join(sample.kinds), **errors(sample, record), **judged(bench, record)}
        for seed, sample, record in zip(seeds, samples, records, strict=True)
    ]


def on_clean(bench: common.Bench, seeds: Sequence[int], hard: bool) -> list[common.Row]:
    """Refine clean renders, which need nothing."""
    scenes = [common.scene_and_prompt(seed, hard) for seed in seeds]
    records = bench.refine([prompt for _, prompt in scenes], list(seeds), [render(scene).image for scene, _ in scenes])
    return [
        {"seed": seed, "changed": float(different(record.first.image, record.best.image).any()), **judged(bench, record)}
        for seed, record in zip(seeds, records, strict=True)
    ]


def damaged(seed: int, hard: bool) -> Sample:
    """A damaged render with at least one fault; a scene that shows none is drawn again from the same generator."""
    rng = np.random.default_rng(seed)
    while True:
        sample = sample_damage(rng, faults=1 + int(rng.choice(3, p=FAULT_PROBABILITIES)), hard=hard)
        if sample.regions:
            return sample


def errors(sample: Sample, record: Record) -> dict[str, float]:
    """Mean absolute difference from the clean render, in levels of 255, inside and outside the truth mask."""
    mask = sample.mask
    columns: dict[str, float] = {}
    for name, image in (("before", record.first.image), ("after", record.best.image)):
        error = gap(image, sample.clean)
        columns |= {f"inside_{name}": float(error[mask].mean()), f"outside_{name}": float(error[~mask].mean())}
    return columns


def gap(image: Image, clean: Image) -> statistics.Floats:
    """(H, W) mean absolute difference of the channels, in levels of 255."""
    return np.asarray(np.abs(np.asarray(image, np.float64) - np.asarray(clean, np.float64)).mean(2))


def judged(bench: common.Bench, record: Record) -> dict[str, float | str]:
    """What the judge reads before and after, the rewards, and what the loop did."""
    first, best = bench.judge.read([record.first.image, record.best.image])
    columns: dict[str, float | str] = {"prompt": record.prompt}
    columns |= common.graded("before_", first, record.prompt) | common.graded("after_", best, record.prompt)
    for when, candidate in (("before", record.first), ("after", record.best)):
        columns |= {f"reward_{when}:{name}": score for name, score in candidate.scores.items()}
    return columns | activity(record)


def activity(record: Record) -> dict[str, float | str]:
    """Repairs tried, accepted ones, accepted ones that repaint a region, and how many of those kept every other pixel."""
    attempts = [attempt for turn in record.rounds for attempt in turn.attempts]
    image, repaints, identical = record.first.image, 0, 0
    for attempt in attempts:
        if attempt.kept is None:
            continue
        after = attempt.candidates[attempt.kept].image
        if isinstance(attempt.action, Inpaint) and attempt.mask is not None:
            repaints += 1
            identical += not (different(image, after) & ~attempt.mask).any()
        image = after
    return {
        "attempts": len(record.repairs),
        "accepted": sum(attempt.kept is not None for attempt in record.repairs),
        "repaints": repaints,
        "identical": identical,
        "evaluations": record.evaluations,
        "seconds": round(record.seconds, 3),
        "stop": record.stop_reason,
    }


def different(one: Image, other: Image) -> Mask:
    """(H, W) True where two RGB images of one size differ."""
    changed: Mask = (np.asarray(one) != np.asarray(other)).any(2)
    return changed


def summarise_prompts(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Artifact area (paired, relative), faulty pictures, prompt accuracy, rewards."""
    areas = common.column(rows, "before_area", "after_area")
    lines = [
        ("artifact area", arrow(areas, 100, " %")),
        ("artifact area, relative change", common.percent(statistics.bootstrap(areas, statistics.relative_change))),
        ("pictures whose area fell, of those where it changed", common.percent(statistics.win_rate(areas[:, 0] - areas[:, 1]))),
        ("sign test, p", f"{statistics.sign_test(areas[:, 1] - areas[:, 0]):.2g}"),
        ("pictures that the judge calls faulty", arrow(common.column(rows, "before_faulty", "after_faulty"), 100, " %")),
    ]
    for name in common.MEASURES:
        pairs = common.column(rows, f"before_{name}", f"after_{name}")
        change = statistics.bootstrap(pairs)
        lines.append((f"prompt accuracy, {name}", f"{arrow(pairs, 100, ' %')}, change {common.percent(change)}"))
    return lines + rewards(rows)


def rewards(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Mean of each reward before and after, with the interval of the change. The gate looks at them, so they prove nothing."""
    names = [name.removeprefix("reward_before:") for name in rows[0] if name.startswith("reward_before:")]
    lines = []
    for name in names:
        pairs = common.column(rows, f"reward_before:{name}", f"reward_after:{name}")
        lines.append((f"{name} (steered)", f"{arrow(pairs, 1, '')}, change {statistics.bootstrap(pairs)}"))
    return lines


def summarise_damaged(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Error inside and outside the truth mask, then everything that is shown for prompts."""
    inside = common.column(rows, "inside_before", "inside_after")
    outside = common.column(rows, "outside_before", "outside_after")
    return [
        ("error inside the truth mask, of 255", arrow(inside, 1, "")),
        ("error inside, relative change", common.percent(statistics.bootstrap(inside, statistics.relative_change))),
        ("error outside the truth mask, of 255", arrow(outside, 1, "")),
        *summarise_prompts(rows),
    ]


def summarise_clean(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """Harm."""
    changed = common.column(rows, "changed")
    worse = common.column(rows, "after_area") > common.column(rows, "before_area")
    return [
        ("clean renders changed at all", common.percent(statistics.wilson(int(changed.sum()), len(rows)))),
        ("clean renders with more artifact area after", common.percent(statistics.wilson(int(worse.sum()), len(rows)))),
    ]


def bookkeeping(rows: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """What the loop did and cost."""
    total = {name: int(common.column(rows, name).sum()) for name in ("attempts", "accepted", "repaints", "identical")}
    return [
        ("repairs accepted / tried", f"{total['accepted']} / {total['attempts']}"),
        ("accepted repaints with every pixel outside the mask identical", f"{total['identical']} / {total['repaints']}"),
        ("denoiser evaluations, mean per image", f"{common.column(rows, 'evaluations').mean():.1f}"),
        ("seconds, mean per image", f"{common.column(rows, 'seconds').mean():.2f}"),
    ]


def arrow(pairs: statistics.Floats, scale: float, unit: str) -> str:
    """ "3.21 % → 2.10 %", means of the two columns."""
    before, after = scale * pairs.mean(0)
    return f"{before:.3g}{unit} → {after:.3g}{unit}"


MODES = {
    "prompts": (on_prompts, summarise_prompts),
    "damaged": (on_damaged, summarise_damaged),
    "clean": (on_clean, summarise_clean),
}

if __name__ == "__main__":
    spoken(main)
