"""The document: head, figures of the whole run, one article per image."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refine.report.article import article
from refine.report.item import Item
from refine.report.markup import Child, Html, element, join
from refine.report.pictures import TINY, thumbnail
from refine.report.words import arrow, percent, prompt_of, score, stop_of

ASSETS = Path(__file__).parent
OPEN_BELOW = 12  # runs of fewer images show their attempts unfolded


def page(name: str, items: Sequence[Item], config: str) -> Html:
    """The whole document."""
    style, script = ((ASSETS / file).read_text(encoding="utf-8") for file in ("report.css", "report.js"))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=security_policy(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name} · refine"),
        element("style", Html(style)),
    )
    main = element("main", *(article(item, len(items) < OPEN_BELOW) for item in items))
    settings = element("details", element("summary", "Configuration and versions"), element("pre", config))
    foot = element("footer", settings)
    return element("html", head, element("body", overview(name, items), main, foot, element("script", Html(script))), lang="en")


def security_policy(script: str) -> str:
    """No request at all, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = ("default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'", "base-uri 'none'")
    return "; ".join((*rules, "form-action 'none'"))


def overview(name: str, items: Sequence[Item]) -> Html:
    """The head of the page: figures of the whole run and one line per image."""
    if not items:
        return element("header", element("h1", name), element("p", "No image is finished yet.", class_="lead"))
    before, after = ([item.data[end]["critique"]["area"] for item in items] for end in ("first", "best"))
    kept, tried = sum(item.kept for item in items), sum(len(item.attempts) for item in items)
    facts = [
        (str(len(items)), "image" if len(items) == 1 else "images"),
        (f"{sum(item.kept > 0 for item in items)}", "made better"),
        (arrow(percent(float(np.mean(before))), percent(float(np.mean(after)))), "mean artifact area"),
        (f"{kept} of {tried}", "repairs kept"),
    ]
    cells = [element("div", element("dd", value), element("dt", label)) for value, label in facts]
    return element(
        "header", element("p", "refine", class_="brand"), element("h1", name), element("dl", *cells, class_="facts"), table(items)
    )


def table(items: Sequence[Item]) -> Html:
    """One row per image."""
    rewards = list(items[0].data["first"]["scores"])
    heads = ["", "", "Prompt", "Artifact area", *rewards, "Kept", "Why it ended"]
    rows = [element("tr", *(element("td", cell, class_=kind) for cell, kind in table_row(item, rewards))) for item in items]
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in heads)))
    return element("div", element("table", head, element("tbody", *rows)), class_="scroll")


def table_row(item: Item, rewards: Sequence[str]) -> list[tuple[Child, str | None]]:
    """Cells and their classes."""
    first, best = item.data["first"], item.data["best"]
    pictures = join(thumbnail(item.picture(end["image"]), TINY, alt) for end, alt in ((first, "before"), (best, "after")))
    link = element("a", prompt_of(item), href=f"#image-{item.number}")
    return [
        (item.number, "number"),
        (pictures, "pair"),
        (link, "prompt"),
        (arrow(percent(first["critique"]["area"]), percent(best["critique"]["area"])), "number"),
        *((arrow(score(first["scores"].get(name)), score(best["scores"].get(name))), "number") for name in rewards),
        (f"{item.kept} of {len(item.attempts)}", "number"),
        (stop_of(item), None),
    ]
