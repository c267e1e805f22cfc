"""``refine presets``: what there is to choose from."""

from __future__ import annotations

from argparse import Namespace

from refine import display, presets


def execute(args: Namespace) -> None:
    """The presets that ship with the package; with a name, its text."""
    screen = display.console()
    if args.name:
        screen.print(presets.text(args.name).rstrip(), soft_wrap=True)
    else:
        screen.print(display.presets_table([presets.describe(name) for name in presets.names()]))
