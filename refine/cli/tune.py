"""The grammar of ``refine tune``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """\
Fit the gate's margins and the strengths of repair to your own model and images, and write them as a preset. Half of the images are for
the fit; the figures that are printed, and kept in the preset's header, are those of the other half."""

EPILOG = """\
examples:
  refine tune --prompts prompts.txt                            preset mini, images drawn from 64 of your prompts
  refine tune --preset sdxl --prompts prompts.csv --n 128 --out sdxl-mine.yaml
  refine tune --preset sdxl --images photos/ --out photos.yaml your own images, the prompt of photo.png in photo.txt
  refine run "a cat on a sofa" --preset sdxl-mine.yaml         use what was fitted
"""


def register(commands: Any) -> None:
    command = add(commands, "tune", "fit gate margins and strengths to your own model and images", ABOUT, EPILOG)
    command.add_argument("--prompts", metavar="FILE", help="prompts from a .txt, .csv or .jsonl file (columns: prompt, id, seed)")
    command.add_argument("--images", action="append", metavar="FILE|FOLDER", help="tune on these images instead of drawing; repeatable")
    command.add_argument("--n", type=int, default=64, metavar="N", help="at most so many images (default: 64)")
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset or .yaml file; repeatable (default: mini)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
    command.add_argument("--out", default="tuned.yaml", metavar="FILE", help="preset file to write (default: tuned.yaml)")
