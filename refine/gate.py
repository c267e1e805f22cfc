"""Keep a repair only if it is measurably better.

A repair passes under the rule ``better`` when (architecture, rule 6)
  1. the controller's artifact mass inside the repaired mask falls by at least ``fall``,
  2. the mass outside the mask does not rise by more than ``rise`` of the image,
  3. the whole image's mass falls,
  4. no reward of the whole image drops below the better of the current and the first image by more than its noise,
     none of the repaired crop below the current image's,
  5. the controller's detector, if it has one, is not surer than of either of them, by more than ``suspicion``, that there is a fault.
Because 3 to 5 compare with the first image too (of several drawings, the one that was chosen), the result of a loop is never worse than
what it repaired by these measures.

The other rules are control arms of benchmarks:
  reward   the candidate that the rewards like best, if they like it better than the current image (best of n)
  cleanest the candidate in which least is found, of equals the one of most merit: the rewards' gain in units of their noise, less 6 for
           each percent of the picture that is to be expected broken, less 20 times what the controller's detector says of the whole, if it
           has one (how one of several first drawings is chosen)
  off      always the cleanest candidate
  random   any one candidate, with probability ``rate`` per attempt
Under every rule, a candidate that cannot be judged (a score missing or not a number, a picture of one flat colour) never passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from refine.errors import unknown
from refine.regions import heat_in
from refine.seeds import chance, derive
from refine.types import Candidate, Image, Mask, Scores, Verdict

Rule = Literal["better", "reward", "cleanest", "off", "random"]
ACCEPTED = "better"
PASSES = (ACCEPTED, "reward-rose", "cleaner", "ungated")
BROKEN_PERCENT = 6.0  # noises of the rewards that one percent of the picture, expected to be broken, is worth
BROKEN_AT_ALL = 20.0  # ... that it is worth if the detector is sure of the one picture and rules out the other
WHOLE_FAULT = 3.0  # noises of the rewards that the whole artifact mass is worth where accepted candidates are compared
REASONS = {
    ACCEPTED: "the fault is gone or much smaller, and nothing else got worse",
    "fault-remains": "the fault inside the mask did not shrink enough",
    "new-fault": "a fault appeared outside the mask",
    "more-suspect": "the controller's detector is surer that there is a fault somewhere",
    "reward-drop": "a preference reward fell by more than its noise",
    "crop-reward-drop": "a preference reward of the repaired crop fell by more than its noise",
    "not-finite": "a score is missing or not a number",
    "blank": "the generator gave one flat colour",
    "reward-rose": "the rewards like it better (rule reward)",
    "reward-not-higher": "the rewards do not like it better (rule reward)",
    "cleaner": "less is found in it, or as little and it has more merit (rule cleanest)",
    "not-cleaner": "more is found in it, or as much and it has less merit (rule cleanest)",
    "ungated": "accepted without a test (rule off)",
    "drawn": "accepted by lot (rule random)",
    "not-drawn": "rejected by lot (rule random)",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """Margins of the test. ``noise``: per reward, the largest drop that means nothing (absent: 0), also the unit in which rewards are added
    up (absent: 1). ``crop_noise``: the same for scores of a crop (absent: as ``noise``). ``rate`` and ``seed`` are those of the lot.
    ``suspicion``: the largest rise of the detector's probability that means nothing.
    """

    fall: float = 0.3
    rise: float = 0.001
    noise: Mapping[str, float] = field(default_factory=dict)
    crop_noise: Mapping[str, float] = field(default_factory=dict)
    rule: Rule = "better"
    rate: float = 0.5
    seed: int = 0
    suspicion: float = 0.1

    def __post_init__(self) -> None:
        for name in ("fall", "rise", "rate", "suspicion"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"gate.{name} is {getattr(self, name)}; it is a share, so it lies in 0 to 1.")
        for kind in ("noise", "crop_noise"):
            if wrong := [name for name, value in getattr(self, kind).items() if not value >= 0]:
                raise ValueError(f"gate.{kind} of {', '.join(wrong)} must be 0 or more.")
        if self.rule not in get_args(Rule):
            raise ValueError(unknown("gate.rule", str(self.rule), get_args(Rule)))

    def choose(
        self, first: Candidate, before: Candidate, options: Sequence[Candidate], mask: Mask | None
    ) -> tuple[tuple[Verdict, ...], int | None]:
        """One verdict per option, and the option to keep (None: the image before): of those accepted, the one of most merit."""
        verdicts = tuple(self.judge(first, before, option, mask) for option in options)
        if self.rule == "random":
            verdicts = self._by_lot(before, options, verdicts)
        merits = {index: self.merit(verdict.numbers) for index, verdict in enumerate(verdicts) if verdict.accepted}
        return verdicts, max(merits, key=merits.__getitem__, default=None)

    def merit(self, numbers: Mapping[str, float]) -> tuple[float, float]:
        """What accepted candidates are compared by, and then by what: under ``better`` how much of the artifact mass is gone and how well
        the rewards like it, together; under ``reward`` the rewards alone, under ``cleanest`` the mass, then merit; else the mass, then the
        rewards."""
        before, after = masses(numbers)
        if self.rule == "reward":
            return numbers["gain"], 0.0
        if self.rule == "cleanest":
            return -after, numbers["merit"]
        return (numbers["gain"] - WHOLE_FAULT * after / before, -after) if self.rule == "better" else (-after, numbers["gain"])

    def judge(self, first: Candidate, before: Candidate, after: Candidate, mask: Mask | None) -> Verdict:
        """Compare a candidate with the image it would replace, and with the first one. ``mask``: pixels it may change (None: all)."""
        numbers = self.measure(before, after, mask)
        numbers |= drops("drop", floor(first.scores, before.scores), after.scores)
        numbers |= drops("crop_drop", before.crop_scores, after.crop_scores)
        numbers |= detected(first, before, after)
        numbers["gain"] = sum((after.scores.get(k, np.nan) - v) / (self.noise.get(k) or 1.0) for k, v in before.scores.items())
        if self.rule == "cleanest":
            numbers["merit"] = numbers["gain"] + fear(before) - fear(after)
        reason = self.reason(numbers, after)
        return Verdict(reason in PASSES, reason, numbers)

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

    def reason(self, numbers: Mapping[str, float], after: Candidate) -> str:
        """The first rule that is broken, or why it is accepted. A lot is drawn later: ``random`` answers like ``off``."""
        if not all(np.isfinite(value) for value in numbers.values()):
            return "not-finite"
        if after.blank or is_flat(after.image):
            return "blank"
        if self.rule == "reward":
            return "reward-rose" if numbers["gain"] > 0 else "reward-not-higher"
        if self.rule == "cleanest":
            before, now = masses(numbers)
            return "cleaner" if (before, numbers["merit"]) > (now, 0.0) else "not-cleaner"
        return self._better(numbers, after.image.width * after.image.height) if self.rule == "better" else "ungated"

    def _better(self, numbers: Mapping[str, float], pixels: int) -> str:
        rise = numbers["outside_after"] - numbers["outside_before"]
        fell = numbers["inside_before"] - numbers["inside_after"]
        if fell <= 0 or fell < self.fall * numbers["inside_before"]:
            return "fault-remains"
        if rise > self.rise * pixels or rise >= fell:
            return "new-fault"
        if numbers.get("suspicion", 0.0) > self.suspicion:
            return "more-suspect"
        if too_low(numbers, "drop", self.noise):
            return "reward-drop"
        return "crop-reward-drop" if too_low(numbers, "crop_drop", {**self.noise, **self.crop_noise}) else ACCEPTED

    def _by_lot(self, before: Candidate, options: Sequence[Candidate], verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
        """At most one of the options that can be judged is accepted, with probability ``rate``."""
        able = [index for index, verdict in enumerate(verdicts) if verdict.accepted]
        place = (before.seed, *(option.seed for option in options))
        lucky = able[derive(self.seed, "which", *place) % len(able)] if able and chance(self.seed, *place) < self.rate else None
        return tuple(
            replace(verdict, accepted=index == lucky, reason="drawn" if index == lucky else "not-drawn") if index in able else verdict
            for index, verdict in enumerate(verdicts)
        )


def fear(one: Candidate) -> float:
    """How much is to be expected broken in a picture, in noises of the rewards."""
    percent = 100 * one.critique.expected / (one.image.width * one.image.height)
    return BROKEN_PERCENT * percent + BROKEN_AT_ALL * (one.critique.fake_probability or 0.0)


def detected(first: Candidate, before: Candidate, after: Candidate) -> dict[str, float]:
    """How far the detector's probability rose above the lower of two images'; nothing where the controller has no detector."""
    then = [one.critique.fake_probability for one in (first, before) if one.critique.fake_probability is not None]
    now = after.critique.fake_probability
    return {"suspicion": now - min(then)} if then and now is not None else {}


def masses(numbers: Mapping[str, float]) -> tuple[float, float]:
    """Artifact mass of the whole picture, in pixels, before and after."""
    before, after = (sum(numbers[f"{where}_{when}"] for where in ("inside", "outside")) for when in ("before", "after"))
    return before, after


def floor(first: Scores, before: Scores) -> dict[str, float]:
    """Per reward, the better of two images; not a number where one of them has none."""
    known = {name: first.get(name, np.nan) for name in before}
    return {name: float(np.maximum(known[name], score)) if np.isfinite(known[name]) else np.nan for name, score in before.items()}


def drops(kind: str, before: Scores, after: Scores) -> dict[str, float]:
    """How far each reward fell (negative: it rose), keyed ``kind:reward``; not a number where a score is missing."""
    return {f"{kind}:{name}": before.get(name, np.nan) - after.get(name, np.nan) for name in {**before, **after}}


def too_low(numbers: Mapping[str, float], kind: str, noise: Mapping[str, float]) -> bool:
    """True where a drop of this kind exceeds the reward's noise."""
    prefix = f"{kind}:"
    named = {key.removeprefix(prefix): value for key, value in numbers.items() if key.startswith(prefix)}
    return any(drop > noise.get(name, 0.0) for name, drop in named.items())


def is_flat(image: Image) -> bool:
    """True for a picture of one colour: what a safety checker puts in place of an image."""
    return all(low == high for low, high in image.convert("RGB").getextrema())  # type: ignore[misc]
