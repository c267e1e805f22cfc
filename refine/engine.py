"""One engine for every way in: the command line, the pipeline stages and the benchmarks refine through this.

Images are refined in lockstep, ``batch`` at a time. What is in a batch decides its bytes, so batches are always cut from the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refine import loop, stages
from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.stages import Event, Models
from refine.types import Candidate, Image, Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Engine:
    """Models and the rules they work by."""

    models: Models
    policy: Policy = Policy()
    gate: Gate = Gate()
    budget: Budget = Budget()
    batch: int = 8

    def refine(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        images: Sequence[Image | None] | None = None,
        observe: Callable[[Event], None] = stages.ignore,
        after_round: Callable[[int, Sequence[Candidate]], bool] = stages.go_on,
    ) -> list[Record]:
        """Refine one batch as a whole (see ``refine.loop.run``)."""
        return loop.run(
            prompts,
            seeds,
            models=self.models,
            images=images,
            policy=self.policy,
            gate=self.gate,
            budget=self.budget,
            observe=observe,
            after_round=after_round,
        )


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in slices of ``size``."""
    return (items[start : start + size] for start in range(0, len(items), size))
