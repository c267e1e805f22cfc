"""The grammar of ``refine bench``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add, configured

ABOUT = """\
Does refinement help? Every arm (a named variation of the preset) gets the same prompts, the same seeds and the same budget of denoiser
evaluations; what comes out is compared pair by pair with the picture that was not refined, by metrics that did not steer the arm.
A folder with the pictures, one CSV row per picture, tables (markdown, HTML), plots and a gallery of best, median and worst is written."""

EPILOG = """\
examples:
  refine bench --n 8                                         a first look: still life, all arms of the suite
  refine bench --n 256 --processes 2 --out runs/bench/table  the table of the README
  refine bench --n prompts=512,damaged=256                   these sets alone, each with its own number of prompts
  refine bench --n 8 --arm ours --arm best-of-n              these arms only (the baseline is always there)
  refine bench --suite mine.yaml --n 32                      your own arms; see refine/bench/stilllife.yaml
  refine bench --prompts prompts.csv --preset sdxl --held-out imagereward
                                                             your prompts; ImageReward steers no arm, so it may judge
  refine bench --prompts benchmark/ --n 3200                 all of HPDv2's folder; also DrawBench and ImageReward's
                                                             benchmark-prompts.json; where all prompts have a picture, these
                                                             are also written as the set's own tool reads them
  refine bench --out runs/bench/table --resume               go on where it stopped; with --n 512: more of the same
  refine bench --out runs/bench/table --resume --n clean=64  one set more; a bench may only grow
  refine bench --out runs/bench/table --resume --arm no-gate one arm more, on the same prompts
  accelerate launch --multi_gpu -m refine bench --out DIR    several processes or machines that share DIR; same results
"""


def register(commands: Any) -> None:
    command = add(commands, "bench", "compare arms at equal compute: tables, plots, gallery", ABOUT, EPILOG)
    command.add_argument("--suite", metavar="NAME|FILE", help="what is compared: a suite's name or .yaml file (default: stilllife)")
    command.add_argument("--prompts", metavar="FILE|DIR", help=".txt, .csv, .jsonl, or a published set (default: the suite's still life)")
    command.add_argument("--n", metavar="N|SET=N,...", help="how many prompts of each set, or of these sets alone (default: 64)")
    command.add_argument("--seeds", type=int, metavar="K", help="pictures per prompt; the prompt stays the unit (default: 1)")
    command.add_argument("--arm", action="append", metavar="NAME", help="only this arm of the suite; repeatable")
    command.add_argument("--held-out", action="append", metavar="REWARD", help="this reward only measures, in all arms; repeatable")
    command.add_argument("--processes", type=int, default=1, metavar="P", help="share the work among P processes on this machine")
    command.add_argument("--resume", action="store_true", help="go on with --out, with the options it had")
    configured(command)
