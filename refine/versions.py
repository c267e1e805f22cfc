"""What a result was made with."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

import refine

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "numpy", "pillow", "scipy", "omegaconf")


@cache
def versions() -> dict[str, str]:
    """refine's own version, Python's, and those of the packages that decide what an image looks like."""
    found = {"refine": refine.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found
