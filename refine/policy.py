"""What to do next with one image: repair regions, draw it again, or stop. The named policies are in ``refine.policies``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import floor, inf
from typing import Literal, get_args

from refine import regions
from refine.errors import unknown
from refine.gate import Gate, Rule
from refine.seeds import derive
from refine.types import Candidate, Controller, Critique, Region, Round, Stop

Route = Literal["auto", "inpaint", "redraw"]
Masks = Literal["found", "random", "true"]
Wording = Literal["revised", "user", "defect"]
REJECTED_BEFORE_REDRAW = 1
ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Budget:
    """Where the loop ends at the latest; None is no limit.

    rounds: None leaves it to the policy (2, where it has no number of its own). evaluations: of the denoiser, per image, first draw
    included. seconds: of all images that walk together; no repair is begun that would end later at the pace measured so far.
    """

    rounds: int | None = None
    evaluations: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("rounds", "evaluations", "seconds"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < inf:
                raise ValueError(f"budget.{name} is {value}; it must be 0 or more, and finite: without a limit it is None.")

    def purse(self, spent: int, elapsed: float, total: int, waiting: int) -> int | None:
        """Denoiser evaluations that one image may still spend; None is no limit.

        spent: by this image so far. total: by all images, in ``elapsed`` seconds: their ratio is the pace, inspections included. What the
        clock leaves is shared among the ``waiting`` images. Before anything was painted there is no pace, and the first repair is free.
        """
        limits = [] if self.evaluations is None else [self.evaluations - spent]
        if self.seconds is not None:
            left = self.seconds - elapsed
            if left <= 0:
                return 0
            if total:
                limits.append(floor(left * total / (elapsed * waiting)) if elapsed > 0 else total)
        return min(limits, default=None)


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of repair as data (architecture, rules 1-5, 8, 9). Areas are fractions of the image, lengths are pixels.

    route       repaint regions, draw the whole image again, or choose by area and failures
    masks       which regions: those found; control: the same shapes at random places; ceiling: those of ``Models.truth``
    threshold, min_area, top_k                   which findings count, and how many per round
    crop        repaint a crop at the model's native size (off: the whole image); crop_scale × the mask's box, at least crop_least
    dilation    the mask grows by this share of its box, at least least_dilation, at least frame_dilation × the image's longer side
    feather     soft edge inside the mask, at the model's native scale (0: hard)
    soft        the generator paints less towards that edge (differential diffusion), in place of painting all of the mask alike
    match_colour  take the tint of the VAE's round trip out of the painted crop
    restore     put the original pixels back outside the mask
    wording     revised: by the reviser, in positive words; user: the user's own; defect: names the fault (as published)
    drift       revise the last prompt instead of the user's
    strengths, seeds                             one candidate per strength and seed, the strongest change first
    redraw_area, redraws                         wider damage is drawn again, so many candidates
    patience    rounds without an accepted repair before it stops
    rounds      the policy's own number of rounds (None: the budget's)
    until_clean stop where no fault is left
    rule        how candidates are accepted (None: by the gate's own rule)
    draws       first drawings per image (not of an image that is given); the loop goes on from the cleanest (gate rule cleanest)
    """

    route: Route = "auto"
    masks: Masks = "found"
    threshold: float = 0.5
    min_area: float = 0.001
    top_k: int = 4
    crop: bool = True
    crop_scale: float = 2.0
    crop_least: int = 256
    dilation: float = 0.03
    least_dilation: float = 4.0
    frame_dilation: float = 0.0
    feather: float = 4.0
    soft: bool = False
    match_colour: bool = True
    restore: bool = True
    wording: Wording = "revised"
    drift: bool = False
    strengths: tuple[float, ...] = (0.85, 0.6, 0.4)
    seeds: int = 1
    redraw_area: float = 0.3
    redraws: int = 2
    patience: int = 2
    rounds: int | None = None
    until_clean: bool = True
    rule: Rule | None = None
    draws: int = 1

    def __post_init__(self) -> None:
        for name, listed in (("route", get_args(Route)), ("masks", get_args(Masks)), ("wording", get_args(Wording))):
            if getattr(self, name) not in listed:
                raise ValueError(unknown(f"policy.{name}", str(getattr(self, name)), listed))
        wrong = [strength for strength in self.strengths if not 0 < strength <= 1]
        if wrong or not self.strengths:
            raise ValueError(f"policy.strengths is {list(self.strengths)}; it needs at least one number above 0 and at most 1.")
        for name in ("threshold", "min_area", "dilation", "least_dilation", "frame_dilation", "feather", "redraw_area"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"policy.{name} is {getattr(self, name)}; it must be 0 or more.")
        for name in ("draws", "top_k", "seeds", "redraws", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"policy.{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.crop_scale >= 1:
            raise ValueError(f"policy.crop_scale is {self.crop_scale}; a crop must hold its region, so it is 1 or more.")

    def turns(self, budget: Budget) -> int:
        """How many rounds at most."""
        given = [rounds for rounds in (self.rounds, budget.rounds) if rounds is not None]
        return min(given, default=ROUNDS)

    def opening(self) -> Policy | None:
        """How the first drawings are made that compete with the first one; None where there is only that."""
        return replace(self, route="redraw", redraws=self.draws - 1, wording="user", drift=False) if self.draws > 1 else None

    def gated(self, gate: Gate) -> Gate:
        """The gate with the acceptance rule that this policy insists on."""
        return gate if self.rule is None else replace(gate, rule=self.rule)

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

    def targets(self, best: Candidate, turn: int, truth: Controller | None) -> list[Region]:
        """The regions to repair now. ``truth`` is asked by ``masks="true"`` alone."""
        if self.masks == "true":
            assert truth is not None, "checked when the loop begins"
            return self.faults(truth.inspect([best.image])[0])
        found = self.faults(best.critique)
        if self.masks == "found":
            return found
        return [regions.scatter(region, derive(best.seed, "scatter", turn, place)) for place, region in enumerate(found)]

    def decide(self, best: Candidate, rounds: tuple[Round, ...], truth: Controller | None = None) -> Stop | tuple[Region | None, ...]:
        """Stop, or what to repair one after the other; a single None stands for the whole image (draw it again)."""
        faults = self.targets(best, len(rounds), truth)
        if not faults and self.until_clean:
            return Stop("clean")
        losing = rejected_in_a_row(rounds)
        if losing >= self.patience:
            return Stop("nothing-accepted")
        wide = regions.area_of(region.mask for region in faults) > self.redraw_area
        if self.route == "redraw" or (self.route == "auto" and (wide or losing >= REJECTED_BEFORE_REDRAW)):
            return (None,)
        return tuple(faults)

    def left(self, best: Candidate, queue: Sequence[Region | None]) -> list[Region | None]:
        """What is still to be repaired in a new best image: a fault that the controller no longer sees there cannot shrink any more."""
        if self.masks != "found" or not self.restore:
            return list(queue)
        return [region for region in queue if region is None or regions.heat_in(best.critique.heat, region.mask) > 0]

    def cheaper(self, best: Candidate, target: Region | None) -> list[Region | None]:
        """What to do instead of a repair that is too dear: ``auto`` repairs regions where it cannot draw again."""
        return list(self.faults(best.critique)) if target is None and self.route == "auto" else []


def rejected_in_a_row(rounds: tuple[Round, ...]) -> int:
    """How many rounds, counted from the last, kept nothing."""
    count = 0
    for turn in reversed(rounds):
        if any(attempt.kept is not None for attempt in turn.attempts):
            break
        count += 1
    return count
