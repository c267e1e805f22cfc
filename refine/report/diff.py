"""How one prompt became another, word by word."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from refine.report.markup import Child, Html, element, join


def revision(old: str, new: str) -> Html:
    """The new prompt with what was added (ins) and, struck out, what was taken away (del). Without a common word: the new one alone."""
    before, after = old.split(), new.split()
    if not set(before) & set(after):
        return element("span", new)
    return join(_parts(before, after), " ")


def _parts(before: list[str], after: list[str]) -> Iterator[Child]:
    for kind, a0, a1, b0, b1 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        gone, come = " ".join(before[a0:a1]), " ".join(after[b0:b1])
        if kind == "equal":
            yield come
            continue
        if gone:
            yield element("del", gone)
        if come:
            yield element("ins", come)
