"""refine: find what is wrong in a generated image, explain it, repair only that, keep the repair only if it is better."""

from importlib import import_module as _import_module
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

if _TYPE_CHECKING:
    from refine.pipeline import RefineOutput as RefineOutput
    from refine.pipeline import RefinePipeline as RefinePipeline
    from refine.pipeline import Refiner as Refiner
    from refine.pipeline import RefineStep as RefineStep
    from refine.pipeline import save_workflow as save_workflow

if not (_Path(__file__).parent / "controllers").is_dir():  # a checkout: the sub-packages are sibling folders
    __path__.append(str(_Path(__file__).parent.parent))

__version__ = "0.1.0"

_PIPELINE = ("RefineOutput", "RefinePipeline", "RefineStep", "Refiner", "save_workflow")


def __getattr__(name: str) -> _Any:
    """The stages of diffusers, imported when they are first asked for: they bring torch and diffusers with them."""
    if name in _PIPELINE:
        return getattr(_import_module("refine.pipeline"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PIPELINE])
