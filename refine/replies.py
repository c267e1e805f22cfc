"""JSON in what a chat model says: between fences, after a preamble, before a farewell, or cut off at the end."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

Json = dict[str, Any]
_DECODER = json.JSONDecoder(strict=False)  # models break lines within strings


def objects(text: str, keys: Collection[str]) -> list[Json] | None:
    """The JSON objects of a text, in order: those that have one of ``keys``, alone, in lists or in the lists of an object around them.

    ``[]`` or an object around an empty list gives an empty list, a text without JSON None. What is cut off before its end is left out. An
    object that has none of the keys and no lists is returned too: whoever asked knows what to say of it.
    """
    text = text.rpartition("</think>")[2]  # what a model thinks before it answers is no answer
    found: list[Json] = []
    answered = False
    at = 0
    while (start := _next(text, at)) is not None:
        try:
            value, at = _DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            at = start + 1
            continue
        answered = answered or isinstance(value, dict) or not value
        found += _within(value, keys)
    return found if found or answered else None


def _next(text: str, at: int) -> int | None:
    """Where the next bracket or brace opens."""
    places = [place for mark in "[{" if (place := text.find(mark, at)) >= 0]
    return min(places, default=None)


def _within(value: Any, keys: Collection[str]) -> list[Json]:
    if isinstance(value, list):
        return [one for one in value if isinstance(one, dict)]
    lists = [one for one in value.values() if isinstance(one, list)]
    return [value] if not lists or any(key in value for key in keys) else [one for some in lists for one in some if isinstance(one, dict)]


def first_text(answer: Json, *keys: str) -> str:
    """The first value that is text and not blank, on one line; empty where there is none."""
    texts = (answer[key] for key in keys if isinstance(answer.get(key), str))
    return next((" ".join(text.split()) for text in texts if text.strip()), "")
