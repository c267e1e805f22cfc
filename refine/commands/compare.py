"""``refine compare``: the final images of several runs, row by row."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TypeAlias

from rich.table import Table

from refine import display, store
from refine.errors import InputError
from refine.store import Line

Case: TypeAlias = tuple[str, str, int]  # id, prompt, seed


def execute(args: Namespace) -> None:
    """The table of what all runs have, and what only some of them have. Raises InputError."""
    folders = [Path(run) for run in args.run]
    if len(folders) < 2 or len(set(folders)) < len(folders):
        raise InputError(f"refine compare needs two or more different runs; got {', '.join(args.run)}.")
    runs = [cases(folder) for folder in folders]
    shared = [case for case in runs[0] if all(case in run for run in runs[1:])]
    if not shared:
        raise InputError("These runs share no image with the same id, prompt and seed, so there is nothing to compare row by row.")
    screen = display.console()
    screen.print(table(shared, folders, runs))
    for folder, run in zip(folders, runs, strict=True):
        if alone := len(run) - len(shared):
            screen.print(f"{alone} images of {folder} are not in every run and are left out", soft_wrap=True)


def cases(folder: Path) -> dict[Case, Line]:
    """The finished images of a run by what was asked for."""
    store.reopen(folder)
    return {(line["id"], line["prompt"], line["seed"]): line for line in store.ledger(folder)}


def table(shared: Sequence[Case], folders: Sequence[Path], runs: Sequence[Mapping[Case, Line]]) -> Table:
    """Per case, the final artifact area and every reward of each run; the means below."""
    rewards = list(dict.fromkeys(name for run in runs for case in shared for name in run[case]["final"]["scores"]))
    title = f"{len(shared)} images of {len(folders)} runs: {' | '.join(map(str, folders))}"
    made = Table(title=title, title_justify="left", show_footer=True)
    made.add_column("image", "mean", overflow="fold")
    made.add_column("prompt", overflow="fold")
    rows = {name: [[number(run[case], name) for run in runs] for case in shared] for name in ("artifact area", *rewards)}
    for name, values in rows.items():
        made.add_column(name, shown(name, [mean(column) for column in zip(*values, strict=True)]), justify="right")
    for k, case in enumerate(shared):
        made.add_row(display.safe(case[0]), display.short(case[1]), *(shown(name, values[k]) for name, values in rows.items()))
    return made


def number(line: Line, name: str) -> float | None:
    """The final area (a share of the image) or a reward; None where there is none."""
    value = line["final"]["area"] if name == "artifact area" else line["final"]["scores"].get(name)
    return None if value is None else float(value)


def mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def shown(name: str, values: Sequence[float | None]) -> str:
    """The runs' numbers in their order."""
    kind = "{:.2%}" if name == "artifact area" else "{:.4g}"
    return " | ".join("–" if value is None else kind.format(value) for value in values)
