"""What the page says of a draft: labels as plain text, tables as escaped HTML."""

from __future__ import annotations

from html import escape

from refine.display import change
from refine.gate import REASONS
from refine.stages import Event
from refine.types import Attempt, Image, Record

STAGES = {"draw": "Drawing", "inspect": "Looking for faults", "score": "Scoring", "repair": "Repainting"}
OLD = "Old pixels"


def step(event: Event) -> str:
    """A stage of the loop for a person: ``Round 2: Repainting``."""
    name = STAGES.get(event.stage, event.stage)
    return f"Round {event.round}: {name}" if event.round else name


def findings(outcome: Record) -> list[tuple[str, int]]:
    """A label per finding of the best image, and its index."""
    return [
        (f"{index + 1}. {one.phrase or 'marked by hand'} · score {one.score:.2f} · {one.mask.mean():.1%}", index)
        for index, one in enumerate(outcome.best.critique.regions)
    ]


def explained(outcome: Record) -> str:
    """What is wrong, as HTML."""
    found = outcome.best.critique.regions
    if not found:
        return "<p>No fault was found. You may still brush over a part and repair it.</p>"
    rows = "".join(f"<li><b>{escape(one.phrase)}</b>{': ' if one.explanation else ''}{escape(one.explanation)}</li>" for one in found)
    return f"<ol>{rows}</ol>"


def status(outcome: Record) -> str:
    """Prompt, numbers before and after, rounds, as HTML."""
    first, best = outcome.first, outcome.best
    area = f"{best.critique.area:.2%}"
    cells = [("artifact area", f"{first.critique.area:.2%} → {area}" if outcome.rounds else area)]
    cells += [(name, change(value, best.scores.get(name)) if outcome.rounds else f"{value:.4g}") for name, value in first.scores.items()]
    cells += [
        ("repairs tried", str(len(outcome.repairs))),
        ("denoiser evaluations", str(outcome.evaluations)),
    ]
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in cells)
    return f'<p class="prompt">{escape(outcome.prompt)}</p><table class="numbers">{rows}</table>'


def options(outcome: Record) -> list[tuple[str, int]]:
    """What the user may keep of the last repair: the old pixels (-1), or a candidate with the gate's verdict."""
    if not outcome.rounds:
        return []
    attempt = outcome.rounds[-1].attempts[-1]
    return [(OLD, -1), *((f"Candidate {index + 1}: {verdict(attempt, index)}", index) for index in range(len(attempt.candidates)))]


def chosen(outcome: Record) -> int | None:
    """Which of ``options`` stands now."""
    if not outcome.rounds:
        return None
    kept = outcome.rounds[-1].attempts[-1].kept
    return -1 if kept is None else kept


def verdict(attempt: Attempt, index: int) -> str:
    """The gate's word on a candidate."""
    one = attempt.verdicts[index]
    return f"{'passes' if one.accepted else 'fails'}, {REASONS.get(one.reason, one.reason)}"


def pictures(outcome: Record) -> list[tuple[Image, str]]:
    """The gallery: the first image, and of every repair its candidates, each with what became of it."""
    shown = [(outcome.first.image, "First")]
    for turn in outcome.rounds:
        for place, attempt in enumerate(turn.attempts):
            name = f"Round {turn.index + 1}" + (f", repair {place + 1}" if len(turn.attempts) > 1 else "")
            for index, candidate in enumerate(attempt.candidates):
                state = "kept" if attempt.kept == index else "not kept"
                shown.append((candidate.image, f"{name}, candidate {index + 1}: {state} (gate: {attempt.verdicts[index].reason})"))
    return shown
