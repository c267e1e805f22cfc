"""refine: find what is wrong in a generated image, explain it, repair only that, keep the repair only if it is better."""

from pathlib import Path as _Path

if not (_Path(__file__).parent / "controllers").is_dir():  # a checkout: the sub-packages are sibling folders
    __path__.append(str(_Path(__file__).parent.parent))

__version__ = "0.1.0"
