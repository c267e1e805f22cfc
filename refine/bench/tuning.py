"""Fit the gate's margins and the strengths to a person's own model and images (``refine tune``).

Principle: a margin is what happens by chance. On images of the tuning half, a patch where the controller finds nothing is repainted weakly
with the right prompt, as the loop would do it. That repairs nothing, so whatever moves is noise, and its 90th percentile is the margin:
  noise, crop_noise   how far each reward falls, on the whole image and on the crop
  rise                how much artifact mass appears beside the patch, as a share of the image
  suspicion           how far the detector's probability rises, where the controller has a detector
  fall                how far the mass of a fault that was not touched falls, as a share of it (at least ``LEAST_FALL``)
Strengths: one round with a grid of them on the faults of the tuning half; those that repair the most regions between them, as the fitted
gate judges. The other half is never looked at until the end, and the report is about it alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from refine import regions, repair
from refine.engine import Engine, batches
from refine.errors import InputError
from refine.evals import statistics
from refine.evals.statistics import Interval
from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.types import Attempt, Critique, Generator, Image, Inpaint, Mask, Record, Region

T = TypeVar("T")

QUANTILE = 0.9
WEAK = 0.4  # strength of a repaint that should change nothing of meaning
SIDES = (0.12, 0.4)  # of the patch, as a share of the image's sides
TRIES = 30  # places for a patch
LEAST_FALL = 0.1  # less than a tenth of a fault gone is no repair, however steady the controller is
GRID = (0.9, 0.75, 0.6, 0.45, 0.3)
LEAST = 16  # images: a half of fewer has no 90th percentile


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One image with its prompt, and what the controller finds in it."""

    image: Image
    prompt: str
    seed: int
    critique: Critique


@dataclass(frozen=True, slots=True)
class Chance:
    """What one harmless repaint moved: falls of rewards (crop: empty where the crop is the whole image), rise, falls of other faults, and
    the rise of the detector's probability (None: there is no detector)."""

    drops: Mapping[str, float]
    crop_drops: Mapping[str, float]
    rise: float
    falls: tuple[float, ...]
    suspicion: float | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A gate and strengths, and from how much they were fitted. Strengths None: no region was repaired, so they say nothing."""

    gate: Gate
    strengths: tuple[float, ...] | None
    repaints: int
    untouched: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """A configuration on the report half: regions repaired of those tried, controller's artifact area (it steers), evaluations."""

    repaired: Interval | None
    tried: int
    area: Interval
    evaluations: float


def halves(items: Sequence[T], prompt: Callable[[T], str], seed: int = 0) -> tuple[list[T], list[T]]:
    """A random half to tune on, the rest to report on; all images of a prompt are in the same one. Raises InputError for fewer than
    ``LEAST`` items, a single prompt, or one with so many that less than a quarter is left for a half."""
    if len(items) < LEAST:
        raise InputError(f"{len(items)} images are too few to tune on: half of them is for the report. Give at least {LEAST}.")
    counts = Counter(map(prompt, items))
    if len(counts) < 2:
        raise InputError(f"{len(items)} images have one prompt, {next(iter(counts))!r}. Half of the prompts is for the report; give two.")
    names = list(counts)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    sizes = np.cumsum([counts[name] for name in order])
    cut = int(np.abs(sizes[:-1] - len(items) / 2).argmin())
    if 4 * min(sizes[cut], len(items) - sizes[cut]) < len(items):
        [(most, count)] = counts.most_common(1)
        raise InputError(f"{count} of {len(items)} images have one prompt, {most!r}: the half without it is too small. Give more prompts.")
    tuned = set(order[: 1 + cut])
    return [item for item in items if prompt(item) in tuned], [item for item in items if prompt(item) not in tuned]


def look(engine: Engine, prompts: Sequence[str], seeds: Sequence[int], images: Sequence[Image | None]) -> list[Case]:
    """Draw what is not given, and inspect all."""
    cases: list[Case] = []
    for part in batches(list(zip(prompts, seeds, images, strict=True)), engine.batch):
        missing = [(prompt, seed) for prompt, seed, image in part if image is None]
        drawn = iter(engine.models.generator.draw([p for p, _ in missing], [s for _, s in missing]) if missing else [])
        ready = [next(drawn) if image is None else image for _, _, image in part]
        critiques = engine.models.controller.inspect(ready)
        cases += [Case(image, p, s, critique) for (p, s, _), image, critique in zip(part, ready, critiques, strict=True)]
    return cases


