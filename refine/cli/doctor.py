"""The grammar of ``refine doctor``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """Look at this machine: versions, known breakages, disk, memory, accelerator. With a preset, what it would download and the memory
that its weights need under each offloading policy, before anything is downloaded."""

EPILOG = """\
examples:
  refine doctor
  refine doctor --preset sdxl                    does SDXL with LEGION fit here, and under which settings?
  refine doctor --preset flux --set controller.quantize=4bit

exit codes: 0 nothing is broken · 1 something is, and how to mend it is said
"""


def register(commands: Any) -> None:
    command = add(commands, "doctor", "check this machine, and whether a preset fits it", ABOUT, EPILOG)
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset or .yaml file to weigh; repeatable")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
