"""The method, on one screen: draw, inspect, decide, repair, inspect again, keep only what is better.

Many images walk in lockstep, stage by stage, so that each model is called once with everything that waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from refine import stages
from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.stages import Event, Models
from refine.types import Candidate, Image, Record
from refine.walk import Walk, close, decide, finish, next_trial, settle


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
    ``better`` the best image of each record is never worse than the drawing that was repaired, by the gate's measures. ``after_round``
    gets each round's index and the best candidates so far; where it answers False, what is still open stops as "interrupted".
    """
    began, gate = clock(), policy.gated(gate)
    stages.check(policy, models, budget, images is None or None in images)
    firsts, costs = stages.begin(prompts, seeds, images, models, observe)
    walks = [Walk(p, s, first, first, first, cost) for p, s, first, cost in zip(prompts, seeds, firsts, costs, strict=True)]
    last = "rounds"
    if (opening := policy.opening()) and policy.turns(budget):
        drawn, total = [walk for walk in walks if walk.spent], sum(walk.spent for walk in walks)
        purses = [budget.purse(walk.spent, clock() - began, total, len(drawn)) for walk in drawn]
        choose_first(drawn, purses, opening, replace(gate, rule="cleanest"), models, observe)
    for turn in range(policy.turns(budget)):
        open_walks = [walk for walk in walks if decide(walk, policy, models)]
        critiques = {id(walk): walk.best.critique for walk in open_walks}
        while waiting := [walk for walk in open_walks if walk.queue and not walk.stopped]:
            elapsed, total = clock() - began, sum(walk.spent for walk in walks)
            purses = [budget.purse(walk.spent, elapsed, total, len(waiting)) for walk in waiting]
            asked = [(walk, next_trial(walk, policy, models, purse)) for walk, purse in zip(waiting, purses, strict=True)]
            proposals = stages.propose([trial for _, trial in asked if trial], models, observe, turn + 1)
            for walk, (trial, options) in zip([walk for walk, trial in asked if trial], proposals, strict=True):
                settle(walk, trial, options, policy, gate)
        for walk in open_walks:
            if walk.attempts:
                close(walk, critiques[id(walk)])
        last = "rounds" if not open_walks or after_round(turn, [walk.best for walk in walks]) else "interrupted"
        if last == "interrupted":
            break
    return [finish(walk, policy, models, last, (clock() - began) / len(walks)) for walk in walks]


def choose_first(
    walks: Sequence[Walk], purses: Sequence[int | None], opening: Policy, gate: Gate, models: Models, observe: Callable[[Event], None]
) -> None:
    """Draw each image some more times, as far as its purse pays; go on from the drawing that the gate keeps."""
    asked = [stages.trial(w.prompt, w.seed, (0, 0), w.best, None, opening, models, purse) for w, purse in zip(walks, purses, strict=True)]
    paid = [(walk, stages.opening(trial)) for walk, trial in zip(walks, asked, strict=True) if trial]
    for (walk, _), (trial, options) in zip(paid, stages.propose([trial for _, trial in paid], models, observe, 0), strict=True):
        settle(walk, trial, options, opening, gate)
        walk.start, walk.opened = walk.best, 1
        close(walk, walk.first.critique)


__all__ = ["Budget", "Event", "Gate", "Models", "Policy", "run"]
