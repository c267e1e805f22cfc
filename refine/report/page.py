"""What stands around the images of a run: figures and plots of the whole, filters, configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from refine.gate import REASONS
from refine.report.article import categories, reasons
from refine.report.document import bar, choice, options
from refine.report.item import Item
from refine.report.markup import Html, element, join
from refine.report.plots import scatter
from refine.report.words import OUTCOMES, STOPS, arrow, outcome_of, percent, score
from refine.store import Line


@dataclass(slots=True)
class Tally:
    """What the page counts while the images are written one after the other."""

    images: list[dict[str, Any]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    categories: Counter[str] = field(default_factory=Counter)

    def add(self, item: Item, line: Line) -> None:
        outcome, why, kinds = outcome_of(item), reasons(item), categories(item)
        self.images.append(line | {"outcome": outcome, "reasons": why, "categories": kinds})
        self.outcomes[outcome] += 1
        self.reasons.update(why)
        self.categories.update(kinds)


def overview(name: str, tally: Tally) -> Html:
    """The head of the page: figures and plots of the whole run."""
    brand, title = element("p", "refine", class_="brand"), element("h1", name)
    images = tally.images
    if not images:
        return element("header", brand, title, element("p", "No image is finished yet.", class_="lead"))
    before, after = (sum(line[end]["area"] for line in images) / len(images) for end in ("first", "final"))
    kept, refused = (sum(line[key] for line in images) for key in ("accepted", "rejected"))
    facts = [
        (str(len(images)), "image" if len(images) == 1 else "images"),
        (str(tally.outcomes["accepted"] + tally.outcomes["chosen"]), "made better"),
        (arrow(percent(before), percent(after)), "mean artifact area"),
        (f"{kept} of {kept + refused}", "repairs kept"),
    ]
    cells = [element("div", element("dd", value), element("dt", label)) for value, label in facts]
    return element("header", brand, title, element("dl", *cells, class_="facts"), plots(images))


def plots(images: Sequence[Line]) -> Html | None:
    """Per measure, all images before against after; with fewer than three there is nothing to see."""
    names = ["artifact area", *images[0]["first"]["scores"]]
    figures = []
    for name in names:
        ends = ((value_of(line["first"], name), value_of(line["final"], name)) for line in images)
        pairs = [(before, after) for before, after in ends if before is not None and after is not None]
        if len(pairs) > 2:
            show = percent if name == "artifact area" else score
            low, high = show(min(map(min, pairs))), show(max(map(max, pairs)))
            caption = element("figcaption", f"{name}, {low} to {high}")
            figures.append(element("figure", scatter(pairs, name), caption))
    words = "Each dot is an image: before (across) against after (up), on one scale. On the line nothing changed."
    return element("div", *figures, element("p", words, class_="small"), class_="plots") if figures else None


def value_of(end: Line, name: str) -> float | None:
    value: float | None = end["area"] if name == "artifact area" else end["scores"].get(name)
    return value


def toolbar(tally: Tally) -> Html:
    """Filters by outcome, by reason (why it ended, why a candidate was rejected) and by category of the faults."""
    outcomes = [(name, words, tally.outcomes[name]) for name, words in OUTCOMES.items() if tally.outcomes[name]]
    groups = [("It ended because", coded(tally, "stop:", STOPS)), ("A candidate was rejected because", coded(tally, "reject:", REASONS))]
    kinds = [(name, name, number) for name, number in tally.categories.most_common()]
    filters = [
        choice("outcome", "Any outcome", options(outcomes)),
        choice("reasons", "Any reason", join(element("optgroup", options(rows), label=label) for label, rows in groups if rows)),
        choice("categories", "Any kind of fault", options(kinds)),
    ]
    return bar("Search prompts and faults", filters, len(tally.images), masks=True)


def coded(tally: Tally, prefix: str, words: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """The reasons of one kind, the most frequent first, in words where they are known."""
    found = [(code, code.removeprefix(prefix), number) for code, number in tally.reasons.most_common() if code.startswith(prefix)]
    return [(code, words.get(name, name), number) for code, name, number in found]


def footer(config: str) -> Html:
    settings = element("details", element("summary", "Configuration and versions"), element("pre", config))
    return element("footer", settings)
