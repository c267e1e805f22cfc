"""``refine compare``: the final images of several runs, row by row."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from refine import display
from refine.errors import InputError
from refine.report import pairing
from refine.report.comparison import write_comparison
from refine.report.pairing import Case, Side
from refine.report.words import plural
from refine.trees import differences


def execute(args: Namespace) -> None:
    """Two tables in the terminal and a page. Raises InputError where there is nothing to compare, OutputError for the page."""
    folders = [Path(run) for run in args.run]
    if len(folders) < 2 or len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError(f"refine compare needs two or more different runs; got {', '.join(args.run)}.")
    runs = pairing.sides(folders)
    cases = pairing.shared(runs)
    if not cases:
        raise InputError(nothing_shared(runs))
    page = write_comparison(Path(args.out), runs, [differences(runs[0].config, run.config) for run in runs[1:]])
    screen = display.console()
    screen.print(rows(cases, runs))
    screen.print(means(cases, runs))
    for run in runs:
        if alone := len(run.lines) - len(cases):
            screen.print(f"{plural(alone, 'image')} of {run.folder} not in every run, left out", soft_wrap=True)
    screen.print(f"page: {page}", soft_wrap=True)


def nothing_shared(runs: Sequence[Side]) -> str:
    """What the runs have instead, so that the difference can be seen."""
    firsts = [next(iter(run.lines), None) for run in runs]
    seen = [f"  {run.folder}: " + (f"{case[0]!r}, seed {case[1]}" if case else "empty") for run, case in zip(runs, firsts, strict=True)]
    what = "These runs share no image with the same prompt and seed (and, where images were given, the same file)"
    return "\n".join(
        [f"{what}, so there is nothing to compare. The first image of each:", *seen, "Run again with equal prompts and --seed."]
    )


def rows(cases: Sequence[Case], runs: Sequence[Side]) -> Table:
    """Per prompt and seed, every measure of each run, with the difference to the first."""
    title = f"{plural(len(cases), 'image')} of {len(runs)} runs: {' | '.join(str(run.folder) for run in runs)}"
    table = Table(title=title, title_justify="left")
    table.add_column("prompt", overflow="fold")
    table.add_column("seed", justify="right")
    names = pairing.measures(runs, cases)
    for name in names:
        table.add_column(name, justify="right")
    for case in cases:
        table.add_row(display.short(case[0]), str(case[1]), *(values(case, runs, name) for name in names))
    return table


def values(case: Case, runs: Sequence[Side], name: str) -> str:
    """The runs' numbers in their order; a number that differs from the first run's with the difference."""
    first, *others = (pairing.number(run.lines[case], name) for run in runs)
    said = [pairing.written(name, first)]
    for other in others:
        change = None if first is None or other is None or first == other else other - first
        said.append(pairing.written(name, other) + (f" ({pairing.difference(name, change)})" if change else ""))
    return " | ".join(said)


def means(cases: Sequence[Case], runs: Sequence[Side]) -> Table:
    """Per run, the mean of every measure, and on how many images it is better or worse than the first run."""
    table = Table(title="means of the final images", title_justify="left")
    table.add_column("run", overflow="fold")
    names = pairing.measures(runs, cases)
    for name in names:
        table.add_column(name, overflow="fold")
    for run in runs:
        table.add_row(run.name, *(summed(name, run, runs[0], cases) for name in names))
    return table


def summed(name: str, run: Side, first: Side, cases: Sequence[Case]) -> str:
    """The mean of a measure and, below it, the change against the first run."""
    value = pairing.written(name, pairing.mean([pairing.number(run.lines[case], name) for case in cases]))
    return value if run is first else f"{value}\n{pairing.told(name, pairing.change(first, run, cases, name))}"
