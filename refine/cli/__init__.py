"""The command line: ``refine`` or ``python -m refine``. Parsing only; the work is imported when a command runs."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import refine
from refine.errors import RefineError, going_on

INTERRUPTED = 130

ABOUT = """Draw an image, find what is wrong in it, repair only that, and keep the repair only if it is measurably better."""

EPILOG = """\
examples:
  refine run                                     four built-in prompts on the small models that ship with refine
  refine run "a red cube left of a blue sphere on a grey floor, light from the left"
  refine run "a cat on a sofa" --preset sdxl     public weights, on a GPU
  refine inspect photo.png                       only look: what is wrong, where, and why
  refine eval controller --dataset stilllife     how well a controller finds and explains faults
  refine presets                                 what there is to choose from, and what it costs
  refine show                                    the table of the newest run

exit codes:
  0 done · 1 other error · 2 wrong input or configuration · 3 output cannot be written
  4 weights cannot be loaded · 5 a package is missing · 6 a model gave no answer that can be used
  130 interrupted (finished images are kept)
"""

# In the order of the help. The grammar of a command is refine/cli/NAME.py, its work refine/commands/NAME.py, imported when it runs.
COMMANDS = (
    "run", "ui", "inspect", "presets", "show", "compare", "calibrate", "convert", "bench", "tune", "eval", "parity", "doctor", "fetch"
)  # fmt: skip


def parser() -> ArgumentParser:
    """The whole grammar of the command line."""
    top = ArgumentParser("refine", description=ABOUT, epilog=EPILOG, formatter_class=RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"refine {refine.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"refine.cli.{name}").register(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. What the user can mend is one message, not a traceback."""
    args = parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported; its hints are not for our users
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        import_module(f"refine.commands.{args.command}").execute(args)
        sys.stdout.flush()
    except RefineError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"\ninterrupted. {_how_to_go_on(args)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return RefineError.exit_code
    finally:
        signal.signal(signal.SIGTERM, previous)
    return 0


def _how_to_go_on(args: Namespace) -> str:
    folder = getattr(args, "folder", None)  # set once the run has one
    words = f"{args.command} {args.what}" if hasattr(args, "what") else args.command
    if folder:
        return f"Finished images are whole. Go on with: refine {words} {going_on(folder)}"
    return getattr(args, "left", "Nothing was written.")  # a command without --resume says what it leaves, once it has written


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
