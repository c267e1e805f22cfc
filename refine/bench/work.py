"""The arms, batch by batch. All arms do one batch before any does the next, so that a bench stopped halfway is paired all the same.

Batches are cut from the whole list and computed whole, whoever computes them: one process, several, or a resumed one get the same bytes.
Each holds one seed of its prompts, so that more seeds change none of them, and more prompts none that was full.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from refine import durable
from refine.bench import cost, folder, metrics, samples
from refine.bench.arms import Arm, steering
from refine.bench.cost import Clock
from refine.bench.folder import Line, Plan
from refine.bench.memory import Memory, remembering
from refine.bench.metrics import Metric
from refine.bench.repairs import Step, begin, steps
from refine.bench.samples import Sample, Truth
from refine.engine import Engine, batches
from refine.evals.judge import Judge
from refine.isolation import Failure, isolated
from refine.stilllife.oracle import compare, distance
from refine.types import Controller, Critique, Image, Record, Reward

Load = Callable[[Arm, Sequence[str]], Engine]  # an arm, and the prompts that an oracle may be told
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Known:
    """The controller that knows the truth: it compares a picture with the nearest of the clean ones."""

    cleans: tuple[Image, ...]

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [compare(image, min(self.cleans, key=lambda clean: distance(image, clean))) for image in images]


@dataclass(frozen=True, slots=True)
class Ruler:
    """What measures: the judge (None where no set can be judged), and every reward and the controller of the base configuration.

    controller: None where the arm's own is that one, so that its critiques serve.
    """

    judge: Judge | None
    rewards: Mapping[str, Reward]
    controller: Controller | None


def tables(plan: Plan) -> dict[str, tuple[Metric, ...]]:
    """The columns of each set; what steered none of its arms comes first (a ceiling, which knows the truth, is no rival)."""
    found = {arm.name: steering(arm.tree, plan.base) for arm in plan.arms}
    steered = {name: [found[arm.name] for arm in plan.arms_of(name) if "truth" not in found[arm.name]] for name in plan.sets}
    rewards = list(plan.base["rewards"])
    return {name: metrics.of(name, [one.prompt for one in group], rewards, steered[name]) for name, group in plan.sets.items()}


def prepare(where: Path, plan: Plan, engine: Engine) -> None:
    """Write what samples start from, the budget of an image, and what a call of each model costs."""
    for group in plan.sets.values():
        for sample in group:
            if not folder.given(where, sample).exists() and (known := samples.truth(sample)) is not None:
                folder.png(folder.given(where, sample), known.image)
    if (where / folder.COST).exists():
        return
    asked = engine.budget.evaluations
    evaluations = asked if asked is not None else plan.draws * engine.models.generator.cost()
    counted = cost.count(engine.models, next(iter(plan.sets.values()))[0].prompt)
    durable.replace(where / folder.COST, json.dumps({"evaluations": evaluations, "flops": asdict(counted)}, indent=1) + "\n")


def pending(where: Path, plan: Plan) -> list[tuple[str, int]]:
    """(set, number of the batch) of every batch that some arm has not finished."""
    finished = {arm.name: folder.ledger(where, arm.name).keys() for arm in plan.arms}
    return [
        (name, number)
        for name in plan.sets
        for number, batch in enumerate(cut(plan, name))
        if any((name, sample.key) not in finished[arm.name] for arm in plan.arms_of(name) for sample in batch)
    ]


def cut(plan: Plan, name: str) -> list[Sequence[Sample]]:
    """The batches of a set."""
    seeds = itertools.groupby(sorted(plan.sets[name], key=lambda sample: sample.copy), key=lambda sample: sample.copy)
    return [batch for _, group in seeds for batch in batches(list(group), plan.base["batch"])]


def execute(where: Path, plan: Plan, todo: Sequence[tuple[str, int]], load: Load, ruler: Ruler, rank: int, say: Say) -> None:
    """Do these batches, as far as the ledgers lack them."""
    columns = tables(plan)
    evaluations = limit(where)
    finished = {arm.name: folder.ledger(where, arm.name).keys() for arm in plan.arms}
    told: set[str] = set()
    memory = Memory()
    for done, (name, number) in enumerate(todo, 1):
        memory.forget()
        batch = cut(plan, name)[number]
        for arm in plan.arms_of(name):
            missing = [sample for sample in batch if (name, sample.key) not in finished[arm.name]]
            if not missing:
                continue
            engine = load(arm, [sample.prompt for sample in plan.sets[name]])
            budget = dataclasses.replace(engine.budget, evaluations=evaluations)
            began = time.monotonic()
            own = arm.tree["controller"] == plan.base["controller"]
            measure = dataclasses.replace(ruler, controller=None) if own else ruler
            outcomes = attempt(dataclasses.replace(engine, budget=budget), batch, columns[name], measure, memory)
            for sample, (line, image) in zip(batch, outcomes, strict=True):
                if sample in missing:
                    folder.save(where, arm.name, sample, line, image, rank)
                if "failed" in line and arm.name not in told:
                    say(f"{arm.name} fails on {name}/{sample.key} ({line['failed']}); what else fails in this arm is counted, not told")
                    told.add(arm.name)
            say(f"batch {done} of {len(todo)}, {name}: {arm.name}, {time.monotonic() - began:.1f} s")


def attempt(engine: Engine, batch: Sequence[Sample], columns: Sequence[Metric], ruler: Ruler, memory: Memory) -> list[Outcome]:
    """A batch, or where it fails each of its samples alone: one bad picture must not cost the others, and is written down."""
    outcomes = isolated(batch, lambda part: refine(engine, part, columns, ruler, memory))
    return [({"failed": str(outcome)[:300]}, None) if isinstance(outcome, Failure) else outcome for outcome in outcomes]


def limit(where: Path) -> int:
    """The budget of an image, in denoiser evaluations."""
    evaluations: int = folder.counted(where)["evaluations"]
    return evaluations


Outcome = tuple[Line, Image | None]
Numbers = Sequence[float | None]


def refine(engine: Engine, batch: Sequence[Sample], columns: Sequence[Metric], ruler: Ruler, memory: Memory) -> list[Outcome]:
    """Run the loop on a batch and measure its final pictures, and by the first metric everything it kept on the way.

    What another arm has computed of the same bytes comes from ``memory``, except where the arm's budget is in seconds.
    """
    truths = [samples.truth(sample) for sample in batch]
    cleans = tuple(truth.clean for truth in truths if truth)
    models = engine.models if engine.budget.seconds is not None else remembering(engine.models, memory)
    models = dataclasses.replace(models, truth=Known(cleans)) if cleans else models
    clock = Clock(memory.now)
    given = [truth.image if truth else None for truth in truths]
    prompts, seeds = [sample.prompt for sample in batch], [sample.seed for sample in batch]
    records = dataclasses.replace(engine, models=models).refine(prompts, seeds, given, clock)
    finals = [record.best.image for record in records]
    rows = metrics.measure(columns, finals, prompts, truths, ruler.judge, ruler.rewards)
    shared = {
        "curve_of": columns[0].name,
        "seconds": {name: round(clock.seconds[name] / len(batch), 4) for name in sorted(clock.seconds)},
        "calls": {name: round(clock.pictures[name] / len(batch), 4) for name in sorted(clock.pictures)},
    }
    walks = [steps(record, engine.policy, models.generator) for record in records]
    curves, areas, cores = (walked(walks, prompts, truths, metric, ruler) for metric in (columns[0], metrics.AREA, metrics.CORE))
    critiques = ruler.controller.inspect(finals) if ruler.controller else [record.best.critique for record in records]
    return [
        (line(record, row | {"controller": critique.area}) | kept(*told) | shared, record.best.image)
        for record, row, critique, *told in zip(records, rows, critiques, walks, curves, areas, cores, strict=True)
    ]


def walked(
    walks: Sequence[Sequence[Step]], prompts: Sequence[str], truths: Sequence[Truth | None], metric: Metric, ruler: Ruler
) -> list[list[float | None]]:
    """Per walk, the metric of the first picture and of each that replaced it; None where it has no number, as without a judge."""
    flat = [(step.image, prompt, truth) for prompt, truth, walk in zip(prompts, truths, walks, strict=True) for step in walk]
    images, words, known = (list(part) for part in zip(*flat, strict=True))
    rows = metrics.measure([metric], images, words, known, ruler.judge, ruler.rewards)
    values = iter([folder.finite(row).get(metric.name) for row in rows])
    return [[next(values) for _ in walk] for walk in walks]


def kept(walk: Sequence[Step], curve: Numbers, areas: Numbers, cores: Numbers) -> Line:
    """What the steps of a picture say: the metric over compute, what the judge reads, and what strayed from the masks."""
    return {
        "curve": [(step.spent, value) for step, value in zip(walk, curve, strict=True)],
        "judged": list(zip(areas, cores, strict=True))[begin(walk) :],
        "strayed": [step.strayed for step in walk if step.strayed is not None],
    }


def line(record: Record, row: Mapping[str, float]) -> Line:
    """The ledger's line of one picture."""
    attempts = record.repairs
    return {
        "metrics": folder.finite(row),
        "blank": metrics.blank(record.best.image),
        "evaluations": record.evaluations,
        "attempts": len(attempts),
        "accepted": sum(attempt.kept is not None for attempt in attempts),
        "stop": record.stop_reason,
    }
