"""The method, on one screen: draw, inspect, decide, repair, inspect again, keep only what is better.

Many images walk in lockstep, stage by stage, so that each model is called once with everything that waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refine import stages
from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.stages import Event, Models, Trial
from refine.types import Attempt, Candidate, Image, Record, Region, Round, Stop


@dataclass(slots=True)
class Walk:
    """One image on its way through the loop."""

    prompt: str
    seed: int
    first: Candidate
    best: Candidate
    spent: int
    rounds: tuple[Round, ...] = ()
    stopped: str = ""
    queue: list[Region | None] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


def run(
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    models: Models,
    images: Sequence[Image | None] | None = None,
    policy: Policy = Policy(),
    gate: Gate = Gate(),
    budget: Budget = Budget(),
    observe: Callable[[Event], None] = stages.ignore,
    after_round: Callable[[int, Sequence[Candidate]], bool] = stages.go_on,
    clock: Callable[[], float] = time.monotonic,
) -> list[Record]:
    """Refine one image per prompt (drawn from its seed, or given). Equal inputs and batch give equal bytes.

    Raises InputError where the lists do not match, ConfigError where the budget does not pay for the first draw. Under the gate's rule
    ``better`` the best image of each record is never worse than its first by the gate's measures. ``after_round`` gets each round's index
    and the best candidates so far; where it answers False, what is still open stops as "interrupted".
    """
    began, gate = clock(), policy.gated(gate)
    stages.check(policy, models, budget, images is None or None in images)
    firsts, costs = stages.begin(prompts, seeds, images, models, observe)
    walks = [Walk(p, s, first, first, cost) for p, s, first, cost in zip(prompts, seeds, firsts, costs, strict=True)]
    last = "rounds"
    for turn in range(policy.turns(budget)):
        open_walks = [walk for walk in walks if decide(walk, policy, models)]
        critiques = {id(walk): walk.best.critique for walk in open_walks}
        while waiting := [walk for walk in open_walks if walk.queue and not walk.stopped]:
            elapsed, total = clock() - began, sum(walk.spent for walk in walks)
            purses = [budget.purse(walk.spent, elapsed, total, len(waiting)) for walk in waiting]
            asked = [(walk, next_trial(walk, turn, policy, models, purse)) for walk, purse in zip(waiting, purses, strict=True)]
            proposals = stages.propose([trial for _, trial in asked if trial], models, observe, turn + 1)
            for walk, (trial, options) in zip([walk for walk, trial in asked if trial], proposals, strict=True):
                settle(walk, trial, options, policy, gate)
        for walk in open_walks:
            if walk.attempts:
                walk.rounds, walk.attempts = (*walk.rounds, Round(turn, critiques[id(walk)], tuple(walk.attempts))), []
        last = "rounds" if not open_walks or after_round(turn, [walk.best for walk in walks]) else "interrupted"
        if last == "interrupted":
            break
    return [finish(walk, policy, models, last, (clock() - began) / len(walks)) for walk in walks]


def decide(walk: Walk, policy: Policy, models: Models) -> bool:
    """Ask the policy; queue the regions (None: the whole image) or note why the walk ends. True where it goes on."""
    if walk.stopped:
        return False
    answer = policy.decide(walk.best, walk.rounds, models.truth)
    walk.stopped, walk.queue = (answer.reason, []) if isinstance(answer, Stop) else ("", list(answer))
    return not walk.stopped


def next_trial(walk: Walk, turn: int, policy: Policy, models: Models, purse: int | None) -> Trial | None:
    """The next repair of a walk, cut to what its purse pays for. None where it pays for nothing: then something cheaper, or the end."""
    target = walk.queue.pop(0)
    trial = stages.trial(walk.prompt, walk.seed, (turn, len(walk.attempts)), walk.best, target, policy, models, purse)
    if trial is None:
        walk.queue = policy.cheaper(walk.best, target)
        walk.stopped = "" if walk.queue else "budget"
    return trial


def settle(walk: Walk, trial: Trial, options: Sequence[Candidate], policy: Policy, gate: Gate) -> None:
    """Judge the candidates, keep the best accepted one (or the old pixels), and write down all of it."""
    before, mask = trial.before, trial.where.touched if trial.where else None
    verdicts, kept = gate.choose(walk.first, before, options, mask)
    proof = stages.prove(before.image, options, mask)
    walk.spent += trial.cost
    walk.attempts.append(Attempt(trial.action, tuple(options), verdicts, kept, mask, proof))
    if kept is not None:
        walk.best, walk.queue = options[kept], policy.left(options[kept], walk.queue)


def finish(walk: Walk, policy: Policy, models: Models, last: str, seconds: float) -> Record:
    """The record of a walk; one that was still open (``last``: why it ends) is asked once more whether it is clean."""
    decide(walk, policy, models)
    return Record(walk.prompt, walk.seed, walk.first, walk.best, walk.rounds, walk.stopped or last, walk.spent, seconds)


__all__ = ["Budget", "Event", "Gate", "Models", "Policy", "run"]
