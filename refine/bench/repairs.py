"""What the loop did to a picture, step by step: what it spent, what it kept, and whether kept pixels stayed as they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from refine import repair
from refine.policy import Policy
from refine.types import Attempt, Generator, Image, Inpaint, Mask, Record


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The first picture, or one that replaced the picture before it.

    spent: denoiser evaluations up to here. strayed: of the pixels outside the mask of a repaint, the share that changed (None: a whole
    drawing, or the first picture: there is no mask). choice: one of several first drawings, where the repairs begin.
    """

    spent: int
    image: Image
    strayed: float | None = None
    choice: bool = False


def steps(record: Record, policy: Policy, generator: Generator) -> list[Step]:
    """The first picture and each that was kept."""
    attempts = [attempt for turn in record.rounds for attempt in turn.attempts]
    prices = [sum(generator.cost(one.strength) for one in attempt.candidates) for attempt in attempts]
    made = [Step(record.evaluations - sum(prices), record.first.image)]
    spent = made[0].spent
    for attempt, price in zip(attempts, prices, strict=True):
        spent += price
        if attempt.kept is not None:
            image = attempt.candidates[attempt.kept].image
            made.append(Step(spent, image, strayed(attempt, made[-1].image, image, policy, generator), attempt not in record.repairs))
    return made


def begin(walk: Sequence[Step]) -> int:
    """The place in a walk of the picture that repairs began with."""
    return max((place for place, step in enumerate(walk) if step.choice), default=0)


def strayed(attempt: Attempt, before: Image, after: Image, policy: Policy, generator: Generator) -> float | None:
    """Share of the pixels outside the repainted mask that changed. A recipe that restores nothing still had a mask to paint in."""
    mask = asked_for(attempt, before, policy, generator)
    if mask is None or mask.all():
        return None
    changed: Mask = (np.asarray(before) != np.asarray(after)).any(2)
    return float(changed[~mask].mean())


def asked_for(attempt: Attempt, before: Image, policy: Policy, generator: Generator) -> Mask | None:
    """The mask that the generator was given, in the frame of the picture; None for a whole drawing."""
    if attempt.mask is not None:
        return attempt.mask
    return repair.plan(attempt.action, before, policy, generator).mask if isinstance(attempt.action, Inpaint) else None
