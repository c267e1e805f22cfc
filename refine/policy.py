"""What to do next with one image: repair regions, draw it again, or stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from refine import regions
from refine.errors import unknown
from refine.types import Candidate, Critique, Region, Round, Stop

Route = Literal["auto", "inpaint", "redraw"]
REJECTED_BEFORE_REDRAW = 1


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the loop ends at the latest; None is no limit. ``evaluations`` are of the denoiser, per image, first draw included."""

    rounds: int = 2
    evaluations: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", "evaluations", "seconds"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"budget.{name} is {value}; it must be 0 or more.")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of repair (architecture, rules 1-5, 8, 9). Areas are fractions of the image, lengths are pixels."""

    route: Route = "auto"
    threshold: float = 0.5
    min_area: float = 0.001
    top_k: int = 4
    crop_scale: float = 2.0
    crop_least: int = 256
    dilation: float = 0.03
    least_dilation: float = 4.0
    feather: float = 4.0
    strengths: tuple[float, ...] = (0.85, 0.6, 0.4)
    redraw_area: float = 0.3
    redraws: int = 2
    patience: int = 2

    def __post_init__(self) -> None:
        if self.route not in get_args(Route):
            raise ValueError(unknown("route", str(self.route), get_args(Route)))
        wrong = [strength for strength in self.strengths if not 0 < strength <= 1]
        if wrong or not self.strengths:
            raise ValueError(f"policy.strengths is {list(self.strengths)}; it needs at least one number above 0 and at most 1.")
        for name in ("threshold", "min_area", "dilation", "least_dilation", "feather", "redraw_area", "top_k", "redraws", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"policy.{name} is {getattr(self, name)}; it must be 0 or more.")
        if self.crop_scale < 1:
            raise ValueError(f"policy.crop_scale is {self.crop_scale}; a crop must hold its region, so it is 1 or more.")

    def faults(self, critique: Critique) -> list[Region]:
        """The regions worth repairing, largest mass first."""
        return regions.candidates(
            critique,
            threshold=self.threshold,
            min_area=self.min_area,
            top_k=self.top_k,
            dilation=self.dilation,
            least_dilation=self.least_dilation,
        )

    def decide(self, best: Candidate, rounds: tuple[Round, ...]) -> Stop | tuple[Region | None, ...]:
        """Stop, or what to repair one after the other; a single None stands for the whole image (draw it again)."""
        faults = self.faults(best.critique)
        if not faults:
            return Stop("clean")
        losing = rejected_in_a_row(rounds)
        if losing >= self.patience:
            return Stop("nothing-accepted")
        wide = regions.area_of(region.mask for region in faults) > self.redraw_area
        if self.route == "redraw" or (self.route == "auto" and (wide or losing >= REJECTED_BEFORE_REDRAW)):
            return (None,)
        return tuple(faults)


def rejected_in_a_row(rounds: tuple[Round, ...]) -> int:
    """How many rounds, counted from the last, kept nothing."""
    count = 0
    for turn in reversed(rounds):
        if any(attempt.kept is not None for attempt in turn.attempts):
            break
        count += 1
    return count