def fit(engine: Engine, cases: Sequence[Case]) -> Fitted:
    """Margins, then strengths under them. Raises InputError where no image has room for a harmless patch."""
    chances = [chance for part in batches(cases, engine.batch) for chance in harmless(engine, part)]
    if not chances:
        raise InputError("The controller finds faults all over these images: there is no room for a harmless patch. Give cleaner images.")
    gate = margins(engine.gate, chances)
    trial = replace(engine, gate=gate, policy=replace(engine.policy, strengths=GRID), budget=Budget(rounds=1))
    attempts = [attempt for record in refine(trial, cases) for attempt in repaints(record)]
    chosen = best_strengths(attempts, engine.models.generator, len(engine.policy.strengths))
    return Fitted(gate, chosen, len(chances), sum(len(chance.falls) for chance in chances), len(attempts))


def harmless(engine: Engine, cases: Sequence[Case]) -> list[Chance]:
    """Repaint a patch of each image where nothing was found; images without room for one are left out."""
    models, policy = engine.models, engine.policy
    patches = [(case, patch(case.critique.heat > 0, np.random.default_rng(case.seed))) for case in cases]
    fits = models.generator.fits
    actions = [(case, Inpaint(Region(mask, "a patch"), fits(case.prompt)[0])) for case, mask in patches if mask is not None]
    if not actions:
        return []
    plans = [repair.plan(action, case.image, policy, models.generator) for case, action in actions]
    jobs = [repair.job(where, action, case.image, WEAK, case.seed) for where, (case, action) in zip(plans, actions, strict=True)]
    painted = models.generator.inpaint(jobs)
    after = [repair.put_back(where, case.image, image) for where, (case, _), image in zip(plans, actions, painted, strict=True)]
    before = [case.image for case, _ in actions]
    prompts = [case.prompt for case, _ in actions]
    whole = reward_drops(engine, before, after, prompts)
    old, new = ([image.crop(where.box) for image, where in zip(some, plans, strict=True)] for some in (before, after))
    crops = reward_drops(engine, old, new, prompts)
    critiques = models.controller.inspect(after)
    return [
        Chance(
            drop,
            {} if repair.whole(action, where, case.image) else crop,
            max(0.0, beside(critique, where.mask) - beside(case.critique, where.mask)) / (case.image.width * case.image.height),
            tuple(untouched_falls(case.critique, critique, where.mask)),
            risen(case.critique.fake_probability, critique.fake_probability),
        )
        for (case, action), where, drop, crop, critique in zip(actions, plans, whole, crops, critiques, strict=True)
    ]


