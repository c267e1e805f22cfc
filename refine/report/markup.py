"""HTML from nested calls. Text is escaped wherever it enters; only what ``element`` made is taken as markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

VOID = frozenset({"img", "input", "meta", "br"})


@dataclass(frozen=True, slots=True)
class Html:
    """Finished markup."""

    text: str


Child = Html | str | int | None
Attribute = str | int | float | bool | None


def element(name: str, /, *children: Child, **attributes: Attribute) -> Html:
    """One element. Attribute names: a trailing underscore is dropped, the others become hyphens (``class_``, ``aria_label``).

    None and False leave an attribute or a child out; True writes the bare name.
    """
    head = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in VOID:
        return Html(f"<{name}{head}>")
    return Html(f"<{name}{head}>{join(children).text}</{name}>")


def join(children: Iterable[Child], between: str = "") -> Html:
    """Markup of a row of children; text among them is escaped, ``between`` too."""
    return Html(html.escape(between).join(_markup(child) for child in children if child is not None))


def _markup(child: Child) -> str:
    return child.text if isinstance(child, Html) else html.escape(str(child))


def _attribute(key: str, value: Attribute) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
