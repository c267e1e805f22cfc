"""What several commands have in common."""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any


def add(commands: Any, name: str, help: str, description: str | None = None, epilog: str | None = None) -> ArgumentParser:
    """A sub-command; its texts are printed as they are written."""
    about = description or f"{help[0].upper()}{help[1:]}."
    raw = RawDescriptionHelpFormatter
    made: ArgumentParser = commands.add_parser(name, help=help, description=about, epilog=epilog, formatter_class=raw)
    return made


def configured(command: ArgumentParser) -> None:
    """Presets, overrides and the folder to write."""
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset or .yaml file; repeatable (default: mini)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
    command.add_argument("--out", metavar="DIR", help="folder to write (default: a new one in runs/)")
