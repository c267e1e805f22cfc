"""The grammar of ``refine parity``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """\
Compare our HPSv2 and ImageReward with their authors' own packages on your images: every score by both, the largest and the mean
difference. The packages run in an environment of their own, which REFINE_OFFICIAL_PYTHON (or rewards.NAME.python) names; without it,
the lines that make one are shown. On a CPU expect up to 1e-6 for HPSv2 and 1e-5 for ImageReward; on a GPU the authors' HPSv2 rounds to
half precision, in steps of 0.0002."""

EPILOG = """\
examples:
  refine parity --images photos/ --prompts prompts.txt             one prompt per image, in the order of the file names
  refine parity --images photos/                                   the prompt of photo.png is in photo.txt
  refine parity --images photos/ --reward hps --set rewards.hps.source=HPS_v2.1_compressed.pt
  refine run "a cat" --preset sdxl --set rewards.hps.backend=official     the authors' package inside the loop"""


def register(commands: Any) -> None:
    command = add(commands, "parity", "our rewards against their authors' packages", ABOUT, EPILOG)
    command.add_argument("--images", action="append", required=True, metavar="FILE|FOLDER", help="what to score; repeatable")
    command.add_argument("--prompts", metavar="FILE", help="a .txt, .csv or .jsonl file, a prompt per image (default: texts beside them)")
    command.add_argument("--reward", action="append", default=[], metavar="NAME", help="hps or imagereward; repeatable (default: both)")
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset or .yaml file; repeatable (default: public)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
