"""One image on its way through the loop, and the steps that the loop takes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from refine import stages
from refine.gate import Gate
from refine.policy import Policy
from refine.stages import Models, Trial
from refine.types import Attempt, Candidate, Critique, Record, Region, Round, Stop


@dataclass(slots=True)
class Walk:
    """One image on its way through the loop."""

    prompt: str
    seed: int
    first: Candidate
    start: Candidate  # of the first drawings, the one that is repaired
    best: Candidate
    spent: int
    rounds: tuple[Round, ...] = ()
    opened: int = 0  # of the rounds, those that chose among first drawings
    stopped: str = ""
    queue: list[Region | None] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)


def close(walk: Walk, critique: Critique) -> None:
    """The attempts since the last round become one, which began with this critique."""
    walk.rounds, walk.attempts = (*walk.rounds, Round(len(walk.rounds), critique, tuple(walk.attempts))), []


def decide(walk: Walk, policy: Policy, models: Models) -> bool:
    """Ask the policy; queue the regions (None: the whole image) or note why the walk ends. True where it goes on."""
    if walk.stopped:
        return False
    answer = policy.decide(walk.best, walk.rounds[walk.opened :], models.truth)
    walk.stopped, walk.queue = (answer.reason, []) if isinstance(answer, Stop) else ("", list(answer))
    return not walk.stopped


def next_trial(walk: Walk, policy: Policy, models: Models, purse: int | None) -> Trial | None:
    """The next repair of a walk, cut to what its purse pays for. None where it pays for nothing: then something cheaper, or the end."""
    target = walk.queue.pop(0)
    trial = stages.trial(walk.prompt, walk.seed, (len(walk.rounds), len(walk.attempts)), walk.best, target, policy, models, purse)
    if trial is None:
        walk.queue = policy.cheaper(walk.best, target)
        walk.stopped = "" if walk.queue else "budget"
    return trial


def settle(walk: Walk, trial: Trial, options: Sequence[Candidate], policy: Policy, gate: Gate) -> None:
    """Judge the candidates, keep the best accepted one (or the old pixels), and write down all of it."""
    before, mask = trial.before, trial.where.touched if trial.where else None
    verdicts, kept = gate.choose(walk.start, before, options, mask)
    proof = stages.prove(before.image, options, mask)
    walk.spent += trial.cost
    walk.attempts.append(Attempt(trial.action, tuple(options), verdicts, kept, mask, proof))
    if kept is not None:
        walk.best, walk.queue = options[kept], policy.left(options[kept], walk.queue)


def finish(walk: Walk, policy: Policy, models: Models, last: str, seconds: float) -> Record:
    """The record of a walk; one that was still open (``last``: why it ends) is asked once more whether it is clean."""
    decide(walk, policy, models)
    return Record(walk.prompt, walk.seed, walk.first, walk.best, walk.rounds, walk.stopped or last, walk.spent, seconds)
