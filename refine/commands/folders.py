"""Where runs go when nothing else is said."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path

from refine import store
from refine.errors import InputError

RUNS = Path("runs")


def fresh(folder: Path) -> Path:
    """A new, empty folder below ``folder``, which no other process gets: date and time, and a number where that is taken."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = itertools.chain([stamp], (f"{stamp}-{count}" for count in itertools.count(2)))
    with store.writing(folder):
        return next(path for name in names if claimed(path := folder / name))


def claimed(folder: Path) -> bool:
    """Make a folder; False where it exists already."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    return True


def newest(folder: Path) -> Path:
    """The run below ``folder`` that was started last. Raises InputError where there is none."""
    runs = [path.parent for path in folder.glob(f"*/{store.RUN}")]
    if not runs:
        raise InputError(f"There is no run in {folder.absolute()}. Name one, or start with: refine run.")
    return max(runs, key=lambda path: (path / store.JOBS).stat().st_mtime)
