"""The grammar of ``refine inspect``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add, configured

ABOUT = """Look at images with the controller alone: text here; masks, an overlay and JSON (COCO run lengths) in a folder."""


def register(commands: Any) -> None:
    command = add(commands, "inspect", "find and explain faults, change nothing", ABOUT)
    command.add_argument("image", nargs="+", metavar="IMAGE", help="image files or folders")
    configured(command)
