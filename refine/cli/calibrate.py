"""The grammar of ``refine calibrate``."""

from __future__ import annotations

from typing import Any

from refine.cli.shared import add

ABOUT = """\
Teach the controller when to say "clean". LEGION finds something in every image; from images that are known to be clean and images that
are known to be faulty this fits how likely each kind of finding is real. Half of the images are for the fit, half for the figures."""

EPILOG = """\
examples:
  refine calibrate --clean good/ --faulty bad/                     on your own images, for preset mini
  refine calibrate --preset sdxl --clean good/ --faulty bad/ --out sdxl-calibration.json
  refine run "a cat" --preset sdxl --set controller.calibration=sdxl-calibration.json
  refine calibrate --stilllife 400                                 on the built-in world, whose faults are known to the pixel

Without --out the calibration is written beside the controller's weights, where every later run finds it. --masks FOLDER holds, per
faulty image, a mask of the same name (white: fault); without it, every finding in a faulty image counts as real. Give clean images that
your generator drew, or that went through its autoencoder: its softness is no fault. Half of --stilllife does. Both sources add up."""


def register(commands: Any) -> None:
    command = add(commands, "calibrate", "fit when a finding of the controller is real", ABOUT, EPILOG)
    command.add_argument("--clean", action="append", default=[], metavar="FOLDER", help="images without faults; repeatable")
    command.add_argument("--faulty", action="append", default=[], metavar="FOLDER", help="images with faults; repeatable")
    command.add_argument("--masks", metavar="FOLDER", help="where the faults are, one mask per faulty image")
    command.add_argument("--stilllife", type=int, metavar="N", help="N clean and N damaged still lifes, half of them autoencoded")
    command.add_argument("--keep-clean", type=float, default=0.95, metavar="P", help="share of clean images to leave alone (default: 0.95)")
    command.add_argument("--preset", action="append", default=[], metavar="NAME", help="preset or .yaml file; repeatable (default: mini)")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override one value; repeatable")
    command.add_argument("--out", metavar="FILE", help="where to write (default: beside the weights)")
