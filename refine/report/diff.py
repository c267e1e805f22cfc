"""How one prompt became another, word by word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from refine.report.markup import Child, Html, element, join

WORD = re.compile(r"\s*(?:[,;:]|[^\s,;:]+)")  # with the blanks before it; a comma is a word of its own


def revision(old: str, new: str) -> Html:
    """The new prompt with what was added (ins) and, struck out, what was taken away (del). Without a common word: the new one alone."""
    before, after = WORD.findall(old), WORD.findall(new)
    bare, goal = ([word.strip() for word in words] for words in (before, after))
    if not {word for word in bare if word.isalnum()} & set(goal):
        return element("span", new)
    return join(_parts(before, after, SequenceMatcher(None, bare, goal, autojunk=False)))


def _parts(before: Sequence[str], after: Sequence[str], matcher: SequenceMatcher[str]) -> Iterator[Child]:
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        gone, come = "".join(before[a0:a1]), "".join(after[b0:b1])
        if kind == "equal":
            yield come
            continue
        yield from _marked("del", gone)
        yield from _marked("ins", " " + come.lstrip() if gone and come else come)


def _marked(tag: str, text: str) -> Iterator[Child]:
    """The words in their element, the blanks before them outside of it."""
    if words := text.lstrip():
        yield text[: len(text) - len(words)]
        yield element(tag, words)
