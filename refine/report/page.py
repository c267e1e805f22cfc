"""The document around the images: head, figures of the whole run, filters, machine-readable data."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from refine.gate import REASONS
from refine.report.article import categories, reasons
from refine.report.item import Item
from refine.report.markup import Html, element, join
from refine.report.plots import scatter
from refine.report.words import OUTCOMES, STOPS, arrow, outcome_of, percent, plural
from refine.store import Line

ASSETS = Path(__file__).parent
KEYS = (
    ("j / k", "next, previous image"),
    ("Enter", "open or close the image in focus"),
    ("← / →", "move the slider (with Shift: all the way)"),
    ("m", "masks on or off"),
    ("/", "search"),
    ("t", "light, dark, as the system"),
    ("?", "this help"),
    ("Esc", "leave the search, close the help"),
)


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


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def opening(title: str, linked: bool) -> str:
    """Everything up to the body's content."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=security_policy(asset("report.js"), linked)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · refine"),
        element("style", Html(asset("report.css"))),
    )
    return f'<!doctype html>\n<html lang="en">{head.text}<body>'


def closing(data: Any) -> str:
    """The data for machines and the page's script."""
    text = element("script", Html(inert(data)), type="application/json", id="data").text
    return f"{help_dialog().text}{text}{element('script', Html(asset('report.js'))).text}</body></html>"


def inert(data: Any) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment there."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def security_policy(script: str, linked: bool) -> str:
    """No request that leaves the folder, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures = "img-src data: 'self' file:" if linked else "img-src data:"
    rules = ("default-src 'none'", pictures, "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'", "base-uri 'none'")
    return "; ".join((*rules, "form-action 'none'"))


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
        (str(tally.outcomes["accepted"]), "made better"),
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
            figures.append(element("figure", scatter(pairs, name), element("figcaption", name)))
    words = "Each dot is an image: before (across) against after (up). On the line nothing changed."
    return element("div", *figures, element("p", words, class_="small"), class_="plots") if figures else None


def value_of(end: Line, name: str) -> float | None:
    value: float | None = end["area"] if name == "artifact area" else end["scores"].get(name)
    return value


def toolbar(tally: Tally) -> Html:
    """Search, filters and switches. Shown by the page's script, without which they do nothing."""
    outcomes = [(name, OUTCOMES[name], tally.outcomes[name]) for name in OUTCOMES if tally.outcomes[name]]
    stops = [(code, STOPS.get(code[5:], code[5:]), number) for code, number in tally.reasons.most_common() if code.startswith("stop:")]
    refused = [
        (code, REASONS.get(code[7:], code[7:]), number) for code, number in tally.reasons.most_common() if code.startswith("reject:")
    ]
    groups = [("It ended because", stops), ("A candidate was rejected because", refused)]
    kinds = [(name, name, number) for name, number in tally.categories.most_common()]
    return element(
        "search",
        element(
            "input",
            type="search",
            id="search",
            placeholder="Search prompts and faults",
            aria_label="Search prompts and faults",
            autocomplete="off",
        ),
        choice("outcome", "Any outcome", options(outcomes)),
        choice("reasons", "Any reason", join(element("optgroup", options(rows), label=label) for label, rows in groups if rows)),
        choice("categories", "Any kind of fault", options(kinds)),
        element("span", plural(len(tally.images), "image"), id="count", role="status"),
        *switches(),
        id="tools",
        hidden=True,
    )


def options(rows: Sequence[tuple[str, str, int]]) -> Html:
    return join(element("option", f"{label} ({number})", value=value) for value, label, number in rows)


def choice(name: str, everything: str, rows: Html) -> Html:
    every = element("option", everything, value="")
    return element("select", every, rows, data_filter=name, aria_label=everything, autocomplete="off")


def switches() -> list[Html]:
    return [
        element("button", "Masks", type="button", id="masks", aria_pressed="true", title="masks on or off (m)"),
        element("button", "Theme", type="button", id="theme", title="light, dark, as the system (t)"),
        element("button", "?", type="button", id="ask", aria_label="Keyboard help", title="keyboard (?)"),
    ]


def help_dialog() -> Html:
    rows = [element("div", element("dt", element("kbd", key)), element("dd", words)) for key, words in KEYS]
    close = element("button", "Close", type="button", id="close", autofocus=True)
    return element(
        "dialog", element("h2", "Keyboard", id="help-title"), element("dl", *rows), close, id="help", aria_labelledby="help-title"
    )


def footer(config: str) -> Html:
    settings = element("details", element("summary", "Configuration and versions"), element("pre", config))
    return element("footer", settings)
