"""The grammar of ``refine show``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add


def register(commands: Any) -> None:
    command = add(commands, "show", "print the closing table of a run")
    command.add_argument("run", nargs="?", metavar="RUN", help="folder of a run (default: the newest in runs/)")
