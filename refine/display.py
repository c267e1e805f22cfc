"""What a person sees in the terminal. Progress goes to stderr, results to stdout; prompts are shown as text, never as markup."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from refine.loop import Event
from refine.presets import Preset
from refine.store import Line
from refine.types import Critique

WIDE = 160  # columns, where the output is no terminal and nothing else is said
PROMPT_SHOWN = 48
BAR = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def console(stream: TextIO | None = None) -> Console:
    """A console on a stream (default: stdout)."""
    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def safe(text: str) -> Text:
    """Text without characters that could steer a terminal."""
    return Text("".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text))


def short(text: str, length: int = PROMPT_SHOWN) -> Text:
    return safe(text if len(text) <= length else text[: length - 1] + "…")


def count(number: int, thing: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number} {thing}{'s' * (number != 1)}"


@contextmanager
def progress(total: int, finished: int, quiet: Console) -> Iterator[tuple[Callable[[Event], None], Callable[[Line], None]]]:
    """Two callbacks, one for the stages of the loop and one for each finished image. A line per stage where there is no terminal."""
    bars = Progress(*BAR, console=quiet, disable=not quiet.is_terminal)
    with bars:
        overall = bars.add_task("images finished", total=total, completed=finished)
        stages: dict[str, TaskID] = {}

        def observe(event: Event) -> None:
            name = f"round {event.round} {event.stage}" if event.round else event.stage
            if name not in stages:
                for old in stages.values():
                    bars.remove_task(old)
                stages.clear()
                stages[name] = bars.add_task(name, total=event.total)
            bars.update(stages[name], completed=event.done, total=event.total)
            if not quiet.is_terminal and event.total and not event.done:
                quiet.print(f"{name}: {event.total}")

        def done(line: Line) -> None:
            bars.advance(overall)
            if not quiet.is_terminal:
                quiet.print(f"finished {line['id']}: {line['stop_reason']}")

        yield observe, done


@contextmanager
def counter(what: str, total: int, finished: int, quiet: Console) -> Iterator[Callable[[int], None]]:
    """A callback that is told how many more are done: a bar, or a line per hundredth of the whole where there is no terminal."""
    bars = Progress(*BAR, console=quiet, disable=not quiet.is_terminal)
    with bars:
        task = bars.add_task(what, total=total, completed=finished)

        def advance(count: int) -> None:
            before = bars.tasks[0].completed
            bars.advance(task, count)
            after = bars.tasks[0].completed
            if not quiet.is_terminal and 100 * after // total > 100 * before // total:
                quiet.print(f"{what}: {after:g} of {total}")

        yield advance


def closing_table(lines: Sequence[Line], folder: Path) -> Table:
    """Per image: every reward and the artifact area before → after, repairs, why it stopped, where the files are."""
    rewards = list(dict.fromkeys(name for line in lines for name in line["first"]["scores"]))
    table = Table(title=f"{count(len(lines), 'image')} in {folder}", title_justify="left")
    for heading in ("image", "prompt"):
        table.add_column(heading, overflow="fold")
    for heading in (*rewards, "artifact area", "repairs"):
        table.add_column(heading, justify="right", overflow="fold")  # a number is never cut short
    for heading in ("stopped", "files"):
        table.add_column(heading, overflow="fold")
    for line in lines:
        changes = [change(line["first"]["scores"].get(name), line["final"]["scores"].get(name)) for name in rewards]
        area = f"{line['first']['area']:.2%} → {line['final']['area']:.2%}"
        drawing, drawings = line.get("drawing", (1, 1))
        chosen = f"drawing {drawing} of {drawings}; " if drawings > 1 else ""
        repairs = f"{chosen}{line['accepted']} kept, {line['rejected']} not"
        files = f"items/{line['key']}"
        table.add_row(safe(line["id"]), short(line["prompt"]), *changes, area, repairs, line["stop_reason"], files)
    return table


def change(before: float | None, after: float | None) -> str:
    """A number before → after; None is no number."""
    return " → ".join("–" if value is None else f"{value:.4g}" for value in (before, after))


def presets_table(presets: Sequence[Preset]) -> Table:
    """Name, what it is, cost, hardware, expected result."""
    table = Table()
    for heading in ("preset", "what it is", "cost", "hardware", "expect"):
        table.add_column(heading, overflow="fold")
    for preset in presets:
        table.add_row(preset.name, preset.about, *(preset.facts.get(fact, "") for fact in ("cost", "hardware", "expect")))
    return table


def critique_text(name: str, critique: Critique) -> str:
    """What a controller says of one image, as lines."""
    head = f"{name}: {count(len(critique.regions), 'region')}, {critique.area:.2%} of the image"
    fake = [] if critique.fake_probability is None else [f"  generated with probability {critique.fake_probability:.2f}"]
    summary = [f"  {critique.summary}"] if critique.summary else []
    regions = [
        f"  {index}. {one.phrase} [{one.category or 'no category'}, score {one.score:.2f}, {one.mask.mean():.2%}]: {one.explanation}"
        for index, one in enumerate(critique.regions)
    ]
    return "\n".join([head, *fake, *summary, *regions])
