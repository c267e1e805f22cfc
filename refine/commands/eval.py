"""``refine eval``: one module per thing that can be measured."""

from __future__ import annotations

from argparse import Namespace
from importlib import import_module


def execute(args: Namespace) -> None:
    import_module(f"refine.commands.eval_{args.what}").execute(args)
