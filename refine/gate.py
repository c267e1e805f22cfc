"""Keep a repair only if it is measurably better.

A repair passes when (architecture, rule 6)
  1. the controller's artifact mass inside the repaired mask falls by at least ``fall``,
  2. the mass outside the mask does not rise by more than ``rise`` of the image,
  3. the whole image's mass falls,
  4. no reward drops below the better of the current and the first image by more than its noise,
     on the whole image and on the repaired crop.
Because 3 and 4 compare with the first image too, the result of a loop is never worse than its input by these measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from refine.regions import heat_in
from refine.types import Candidate, Mask, Scores, Verdict

ACCEPTED = "better"
REASONS = {
    ACCEPTED: "the fault is gone or much smaller, and nothing else got worse",
    "fault-remains": "the fault inside the mask did not shrink enough",
    "new-fault": "a fault appeared outside the mask",
    "reward-drop": "a preference reward fell by more than its noise",
    "crop-reward-drop": "a preference reward of the repaired crop fell by more than its noise",
    "not-finite": "a score is not a number",
    "blank": "the candidate is one flat colour",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """Thresholds of the test. ``noise``: per reward, the largest drop that means nothing (absent: 0)."""

    fall: float = 0.3
    rise: float = 0.001
    noise: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.fall <= 1:
            raise ValueError(f"gate.fall is {self.fall}; it is a share, from 0 to 1.")
        if self.rise < 0 or any(margin < 0 for margin in self.noise.values()):
            raise ValueError(f"gate.rise is {self.rise} and gate.noise {dict(self.noise)}; neither may be negative.")

    def judge(self, first: Candidate, before: Candidate, after: Candidate, mask: Mask | None) -> Verdict:
        """Compare ``after`` with the image it would replace and with the first one. ``mask`` None: a whole new image."""
        numbers = self.measure(before, after, mask)
        numbers |= drops("drop", self.floor(first.scores, before.scores), after.scores)
        numbers |= drops("crop_drop", before.crop_scores, after.crop_scores)
        reason = self.reason(numbers, after)
        return Verdict(reason == ACCEPTED, reason, numbers)

    @staticmethod
    def measure(before: Candidate, after: Candidate, mask: Mask | None) -> dict[str, float]:
        """Artifact mass in pixels, inside and outside the mask, before and after."""
        inside = (heat_in(before.critique.heat, mask), heat_in(after.critique.heat, mask))
        total = (before.critique.mass, after.critique.mass)
        return {
            "inside_before": inside[0],
            "inside_after": inside[1],
            "outside_before": total[0] - inside[0],
            "outside_after": total[1] - inside[1],
        }

    @staticmethod
    def floor(first: Scores, before: Scores) -> dict[str, float]:
        """Per reward, the better of two images."""
        return {name: max(first[name], score) for name, score in before.items()}

    def reason(self, numbers: Mapping[str, float], after: Candidate) -> str:
        """The first rule that is broken, or ``better``."""
        pixels = after.image.width * after.image.height
        rise = numbers["outside_after"] - numbers["outside_before"]
        fell = numbers["inside_before"] - numbers["inside_after"]
        if not all(np.isfinite(value) for value in numbers.values()):
            return "not-finite"
        if not np.ptp(np.asarray(after.image), axis=(0, 1)).any():
            return "blank"
        if fell <= 0 or fell < self.fall * numbers["inside_before"]:
            return "fault-remains"
        if rise > self.rise * pixels or rise >= fell:
            return "new-fault"
        if self.too_low(numbers, "drop"):
            return "reward-drop"
        return "crop-reward-drop" if self.too_low(numbers, "crop_drop") else ACCEPTED

    def too_low(self, numbers: Mapping[str, float], kind: str) -> bool:
        """True where a drop of this kind exceeds the reward's noise."""
        prefix = f"{kind}:"
        named = {key.removeprefix(prefix): value for key, value in numbers.items() if key.startswith(prefix)}
        return any(drop > self.noise.get(name, 0.0) for name, drop in named.items())


def drops(kind: str, before: Scores, after: Scores) -> dict[str, float]:
    """How far each reward fell (negative: it rose), keyed ``kind:reward``."""
    return {f"{kind}:{name}": score - after[name] for name, score in before.items()}


def best_of(options: list[tuple[int, Candidate, Verdict]]) -> int | None:
    """The accepted option with the least artifact mass left; rewards break ties. None where nothing was accepted."""
    accepted = [(option.critique.mass, -sum(option.scores.values()), index) for index, option, verdict in options if verdict.accepted]
    return min(accepted)[2] if accepted else None