def patch(taken: Mask, rng: np.random.Generator) -> Mask | None:
    """(H, W) a random ellipse that touches nothing of ``taken``; None where none was found."""
    size = np.array(taken.shape[::-1])
    y, x = np.mgrid[: size[1], : size[0]]
    for _ in range(TRIES):
        axes = rng.uniform(*SIDES, 2) * size / 2
        centre = rng.uniform(axes, size - axes)
        mask: Mask = ((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2 <= 1
        if mask.any() and not (mask & taken).any():
            return mask
    return None


def reward_drops(engine: Engine, before: Sequence[Image], after: Sequence[Image], prompts: Sequence[str]) -> list[dict[str, float]]:
    """How far each reward fell, per image (negative: it rose)."""
    columns = {r.name: np.array(r.score(before, prompts)) - np.array(r.score(after, prompts)) for r in engine.models.rewards}
    return [{name: float(column[index]) for name, column in columns.items()} for index in range(len(before))]


def beside(critique: Critique, touched: Mask) -> float:
    """Artifact mass outside a mask, in pixels."""
    return critique.mass - regions.heat_in(critique.heat, touched)


def risen(before: float | None, after: float | None) -> float | None:
    """How far the detector's probability rose; None without a detector."""
    return None if before is None or after is None else max(0.0, after - before)


def untouched_falls(before: Critique, after: Critique, touched: Mask) -> Iterator[float]:
    """Relative loss of mass inside each region that the repaint did not touch."""
    for region in before.regions:
        mass = regions.heat_in(before.heat, region.mask)
        if mass > 0 and not (region.mask & touched).any():
            yield max(0.0, 1 - regions.heat_in(after.heat, region.mask) / mass)


def margins(gate: Gate, chances: Sequence[Chance]) -> Gate:
    """The gate with margins at the 90th percentile of chance; what was not measured stays. Values that are not numbers are left out."""
    falls = [fall for chance in chances for fall in chance.falls]
    crops = [chance.crop_drops for chance in chances if chance.crop_drops]
    suspicions = [chance.suspicion for chance in chances if chance.suspicion is not None]
    return replace(
        gate,
        noise=quantiles([chance.drops for chance in chances]),
        crop_noise=quantiles(crops) if crops else gate.crop_noise,
        rise=percentile([chance.rise for chance in chances]),
        fall=max(LEAST_FALL, percentile(falls)) if falls else gate.fall,
        suspicion=percentile(suspicions) if suspicions else gate.suspicion,
    )


def percentile(values: Sequence[float]) -> float:
    """The 90th percentile, to three figures."""
    return float(f"{np.quantile(values, QUANTILE):.3g}")


def quantiles(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Per reward, the 90th percentile of its falls, not below 0, to three figures. Raises InputError where a reward has no number."""
    found: dict[str, float] = {}
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        finite = values[np.isfinite(values)]
        if not len(finite):
            raise InputError(f"The reward {name} has no number on any of {len(rows)} images; leave it out: --set rewards.{name}=null.")
        found[name] = max(0.0, percentile(finite.tolist()))
    return found


def refine(engine: Engine, cases: Sequence[Case]) -> list[Record]:
    """The loop on given images, batch by batch."""
    return [
        record
        for part in batches(cases, engine.batch)
        for record in engine.refine([c.prompt for c in part], [c.seed for c in part], [c.image for c in part])
    ]


def repaints(record: Record) -> list[Attempt]:
    """The attempts of a record that repaint a region."""
    return [attempt for turn in record.rounds for attempt in turn.attempts if isinstance(attempt.action, Inpaint)]


def best_strengths(attempts: Sequence[Attempt], generator: Generator, most: int) -> tuple[float, ...] | None:
    """At most ``most`` strengths, each chosen because it repairs the most regions that those before it do not (cheapest first among
    equals); the strongest change first. None where no attempt was accepted."""
    hits: dict[float, set[int]] = {}
    for index, attempt in enumerate(attempts):
        for candidate, verdict in zip(attempt.candidates, attempt.verdicts, strict=True):
            if verdict.accepted and candidate.strength is not None:
                hits.setdefault(candidate.strength, set()).add(index)
    chosen: list[float] = []
    covered: set[int] = set()
    while hits and len(chosen) < most:
        best = max(hits, key=lambda strength: (len(hits[strength] - covered), -generator.cost(strength)))
        if not hits[best] - covered:
            break
        covered |= hits.pop(best)
        chosen.append(best)
    return tuple(sorted(chosen, reverse=True)) or None


def outcome(engine: Engine, cases: Sequence[Case]) -> Outcome:
    """What a configuration does on images that it was not tuned on."""
    records = refine(engine, cases)
    attempts = [attempt for record in records for attempt in repaints(record)]
    kept = sum(attempt.kept is not None for attempt in attempts)
    areas = [[record.first.critique.area, record.best.critique.area] for record in records]
    spent = sum(record.evaluations for record in records) / len(records)
    return Outcome(statistics.wilson(kept, len(attempts)) if attempts else None, len(attempts), statistics.bootstrap(areas), spent)


def vetoed(gate: Gate, chances: Sequence[Chance]) -> Interval | None:
    """Share of harmless repaints that the gate's rewards would reject: near 10 % per reward where the margins hold. None without any."""
    crop = {**gate.noise, **gate.crop_noise}

    def bad(chance: Chance) -> bool:
        pairs = ((chance.drops, gate.noise), (chance.crop_drops, crop))
        return any(drop > margin.get(name, 0.0) for row, margin in pairs for name, drop in row.items())

    return statistics.wilson(sum(map(bad, chances)), len(chances)) if chances else None


def tuned(engine: Engine, found: Fitted) -> Engine:
    """The engine with what was fitted."""
    policy: Policy = replace(engine.policy, strengths=found.strengths) if found.strengths else engine.policy
    return replace(engine, gate=found.gate, policy=policy)
