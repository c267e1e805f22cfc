"""Which images of several runs belong together, and how their numbers compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

from refine import jobs, store
from refine.report.item import Json
from refine.report.words import count, minus, percent, score
from refine.store import Line

Case: TypeAlias = tuple[str, int, str | None]  # prompt, seed, sha256 of the image given (None: drawn)
AREA, COST = "artifact area", "evaluations"


@dataclass(frozen=True, slots=True)
class Side:
    """One run: what it is called here, its folder and configuration, and its finished images by what was asked for."""

    name: str
    folder: Path
    config: Json
    lines: dict[Case, Line]


@dataclass(frozen=True, slots=True)
class Change:
    """A run against the first in one measure, over the images that have it in both: mean difference and on how many it is better."""

    mean: float | None
    better: int
    worse: int
    equal: int


def sides(folders: Sequence[Path]) -> list[Side]:
    """The runs in their folders. Raises InputError where one is none."""
    names = [folder.resolve().name for folder in folders]
    names = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    return [_side(name, folder) for name, folder in zip(names, folders, strict=True)]


def _side(name: str, folder: Path) -> Side:
    run, work = store.reopen(folder)
    given = {jobs.key(job, run.config): job.sha256 for job in work}
    lines = {(line["prompt"], line["seed"], given.get(line["key"])): line for line in store.ledger(folder)}
    return Side(name, folder, run.config, lines)


def shared(runs: Sequence[Side]) -> list[Case]:
    """What all runs have, in the order of the first."""
    return [case for case in runs[0].lines if all(case in run.lines for run in runs)]


def measures(runs: Sequence[Side], cases: Sequence[Case]) -> list[str]:
    """Artifact area, every reward that any of the images has, and the cost."""
    return [AREA, *dict.fromkeys(name for run in runs for case in cases for name in run.lines[case]["final"]["scores"]), COST]


def number(line: Line, name: str) -> float | None:
    """A measure of the final image: its artifact area (a share of the image), a reward, or the denoiser evaluations it cost."""
    value = line["final"]["area"] if name == AREA else line[COST] if name == COST else line["final"]["scores"].get(name)
    return None if value is None else float(value)


def direction(name: str) -> int:
    """+1 where more is better (rewards), −1 where less is (area, cost)."""
    return -1 if name in (AREA, COST) else 1


def gain(name: str, first: float | None, other: float | None) -> float | None:
    """How much better (positive) the other number is. None where one is missing."""
    return None if first is None or other is None else direction(name) * (other - first)


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def change(first: Side, other: Side, cases: Sequence[Case], name: str) -> Change:
    """One run against the first, pair by pair."""
    pairs = [(number(first.lines[case], name), number(other.lines[case], name)) for case in cases]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    gains = [direction(name) * (b - a) for a, b in known]
    signs = (sum(value > 0 for value in gains), sum(value < 0 for value in gains), sum(value == 0 for value in gains))
    return Change(mean([b - a for a, b in known]), *signs)


def written(name: str, value: float | None) -> str:
    """A measure as people read it."""
    return percent(value) if name == AREA else count(value) if name == COST else score(value)


def difference(name: str, value: float | None) -> str:
    """A difference of two measures with its sign; areas in percentage points. A small one is not rounded to nothing."""
    if value is None:
        return "–"
    if name == AREA:
        return minus(f"{_rounded(100 * value, 1)} pp")
    return minus(_rounded(value, 0) if name == COST else score(value, signed=True))


def _rounded(value: float, places: int) -> str:
    """With so many decimals, or one figure where these are all zeros."""
    return format(value, f"+.{places}f" if value == 0 or round(value, places) else "+.1g")


def told(name: str, change: Change) -> str:
    """A run against the first, in words."""
    if change.mean is None:
        return "not in both runs"
    return f"{difference(name, change.mean)}; {change.better} better, {change.worse} worse, {change.equal} equal"
