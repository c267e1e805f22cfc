"""The grammar of ``refine fetch``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """Download everything that a preset needs into the hub's cache, so that it then runs offline (HF_HUB_OFFLINE=1). Only the files
that are read are taken; what is there already stays; a broken download goes on where it stopped."""

EPILOG = """\
examples:
  refine fetch --preset sdxl --dry-run           the list, with sizes
  refine fetch --preset sdxl
  HF_HUB_OFFLINE=1 refine run "a cat on a sofa" --preset sdxl

The cache lies where HF_HOME says. Gated models need their licence accepted on the hub, and then: hf auth login
"""


def register(commands: Any) -> None:
    command = add(commands, "fetch", "download what a preset needs, for offline use", ABOUT, EPILOG)
    command.add_argument("--preset", action="append", required=True, metavar="NAME", help="preset or .yaml file; repeatable")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
    command.add_argument("--dry-run", action="store_true", help="list what would be downloaded, and download nothing")
