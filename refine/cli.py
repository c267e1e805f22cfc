"""The command line: ``refine`` or ``python -m refine``. Parsing only; the work is imported when a command runs."""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from types import FrameType

import refine
from refine.errors import RefineError

INTERRUPTED = 130

ABOUT = """Draw an image, find what is wrong in it, repair only that, and keep the repair only if it is measurably better."""

EPILOG = """\
examples:
  refine run                                     four built-in prompts on the small models that ship with refine
  refine run "a red cube left of a blue sphere on a grey floor, light from the left"
  refine run "a cat on a sofa" --preset sdxl     public weights, on a GPU
  refine inspect photo.png                       only look: what is wrong, where, and why
  refine presets                                 what there is to choose from, and what it costs
  refine show                                    the table of the newest run

exit codes:
  0 done · 1 other error · 2 wrong input or configuration · 3 output cannot be written
  4 weights cannot be loaded · 5 a package is missing · 130 interrupted (finished images are kept)
"""

RUN = """\
Draw an image per prompt, or take existing images; find, explain and repair their faults; keep what is better.
A folder with every image, candidate, mask, decision and reason is written, and report.html to look at it."""

RUN_EPILOG = """\
examples:
  refine run
  refine run "a small red matte cube on a wood floor, light from the right" --seed 7
  refine run --prompts prompts.csv --out runs/mine
  refine run --images photos/ "a hand holding a cup"      one prompt for all; without one, photo.txt beside photo.png
  refine run --set budget.rounds=4 --set policy.route=inpaint --set rewards.hps=null
  refine run --preset mini --preset blind                  presets are merged left to right
  refine run --out runs/mine --resume                      go on where it stopped, with the configuration it had
"""

INSPECT = """Look at images with the controller alone: text here; masks, an overlay and JSON (COCO run lengths) in a folder."""


def parser() -> ArgumentParser:
    """The whole grammar of the command line."""
    top = ArgumentParser("refine", description=ABOUT, epilog=EPILOG, formatter_class=RawDescriptionHelpFormatter)
    top.add_argument("--version", action="version", version=f"refine {refine.__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _run(commands.add_parser("run", help="draw or read images, then refine them", **_texts(RUN, RUN_EPILOG)))  # type: ignore[arg-type]
    inspect = commands.add_parser("inspect", help="find and explain faults, change nothing", description=INSPECT)
    inspect.add_argument("image", nargs="+", metavar="IMAGE", help="image files or folders")
    _configured(inspect)
    presets = commands.add_parser("presets", help="list the presets, or print one", description="List the presets, or print one.")
    presets.add_argument("name", nargs="?", metavar="NAME", help="print this preset's YAML")
    show = commands.add_parser("show", help="print the table of a run", description="Print the closing table of a run.")
    show.add_argument("run", nargs="?", metavar="RUN", help="folder of a run (default: the newest in runs/)")
    return top


def _texts(description: str, epilog: str) -> dict[str, object]:
    return {"description": description, "epilog": epilog, "formatter_class": RawDescriptionHelpFormatter}


def _run(command: ArgumentParser) -> None:
    command.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to draw (default: four built-in prompts)")
    command.add_argument("--prompts", metavar="FILE", help="prompts from a .txt, .csv or .jsonl file (columns: prompt, id, seed)")
    command.add_argument("--images", action="append", metavar="FILE|FOLDER", help="refine these images instead of drawing; repeatable")
    command.add_argument("--seed", type=int, metavar="N", help="seed of the first image; the others count up (default: 0)")
    command.add_argument("--resume", action="store_true", help="go on with --out (default: the newest run)")
    _configured(command)


def _configured(command: ArgumentParser) -> None:
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset or .yaml file; repeatable (default: mini)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
    command.add_argument("--out", metavar="DIR", help="folder to write (default: a new one in runs/)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code. What the user can mend is one message, not a traceback."""
    args = parser().parse_args(arguments)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # read when transformers is imported; its hints are not for our users
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        _dispatch(args)
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


def _dispatch(args: Namespace) -> None:
    from refine import commands

    {"run": commands.run, "inspect": commands.inspect, "presets": commands.list_presets, "show": commands.show}[args.command](args)


def _how_to_go_on(args: Namespace) -> str:
    folder = getattr(args, "folder", None)  # set once the run has one
    return f"Finished images are whole. Go on with: refine run --out {folder} --resume" if folder else "Nothing was written."


def _terminated(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
