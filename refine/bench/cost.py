"""What an arm spends: denoiser evaluations, seconds of each model, and floating-point operations where torch can count them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from refine.loop import Event, Models

T = TypeVar("T")

# The stages of the loop's events, by who does the work.
WORKERS: Mapping[str, str] = {"draw": "generator", "repair": "generator", "inspect": "controller", "score": "rewards"}


@dataclass(slots=True)
class Clock:
    """An observer of the loop: seconds and pictures by worker. One batch each. ``now``: the clock that is read."""

    now: Callable[[], float] = time.monotonic
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    pictures: Counter[str] = field(default_factory=Counter)
    began: float = 0.0

    def __call__(self, event: Event) -> None:
        worker = WORKERS[event.stage]
        if event.done == 0:
            self.began = self.now()
        if event.done == event.total:
            self.seconds[worker] += self.now() - self.began
            self.pictures[worker] += event.total


@dataclass(frozen=True, slots=True)
class Flops:
    """Floating-point operations (multiplications and additions both) of one call on one picture; None where torch saw none."""

    evaluation: float | None
    controller: float | None
    rewards: float | None


def count(models: Models, prompt: str) -> Flops:
    """One representative call per model: a drawing (shared out over its evaluations), an inspection, a score by every reward.

    Counted by ``torch.utils.flop_counter`` on the operators it knows (matrix products, convolutions, attention). What a model computes
    outside torch is not seen.
    """
    images, drawing = _counted(lambda: models.generator.draw([prompt], [0]))
    _, inspection = _counted(lambda: models.controller.inspect(images))
    _, scoring = _counted(lambda: [reward.score(images, [prompt]) for reward in models.rewards])
    cost = models.generator.cost()
    return Flops(drawing / cost if drawing and cost else None, inspection, scoring)


def _counted(call: Callable[[], T]) -> tuple[T, float | None]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        answer = call()
    return answer, float(counter.get_total_flops()) or None
