"""The grammar of ``refine run``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add, configured

ABOUT = """\
Draw an image per prompt, or take existing images; find, explain and repair their faults; keep what is better.
A folder with every image, candidate, mask, decision and reason is written, and report.html to look at it."""

EPILOG = """\
examples:
  refine run
  refine run "a small red matte cube on a wood floor, light from the right" --seed 7
  refine run --prompts prompts.csv --out runs/mine
  refine run --images photos/ "a hand holding a cup"      one prompt for all; without one, photo.txt beside photo.png
  refine run --set budget.rounds=4 --set policy=inpaint --set rewards.hps=null
  refine run --preset mini --preset blind                  presets are merged left to right
  refine run --out runs/mine --resume                      go on where it stopped, with the configuration it had
  accelerate launch --multi_gpu --num_processes 4 -m refine run --prompts prompts.csv --out runs/mine
                                                           the same run on four GPUs (or, where there is none, CPU processes)
"""


def register(commands: Any) -> None:
    command = add(commands, "run", "draw or read images, then refine them", ABOUT, EPILOG)
    command.add_argument("prompt", nargs="*", metavar="PROMPT", help="what to draw (default: four built-in prompts)")
    command.add_argument("--prompts", metavar="FILE", help="prompts from a .txt, .csv or .jsonl file (columns: prompt, id, seed)")
    command.add_argument("--images", action="append", metavar="FILE|FOLDER", help="refine these images instead of drawing; repeatable")
    command.add_argument("--seed", type=int, metavar="N", help="seed of the first image; the others count up (default: 0)")
    command.add_argument("--resume", action="store_true", help="go on with --out (default: the newest run)")
    configured(command)
