"""The grammar of ``refine ui``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """\
A page in the browser: draw or upload a picture, see what is wrong, repair a finding or what you brush over, and decide what is kept.
Every picture is a run folder, as refine run writes it. Needs the extra ui: pip install "legion-refine[ui]" """

EPILOG = """\
examples:
  refine ui
  refine ui --preset mini --preset painter      presets to choose from on the page; each is loaded once, when it is first used
  refine ui --preset sdxl --port 8000 --out runs/page
  refine show runs/ui/NAME                      what was done on the page, as a table
"""


def register(commands: Any) -> None:
    command = add(commands, "ui", "a local page to draw, mark, repair and decide by hand", ABOUT, EPILOG)
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset to offer; repeatable (default: mini)")
    command.add_argument("--out", default="runs/ui", metavar="DIR", help="folder of all pictures of the page (default: runs/ui)")
    command.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: this machine only)")
    command.add_argument("--port", type=int, default=7860, metavar="N", help="port to listen on; 0: any free one (default: 7860)")
