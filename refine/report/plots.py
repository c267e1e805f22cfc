"""A measure over the attempts of one image, and of a whole run before and after, as small drawings.

Frame: user units of the viewBox; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from refine.report.item import Item, Json
from refine.report.markup import Html, element
from refine.report.verdicts import margins
from refine.report.words import percent, score

WIDTH, HEIGHT, EDGE = 240.0, 64.0, 6.0
SIDE = 180.0


@dataclass(frozen=True, slots=True)
class Step:
    """One attempt in one measure: the value it started from, those of its candidates, which was kept, and the lowest that passes."""

    turn: int
    before: float | None
    tried: tuple[float | None, ...]
    kept: int | None
    limit: float | None = None

    @property
    def after(self) -> float | None:
        return self.before if self.kept is None else self.tried[self.kept]


def steps(item: Item, name: str) -> list[Step]:
    """Every attempt of an image in one measure (a reward, or ``area``)."""
    first = current = value_of(item.data["first"], name)
    noise = margins(item.gate, "drop").get(name, 0.0)
    judged = name != "area" and item.gate.get("rule") == "better"
    found = []
    for turn in item.data["rounds"]:
        for attempt in turn["attempts"]:
            choice = bool(attempt["action"].get("first"))
            limit = None if choice or not judged or first is None or current is None else max(first, current) - noise
            tried = tuple(value_of(one, name) for one in attempt["candidates"])
            found.append(Step(turn["index"], current, tried, attempt["kept"], limit))
            current = found[-1].after
            first = current if choice else first  # repairs begin with the drawing that was chosen
    return found


def value_of(candidate: Json, name: str) -> float | None:
    value: float | None = candidate["critique"]["area"] if name == "area" else candidate["scores"].get(name)
    return value


def course(item: Item, name: str) -> Html | None:
    """The value kept so far (line), what was tried (dots) and what the gate would not let pass (shaded), attempt by attempt."""
    path = steps(item, name)
    values = [value for step in path for value in (step.before, step.limit, *step.tried) if value is not None]
    if not values:
        return None
    low, high = min(values), max(values)
    room = high - low or 1.0
    wide = (WIDTH - 2 * EDGE) / len(path)

    def y(value: float) -> float:
        return HEIGHT - EDGE - (value - low) / room * (HEIGHT - 2 * EDGE)

    line, shade, rejected, kept, rounds = "", "", "", "", ""
    for index, step in enumerate(path):
        left = EDGE + index * wide
        if step.limit is not None:
            shade += f"M{left:.1f} {y(step.limit):.1f}h{wide:.1f}V{HEIGHT:g}h{-wide:.1f}z"
        if index and step.turn != path[index - 1].turn:
            rounds += f"M{left:.1f} 0V{HEIGHT:g}"
        places = [left + wide * (position + 1) / (len(step.tried) + 1) for position in range(len(step.tried))]
        for position, (x, value) in enumerate(zip(places, step.tried, strict=True)):
            dot = "" if value is None else f"M{x:.1f} {y(value):.1f}h0"
            rejected, kept = (rejected, kept + dot) if position == step.kept else (rejected + dot, kept)
        if step.before is not None and step.after is not None:
            turn = places[step.kept] if step.kept is not None else left
            line += f"{'L' if line else 'M'}{left:.1f} {y(step.before):.1f}H{turn:.1f}V{y(step.after):.1f}H{left + wide:.1f}"
    layers = (("shade", shade), ("turn", rounds), ("line", line), ("dot", rejected), ("dot good", kept))
    show = percent if name == "area" else score
    words = f"{name} over {len(path)} attempts: starts at {show(path[0].before)}, ends at {show(path[-1].after)}"
    shapes = (element("path", d=d, class_=kind) for kind, d in layers if d)
    return element(
        "svg", *shapes, class_="course", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", preserveAspectRatio="none", role="img", aria_label=words
    )


def scatter(pairs: Sequence[tuple[float, float]], name: str) -> Html:
    """One dot per image: the measure before (across) and after (up), with the line where both are equal."""
    low, high = min(map(min, pairs)), max(map(max, pairs))
    room = high - low or 1.0

    def at(value: float) -> float:
        return EDGE + (value - low) / room * (SIDE - 2 * EDGE)

    dots = "".join(f"M{at(before):.1f} {SIDE - at(after):.1f}h0" for before, after in pairs)
    rose, fell = sum(after > before for before, after in pairs), sum(after < before for before, after in pairs)
    words = f"{name} before and after, {len(pairs)} images: {rose} rose, {fell} fell"
    diagonal = element("path", d=f"M0 {SIDE:g}L{SIDE:g} 0", class_="equal")
    return element(
        "svg",
        diagonal,
        element("path", d=dots, class_="dot"),
        class_="scatter",
        viewBox=f"0 0 {SIDE:g} {SIDE:g}",
        role="img",
        aria_label=words,
    )
