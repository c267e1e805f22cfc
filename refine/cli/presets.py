"""The grammar of ``refine presets``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add


def register(commands: Any) -> None:
    command = add(commands, "presets", "list the presets, or print one")
    command.add_argument("name", nargs="?", metavar="NAME", help="print this preset's YAML")
