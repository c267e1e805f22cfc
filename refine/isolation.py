"""One bad image must not cost the others: a batch that fails is done again, one by one, and only what fails alone is given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from refine.errors import InputError, RefineError

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """What became of an item that failed alone."""

    error: Exception

    def __str__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


def isolated(items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R | Failure]:
    """``work(items)``, one result per item; where that raises, ``work`` of each item alone, and a Failure for those that raise again.

    Raised at once, because every item would suffer from it: a full memory, and what the user has to mend (RefineError) unless it is about
    an input. An item that is done alone is a batch of one, so its bytes may differ from those in a whole batch.
    """
    try:
        return list(work(items))
    except Exception as error:
        if is_shared(error):
            raise
        if len(items) == 1:
            return [Failure(error)]
    return [outcome for item in items for outcome in isolated([item], work)]


def is_shared(error: Exception) -> bool:
    """True for an error that is nobody's in particular."""
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return full or (isinstance(error, RefineError) and not isinstance(error, InputError))
