"""One repair of each fault that is found, many candidates, every gate: which margins and which choice keep what truth calls better?

    python -m benchmarks.gate --n 96 --set generator.dtype=bfloat16

Damaged renders of tuning seeds, one repair of each found region of the picture as it is given, all candidates kept in memory. Then gates,
orders and sets of strengths are compared on the same candidates, which costs nothing. "Gone" is the error inside the truth masks that the
kept repairs take away; "worse" is a kept repair after which the judge's artifact area is larger by more than 0.1 % of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks import common
from benchmarks.recipe import SEED0
from benchmarks.repair import damaged, gap
from refine import stages
from refine.bench.summary import WORSE
from refine.errors import spoken
from refine.evals.judge import Judge
from refine.gate import Gate
from refine.types import Candidate, Mask, Verdict

DRAWS = (0.85, 0.85, 0.6, 0.6, 0.4, 0.4, 0.25)
SETS: Mapping[str, tuple[float, ...]] = {
    "0.85 0.6 0.4": (0.85, 0.6, 0.4), "0.85": (0.85,), "0.6": (0.6,), "0.4": (0.4,), "0.25": (0.25,), "0.6 0.25": (0.6, 0.25),
    "0.6 0.4 0.25": (0.6, 0.4, 0.25), "0.85 0.6 0.4 0.25": (0.85, 0.6, 0.4, 0.25), "0.6 0.6 0.4 0.4": (0.6, 0.6, 0.4, 0.4), "all": DRAWS,
}  # fmt: skip
ORDERS: Mapping[str, Callable[[Mapping[str, float], float], float]] = {
    "cleanest": lambda numbers, strength: -mass(numbers, "after") + 1e-3 * numbers["gain"],
    "best liked": lambda numbers, strength: numbers["gain"],
    "weakest change": lambda numbers, strength: -strength,
    "strongest change": lambda numbers, strength: strength,
    "both, as shipped": lambda numbers, strength: Gate().merit(numbers)[0],
}


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """One region: its candidates, what truth and judge say of each. Errors: sum inside the truth mask, over the mask's pixels."""

    first: Candidate
    before: Candidate
    options: tuple[Candidate, ...]
    mask: Mask | None
    error: float
    errors: tuple[float, ...]
    area: float
    areas: tuple[float, ...]


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(seed0=SEED0, n=96)
    args = parser.parse_args(argv)
    bench = common.load(args, common.settings(args))
    seeds = range(args.seed0, args.seed0 + args.n)
    tried: list[Tried] = []
    total = 0.0
    for start in range(0, len(seeds), bench.batch):
        found, errors = collect(bench, seeds[start : start + bench.batch], args.hard)
        tried, total = [*tried, *found], total + errors
    args.out.mkdir(parents=True, exist_ok=True)
    common.report(
        f"{len(tried)} regions of {args.n} damaged renders: kept, gone, worse", compared(tried, total, bench.gate), args.out / "gate.csv"
    )


def collect(bench: common.Bench, seeds: Sequence[int], hard: bool) -> tuple[list[Tried], float]:
    """One batch: every region tried once, and the error of all pictures."""
    samples, models = [damaged(seed, hard) for seed in seeds], bench.models
    prompts, images = [sample.caption for sample in samples], [sample.image for sample in samples]
    policy = replace(bench.policy, strengths=DRAWS)
    firsts, _ = stages.begin(prompts, list(seeds), images, models, stages.ignore)
    places = [(index, region) for index, first in enumerate(firsts) for region in policy.faults(first.critique)]
    asked = [
        stages.trial(prompts[i], seeds[i], (0, turn), firsts[i], region, policy, models, None) for turn, (i, region) in enumerate(places)
    ]
    proposals = stages.propose([one for one in asked if one], models, stages.ignore, 1)
    truths = [sample.mask for sample in samples]
    tried = []
    for (index, _), (trial, options) in zip(places, proposals, strict=True):
        mask = trial.where.touched if trial.where else None
        truth = truths[index] if mask is None else truths[index] & mask
        clean, pixels = samples[index].clean, float(truths[index].sum())
        error, *errors = (float(gap(image, clean)[truth].sum()) / pixels for image in (images[index], *(o.image for o in options)))
        area, *areas = seen(bench.judge, [firsts[index], *options])
        tried.append(Tried(firsts[index], trial.before, tuple(options), mask, error, tuple(errors), area, tuple(areas)))
    before = sum(float(gap(image, sample.clean)[truth].mean()) for image, sample, truth in zip(images, samples, truths, strict=True))
    return tried, before


def seen(judge: Judge, candidates: Sequence[Candidate]) -> list[float]:
    """Artifact areas, as shares of the picture."""
    return [reading.artifact_area for reading in judge.read([candidate.image for candidate in candidates])]


def compared(tried: Sequence[Tried], total: float, gate: Gate) -> list[tuple[str, str]]:
    """One row per gate, order and set of strengths, everything else as it is configured."""
    shipped = "both, as shipped"
    plain = SETS["0.85 0.6 0.4"]
    rows = [("as configured", outcome(tried, total, gate, shipped, plain))]
    rows += [
        (f"gate.rise {rise}", outcome(tried, total, replace(gate, rise=rise), shipped, plain)) for rise in (0.001, 0.005, 0.01, 0.02, 1.0)
    ]
    rows += [(f"gate.fall {fall}", outcome(tried, total, replace(gate, fall=fall), shipped, plain)) for fall in (0.0, 0.1, 0.2, 0.3, 0.5)]
    rows += [(f"order: {order}", outcome(tried, total, gate, order, plain)) for order in ORDERS]
    rows += [(f"strengths {name}", outcome(tried, total, gate, shipped, strengths)) for name, strengths in SETS.items()]
    return [*rows, ("no gate, truth chooses", ceiling(tried, total))]


def outcome(tried: Sequence[Tried], total: float, gate: Gate, order: str, strengths: Sequence[float]) -> str:
    """ "60 of 98, 36.2 %, 3"."""
    kept = gone = worse = 0.0
    for one in tried:
        verdicts = [gate.judge(one.first, one.before, option, one.mask) for option in one.options]
        chosen = best(verdicts, one, order, strengths)
        if chosen is not None:
            kept, gone = kept + 1, gone + one.error - one.errors[chosen]
            worse += one.areas[chosen] - one.area > WORSE
    return f"{kept:.0f} of {len(tried)}, {100 * gone / total:.1f} %, {worse:.0f}"


def best(verdicts: Sequence[Verdict], tried: Tried, order: str, strengths: Sequence[float]) -> int | None:
    """The accepted candidate that comes first in this order, of those with these strengths (as many of each as are named)."""
    left, merits = list(strengths), {}
    for index, (option, verdict) in enumerate(zip(tried.options, verdicts, strict=True)):
        assert option.strength is not None
        if option.strength in left:
            left.remove(option.strength)
            if verdict.accepted:
                merits[index] = ORDERS[order](verdict.numbers, option.strength)
    return max(merits, key=merits.__getitem__, default=None)


def ceiling(tried: Sequence[Tried], total: float) -> str:
    """The candidate nearest to the clean render, if it is nearer than the picture: what no choice can beat."""
    gone = sum(max(0.0, one.error - min(one.errors)) for one in tried)
    return f"{sum(min(one.errors) < one.error for one in tried)} of {len(tried)}, {100 * gone / total:.1f} %"


def mass(numbers: Mapping[str, float], when: str) -> float:
    """Artifact mass of the whole picture, in pixels."""
    return numbers[f"inside_{when}"] + numbers[f"outside_{when}"]


if __name__ == "__main__":
    spoken(main)
