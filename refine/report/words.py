"""Numbers and codes as a reader wants them."""

from __future__ import annotations

from refine.report.item import Item

STOPS = {
    "clean": "no fault left",
    "nothing-accepted": "no repair was better",
    "rounds": "all rounds used",
    "budget": "the budget was spent",
    "interrupted": "interrupted between rounds",
    "by-hand": "the user decided by hand",
}
OUTCOMES = {
    "accepted": "repaired",
    "chosen": "another drawing was chosen",
    "rejected": "no repair was better",
    "untouched": "no repair was tried",
}
NO_CATEGORY = "no category"


def prompt_of(item: Item) -> str:
    prompt: str = item.data["prompt"]
    return prompt or "(no prompt)"


def stop_of(item: Item) -> str:
    """Why the loop ended; a reason of a foreign policy as it is."""
    reason: str = item.data["stop_reason"]
    return "no fault found" if reason == "clean" and not item.changed else STOPS.get(reason, reason)


def outcome_of(item: Item) -> str:
    """``accepted``: a repair was kept; without any, ``chosen``: the final image is another first drawing; ``rejected``: repairs were tried;
    ``untouched``: none was tried."""
    return "accepted" if item.kept else "chosen" if item.changed else "rejected" if item.repairs else "untouched"


def plural(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def percent(fraction: float | None) -> str:
    if fraction is None:
        return "–"
    value = 100 * fraction
    return f"{value:.0f} %" if value >= 9.95 or value == 0 else f"{value:.1f} %" if value >= 0.1 else "< 0.1 %"


def score(value: float | None, signed: bool = False) -> str:
    """Four decimals below one, two above, two digits of a tiny one; a number that JSON could not hold is a dash."""
    if value is None:
        return "–"
    form = ".2g" if 0 < abs(value) < 0.001 else ".4f" if abs(value) < 1 else ".2f"
    return minus(format(value, "+" * signed + form))


def count(value: float | None) -> str:
    return "–" if value is None else minus(f"{round(value)}")


def minus(number: str) -> str:
    """The typographic sign."""
    return number.replace("-", "−")
