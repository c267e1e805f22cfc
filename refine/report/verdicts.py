"""Why a candidate was kept or not, in words and with the numbers it was decided on."""

from __future__ import annotations

from refine.gate import REASONS, too_low
from refine.report.item import Json
from refine.report.words import count, percent, score

KINDS = {"drop": "", "crop_drop": " of the crop"}


def state(verdict: Json, kept: bool) -> str:
    return "✓ kept" if kept else "better, but not the best" if verdict["accepted"] else "✕ rejected"


def why(verdict: Json, gate: Json) -> str:
    """The reason of a rejection with its numbers, where the record has them; a foreign reason as it is."""
    numbers: Json = verdict["numbers"]
    reason: str = verdict["reason"]
    if None not in numbers.values():
        if reason == "fault-remains" and "inside_before" in numbers:
            return _remains(numbers["inside_before"], numbers["inside_after"], gate.get("fall"))
        if reason == "new-fault" and "outside_before" in numbers:
            return f"faults elsewhere grew by {count(numbers['outside_after'] - numbers['outside_before'])} px"
        if reason == "more-suspect" and "suspicion" in numbers:
            return f"the detector's probability of a fault rose by {percent(numbers['suspicion'])}{_allowed(gate.get('suspicion'))}"
        if reason in ("reward-drop", "crop-reward-drop"):
            kind = "crop_drop" if reason.startswith("crop") else "drop"
            return ", ".join(_fell(numbers, kind, margins(gate, kind))) or REASONS[reason]
    return REASONS.get(reason, reason)


def _remains(before: float, after: float, fall: float | None) -> str:
    if after >= before or not before:
        return f"the fault did not shrink ({count(before)} → {count(after)} px)"
    least = f"; at least {percent(fall)} is asked for" if fall is not None else ""
    return f"the fault shrank by only {percent(1 - after / before)}{least}"


def _allowed(margin: float | None) -> str:
    return f"; up to {percent(margin)} means nothing" if margin is not None else ""


def _fell(numbers: Json, kind: str, noise: dict[str, float]) -> list[str]:
    """The rewards that fell beyond their noise."""
    found = {key.partition(":")[2]: drop for key, drop in numbers.items() if too_low({key: drop}, kind, noise)}
    return [f"{name}{KINDS[kind]} fell by {score(drop)}; up to {score(noise.get(name, 0.0))} is noise" for name, drop in found.items()]


def margins(gate: Json, kind: str) -> dict[str, float]:
    """Per reward, the largest drop of this kind that means nothing."""
    noise: dict[str, float] = gate.get("noise") or {}
    return {**noise, **(gate.get("crop_noise") or {})} if kind == "crop_drop" else noise


def evidence(numbers: Json) -> list[tuple[str, str]]:
    """The numbers a verdict was decided on: artifact mass in pixels, how far the detector's probability
    rose, merit (of first drawings), and how far each reward moved."""
    rows = []
    for place, label in (("inside", "fault"), ("outside", "elsewhere")):
        if f"{place}_before" in numbers:
            rows.append((label, f"{count(numbers[f'{place}_before'])} → {count(numbers[f'{place}_after'])} px"))
    if "suspicion" in numbers:
        rows.append(("detector", score(numbers["suspicion"], signed=True)))
    if "merit" in numbers:
        rows.append(("merit", score(numbers["merit"], signed=True)))
    for key, drop in numbers.items():
        kind, colon, name = key.partition(":")
        if colon and kind in KINDS:
            rows.append((name + (", crop" if kind == "crop_drop" else ""), score(None if drop is None else -drop, signed=True)))
    return rows
