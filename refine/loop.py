"""The method, on one screen: draw, inspect, decide, repair, inspect again, keep only what is better.

Many images walk in lockstep, stage by stage, so that each model is called once with everything that waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from refine import stages
from refine.gate import Gate, best_of
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
) -> list[Record]:
    """Refine one image per prompt (drawn from its seed, or given). Equal inputs and batch give equal bytes.

    Raises InputError where the lists do not match. The best image of each record is never worse than its first by the gate.
    """
    began = time.monotonic()
    firsts, costs = stages.begin(prompts, seeds, images, models, observe)
    walks = [Walk(p, s, first, first, cost) for p, s, first, cost in zip(prompts, seeds, firsts, costs, strict=True)]
    for turn in range(budget.rounds):
        for walk in walks:
            decide(walk, policy)
        critiques = {id(walk): walk.best.critique for walk in walks}
        open_walks = [walk for walk in walks if not walk.stopped]
        while waiting := [walk for walk in open_walks if walk.queue and not walk.stopped]:
            pairs = [(walk, trial) for walk in waiting if (trial := next_trial(walk, turn, policy, models, budget, began))]
            proposals = stages.propose([trial for _, trial in pairs], models, observe, turn + 1)
            for (walk, trial), options in zip(pairs, proposals, strict=True):
                settle(walk, trial, options, gate)
        for walk in open_walks:
            if walk.attempts:
                walk.rounds += (Round(turn, critiques[id(walk)], tuple(walk.attempts)),)
                walk.attempts = []
    seconds = (time.monotonic() - began) / max(1, len(walks))
    return [finish(walk, policy, seconds) for walk in walks]


def decide(walk: Walk, policy: Policy) -> None:
    """Ask the policy; queue the regions (None: the whole image) or note why the walk ends."""
    if walk.stopped:
        return
    answer = policy.decide(walk.best, walk.rounds)
    if isinstance(answer, Stop):
        walk.stopped = answer.reason
    else:
        walk.queue = list(answer)


def next_trial(walk: Walk, turn: int, policy: Policy, models: Models, budget: Budget, began: float) -> Trial | None:
    """The next repair of a walk, cut to what its budget still pays for; None, and the walk stops, where it pays for nothing."""
    target = walk.queue.pop(0)
    late = budget.seconds is not None and time.monotonic() - began >= budget.seconds
    purse = None if budget.evaluations is None else budget.evaluations - walk.spent
    trial = None if late else stages.trial(walk.prompt, walk.seed, (turn, len(walk.attempts)), walk.best, target, policy, models, purse)
    if trial is None:
        walk.stopped, walk.queue = "budget", []
    return trial


def settle(walk: Walk, trial: Trial, options: Sequence[Candidate], gate: Gate) -> None:
    """Judge the candidates, keep the best accepted one (or the old pixels), and write down all of it."""
    before, mask = trial.before, trial.where.mask if trial.where else None
    verdicts = tuple(gate.judge(walk.first, before, option, mask) for option in options)
    kept = best_of([(index, option, verdict) for index, (option, verdict) in enumerate(zip(options, verdicts, strict=True))])
    proof = stages.prove(before.image, options, mask)
    walk.spent += trial.cost
    walk.attempts.append(Attempt(trial.action, tuple(options), verdicts, kept, mask, proof))
    if kept is not None:
        walk.best = options[kept]


def finish(walk: Walk, policy: Policy, seconds: float) -> Record:
    """The record of a walk; one that ran out of rounds is asked once more whether it is clean."""
    if not walk.stopped:
        decide(walk, policy)
    return Record(walk.prompt, walk.seed, walk.first, walk.best, walk.rounds, walk.stopped or "rounds", walk.spent, seconds)


__all__ = ["Budget", "Event", "Gate", "Models", "Policy", "run"]
