"""From what a vision-language model says to findings: boxes and reasons as JSON, read by rules that are the same for every model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from refine.replies import Json, first_text, objects
from refine.types import CATEGORIES, Box, Category

# How a family writes a box. pixels of the picture it was shown: Qwen2.5-VL. Thousandths of its sides: Qwen2-VL, Qwen3-VL, InternVL.
# Thousandths, y before x: Gemini.
Convention = Literal["pixels", "permille", "permille-yx"]
BOX = ("bbox_2d", "bbox", "box_2d", "box")
PHRASE = ("label", "phrase", "name")
REASON = ("reason", "explanation", "description")
SCORE = ("confidence", "score")


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault: its box in the frame of the image, what it is, why it is wrong, and how sure the model says it is (0 to 1)."""

    box: Box
    phrase: str
    explanation: str
    category: Category | None
    score: float


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer's findings, and why the others were left out."""

    findings: tuple[Finding, ...]
    left_out: tuple[str, ...] = ()


def read(text: str, shown: tuple[int, int], size: tuple[int, int], convention: Convention) -> Reading | None:
    """An answer as findings; None where it holds no list, or a list of which nothing can be used.

    ``shown`` and ``size``: (width, height) of the picture that the model saw and of the image whose frame the boxes are wanted in. Corners
    may be swapped, boxes are cut at the border, one without an inside is left out. A missing or odd confidence counts as 1.
    """
    items = objects(text, BOX)
    if items is None:
        return None
    read_items = [_finding(item, shown, size, convention) for item in items]
    findings = tuple(one for one in read_items if isinstance(one, Finding))
    left_out = tuple(one for one in read_items if isinstance(one, str))
    return None if left_out and not findings else Reading(findings, left_out)


def _finding(item: Json, shown: tuple[int, int], size: tuple[int, int], convention: Convention) -> Finding | str:
    """The finding, or why there is none."""
    phrase = first_text(item, *PHRASE) or "artifact"
    numbers = _numbers(next((item[key] for key in BOX if key in item), None))
    if numbers is None:
        return f"{phrase}: its box is not four numbers"
    box = _in_frame(numbers, shown, size, convention)
    if box is None:
        return f"{phrase}: its box lies outside the image or has no inside"
    named = first_text(item, "category").lower()
    category = next((one for one in CATEGORIES if named.startswith(one[:6])), None)  # "structural" is meant as well
    return Finding(box, phrase, first_text(item, *REASON), category, _score(item))


def _numbers(value: Any) -> tuple[float, float, float, float] | None:
    """Four finite numbers; text that reads as a number counts, truth values do not."""
    if not isinstance(value, list) or len(value) != 4 or any(isinstance(one, bool) for one in value):
        return None
    try:
        a, b, c, d = (float(one) for one in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return (a, b, c, d) if all(map(math.isfinite, (a, b, c, d))) else None


def _in_frame(
    numbers: tuple[float, float, float, float], shown: tuple[int, int], size: tuple[int, int], convention: Convention
) -> Box | None:
    """The box in pixels of the image, every touched pixel inside; None where nothing of it lies in the image."""
    a, b, c, d = numbers
    x0, y0, x1, y1 = (b, a, d, c) if convention == "permille-yx" else (a, b, c, d)
    width, height = shown if convention == "pixels" else (1000, 1000)

    def span(first: float, second: float, of: int, side: int) -> tuple[int, int]:
        low, high = sorted((first / of * side, second / of * side))
        return max(0, math.floor(low + 1e-6)), min(side, math.ceil(high - 1e-6))

    (left, right), (top, bottom) = span(x0, x1, width, size[0]), span(y0, y1, height, size[1])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _score(item: Mapping[str, Any]) -> float:
    """A confidence from 0 to 1, or from 0 to 100."""
    for key in SCORE:
        value = item.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            return value / 100 if value > 1 else float(value)
    return 1.0
