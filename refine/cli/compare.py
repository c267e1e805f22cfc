"""The grammar of ``refine compare``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """\
Put runs side by side: for every prompt and seed that they share, the final images, artifact area, rewards and cost of each, with the
differences to the first run; here as tables, and as a page with the pictures. These are the numbers that steered the runs; for a fair
verdict on what is better use refine bench, whose judge steers nothing."""

EPILOG = """\
examples:
  refine run --prompts prompts.txt --out runs/a
  refine run --prompts prompts.txt --set policy=redraw --out runs/b
  refine compare runs/a runs/b
  refine compare runs/a runs/b runs/c --out runs/abc.html
"""


def register(commands: Any) -> None:
    command = add(commands, "compare", "put runs side by side", ABOUT, EPILOG)
    command.add_argument("run", nargs="+", metavar="RUN", help="folders of two or more runs")
    command.add_argument("--out", default="compare.html", metavar="FILE", help="where the page goes (default: compare.html)")
