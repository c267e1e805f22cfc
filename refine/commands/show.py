"""``refine show``: the table of a run."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from refine import display, jobs, store
from refine.commands.folders import RUNS, newest
from refine.errors import going_on


def execute(args: Namespace) -> None:
    """The closing table of a run, made anew from its ledger."""
    folder = Path(args.run) if args.run else newest(RUNS)
    kept, work = store.reopen(folder)
    lines = store.ledger(folder)
    finished = {line["key"] for line in lines}
    left = sum(jobs.key(job, kept.config) not in finished for job in work)
    screen = display.console()
    screen.print(display.closing_table(lines, folder))
    if left:
        screen.print(f"{display.count(left, 'image')} not finished: refine run {going_on(folder)}")
    if (folder / "report.html").exists():
        screen.print(f"report: {folder / 'report.html'}")
