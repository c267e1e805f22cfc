"""A bar per stage, drawn by the pipeline itself, so that its own settings (``set_progress_bar_config``) rule it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from refine.stages import Event, ignore

Observe = Callable[[Event], None]


@contextmanager
def bars(pipe: Any) -> Iterator[Observe]:
    """An observer that shows each stage as a bar of the pipeline's; nothing where the pipeline has none."""
    if not hasattr(pipe, "progress_bar"):
        yield ignore
        return
    shown: list[Any] = []
    slow = ("draw", "inspect", "repair")

    def observe(event: Event) -> None:
        if event.stage not in slow:
            return
        if not event.done and event.total:
            shown.append(pipe.progress_bar(total=event.total))
            shown[-1].set_description(f"round {event.round} {event.stage}" if event.round else event.stage)
        elif shown:
            bar = shown.pop()
            bar.update(event.done)
            bar.close()

    try:
        yield observe
    finally:
        for bar in shown:
            bar.close()


def both(first: Observe, second: Observe | None) -> Observe:
    """One observer for two."""
    if second is None:
        return first

    def observe(event: Event) -> None:
        first(event)
        second(event)

    return observe
