"""From the token stream of an answer to findings (phrase, explanation, [SEG]), and back to the text a model is trained on.

Working on ids keeps the three aligned, duplicates included; patterns over decoded text do not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from refine.controllers.legion.tokens import LegionTokenizer
from refine.types import CATEGORIES, Category

_STEMS: dict[str, Category] = {"physic": "physics", "structur": "structure", "distort": "distortion"}
_NAMED = re.compile(r"\b(" + "|".join(_STEMS) + r")\w*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was said about the j-th [SEG], and how sure the model was.

    seg_logprob: log probability of the [SEG] token. phrase_logprob: mean over the phrase's tokens and its opening tag (0 without phrase).
    """

    phrase: str
    explanation: str
    category: Category | None
    seg_logprob: float = 0.0
    phrase_logprob: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer taken apart: the words before the first finding, and one finding per [SEG] in the order of their states."""

    summary: str
    findings: tuple[Finding, ...]


@dataclass(slots=True)
class _Open:
    """A finding whose explanation is still being read: positions in the answer."""

    phrase: Sequence[int]
    seg: int
    explanation: list[int]


def read_answer(ids: Sequence[int], tokenizer: LegionTokenizer, logprobs: Sequence[float] | None = None) -> Reading:
    """Take an answer apart. A [SEG] belongs to the last complete ``<p> phrase </p>`` before it; what follows it, up to the next ``<p>``,
    is its explanation. An answer without [SEG] has no findings and is all summary."""
    start, end, seg = tokenizer.id("<p>"), tokenizer.id("</p>"), tokenizer.id("[SEG]")
    words: list[int] = []
    found: list[_Open] = []
    phrase: Sequence[int] = ()
    opened: int | None = None
    for at, token in enumerate(ids):
        if token == tokenizer.eos_id:
            break
        if token == start:
            opened = at
        elif token == end:
            phrase, opened = (range(opened, at) if opened is not None else ()), None
        elif token == seg:
            found.append(_Open(phrase, at, []))
        elif opened is None:
            (found[-1].explanation if found else words).append(at)
    sure = logprobs if logprobs is not None else [0.0] * len(ids)
    return Reading(tokenizer.decode(ids[at] for at in words), tuple(_finding(ids, tokenizer, sure, one) for one in found))


def _finding(ids: Sequence[int], tokenizer: LegionTokenizer, logprobs: Sequence[float], one: _Open) -> Finding:
    phrase = tokenizer.decode(ids[at] for at in one.phrase[1:])
    explanation = tokenizer.decode(ids[at] for at in one.explanation).lstrip(" :").strip()
    mean = math.fsum(logprobs[at] for at in one.phrase) / len(one.phrase) if one.phrase else 0.0
    return Finding(phrase, explanation, category_of(explanation) or category_of(phrase), logprobs[one.seg], mean)


def category_of(text: str) -> Category | None:
    """The first of SynthScars' three categories that ``text`` names, if any."""
    named = _NAMED.search(text)
    return _STEMS[named.group(1).lower()] if named else None


def compose(summary: str, findings: Iterable[tuple[str, str]]) -> str:
    """The answer that a model is trained to give: the summary, then ``<p> phrase </p> [SEG]:explanation`` for each finding."""
    return f"{summary} " + "".join(f"<p> {phrase} </p> [SEG]:{explanation}" for phrase, explanation in findings)


assert set(_STEMS.values()) == set(CATEGORIES)
