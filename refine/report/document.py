"""What every page has around its content: head, content security policy, toolbar, keyboard help, data and script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine.report.markup import Html, element, join
from refine.report.words import plural

ASSETS = Path(__file__).parent
MARK = element("meta", name="generator", content="refine")
KEYS = (
    ("j / k", "next, previous image"),
    ("/", "search"),
    ("t", "light, dark, as the system"),
    ("?", "this help"),
    ("Esc", "leave the search, close the help"),
)
STORY_KEYS = (
    ("Enter", "open or close the image in focus"),
    ("← / →", "move the slider (with Shift: all the way)"),
    ("m", "masks on or off"),
)


def asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def opening(title: str, linked: bool) -> str:
    """Everything up to the body's content."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        MARK,
        element("meta", http_equiv="Content-Security-Policy", content=security_policy(asset("report.js"), linked)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · refine"),
        element("style", Html(asset("report.css"))),
    )
    return f'<!doctype html>\n<html lang="en">{head.text}<body>'


def closing(data: Any, keys: Sequence[tuple[str, str]] = KEYS) -> str:
    """What the keys do, the data for programs and the page's script."""
    text = element("script", Html(inert(data)), type="application/json", id="data").text
    return f"{help_dialog(keys).text}{text}{element('script', Html(asset('report.js'))).text}</body></html>"


def inert(data: Any) -> str:
    """JSON that cannot end the script element it stands in, nor open a comment there."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def security_policy(script: str, linked: bool) -> str:
    """No request that leaves the folder, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures = "img-src data: 'self' file:" if linked else "img-src data:"
    rules = ("default-src 'none'", pictures, "style-src 'unsafe-inline'", f"script-src 'sha256-{digest}'", "base-uri 'none'")
    return "; ".join((*rules, "form-action 'none'"))


def bar(hint: str, filters: Sequence[Html], total: int, masks: bool) -> Html:
    """Search, filters and switches. Shown by the page's script, without which they do nothing."""
    shown = element("button", "Masks", type="button", id="masks", aria_pressed="true", title="masks on or off (m)") if masks else None
    return element(
        "search",
        element("input", type="search", id="search", placeholder=hint, aria_label=hint, autocomplete="off"),
        *filters,
        element("span", plural(total, "image"), id="count", role="status"),
        shown,
        element("button", "Theme", type="button", id="theme", title="light, dark, as the system (t)"),
        element("button", "?", type="button", id="ask", aria_label="Keyboard help", title="keyboard (?)"),
        id="tools",
        hidden=True,
    )


def choice(name: str, everything: str, rows: Html) -> Html:
    """A filter by ``data-<name>`` of the images."""
    every = element("option", everything, value="")
    return element("select", every, rows, data_filter=name, aria_label=everything, autocomplete="off")


def options(rows: Sequence[tuple[str, str, int]]) -> Html:
    """Value, words and number of images of each."""
    return join(element("option", f"{label} ({number})", value=value) for value, label, number in rows)


def help_dialog(keys: Sequence[tuple[str, str]]) -> Html:
    rows = [element("div", element("dt", element("kbd", key)), element("dd", words)) for key, words in keys]
    close = element("button", "Close", type="button", id="close")
    title = element("h2", "Keyboard", id="help-title")
    return element("dialog", title, element("dl", *rows), close, id="help", aria_labelledby="help-title")
