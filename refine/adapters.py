"""Plain functions in the place of controllers and graders: what a detailer's user has already."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from refine.errors import InputError
from refine.types import Controller, Critique, Grader, Image, Mask, Region

Detector: TypeAlias = Callable[[Image], Any]  # masks (H, W) of one RGB image: a list of them, one, a stack (N, H, W), or None


def as_controller(given: Controller | Detector) -> Controller:
    """A controller as it is; a function from one image to masks as a controller. Anything else is returned for its user to refuse."""
    return given if hasattr(given, "inspect") or not callable(given) else MaskController(given)


def as_grader(given: Grader | Callable[[Image], float]) -> Grader:
    """A grader as it is; a function from one crop to the probability that it is faulty (or True, False) as a grader."""
    return given if hasattr(given, "grade") or not callable(given) else CropGrader(given)


@dataclass(frozen=True, slots=True)
class MaskController:
    """A ``Controller`` from a function. Each mask that is not empty is a region of score 1."""

    find: Detector

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [self._one(image) for image in images]

    def _one(self, image: Image) -> Critique:
        found = regions(self.find(image.convert("RGB")), image.size)
        return Critique(image.size, found, f"{len(found)} marked." if found else "Nothing is marked.")


@dataclass(frozen=True, slots=True)
class CropGrader:
    """A ``Grader`` from a function of one crop."""

    judge: Callable[[Image], float]

    def grade(self, crops: Sequence[Image], phrases: Sequence[str]) -> list[float]:
        grades = [float(self.judge(crop)) for crop in crops]
        if wrong := [grade for grade in grades if not 0 <= grade <= 1]:
            raise InputError(f"The grader said {wrong[0]}; it must be the probability, 0 to 1, that the crop is faulty.")
        return grades


def regions(found: Any, size: tuple[int, int]) -> tuple[Region, ...]:
    """One region per mask that is not empty. ``size`` is the image's (width, height).

    A mask is a (H, W) array or tensor or a grey picture: bool, uint8 (0 and 1, or up to 255), or floats in [0, 1]; inside is above the
    middle. Regions pass as they are. Raises InputError.
    """
    if found is None:
        return ()
    if isinstance(found, Region):
        return (found,)
    if isinstance(found, list | tuple):
        return tuple(region for one in found for region in regions(one, size))
    array = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
    if array.ndim == 3:
        return tuple(region for plane in array for region in regions(plane, size))
    mask = _mask(array, size)
    return (Region(mask, "artifact"),) if mask.any() else ()


def _mask(array: Any, size: tuple[int, int]) -> Mask:
    width, height = size
    if array.shape != (height, width):
        raise InputError(f"The controller's mask has the shape {array.shape}; for this image it must be {(height, width)}: height, width.")
    is_share = array.dtype.kind == "f" and bool((array >= 0).all() and (array <= 1).all())
    if array.dtype not in (np.bool_, np.uint8) and not is_share:
        raise InputError(
            f"The controller's mask is {array.dtype} from {array.min():g} to {array.max():g}. "
            "Give bool, uint8 from 0 to 255, or floats in [0, 1] (cut scores at a threshold of yours)."
        )
    mask: Mask = array if array.dtype == np.bool_ else array > (127 if array.dtype == np.uint8 and array.max() > 1 else 0.5)
    return mask


def takes_an_image(made: Callable[..., Any]) -> bool:
    """True for a function whose first argument has no default and is called ``image`` or annotated as one: it works, it does not make."""
    if not inspect.isfunction(made):
        return False
    first = next(iter(inspect.signature(made).parameters.values()), None)
    if first is None or first.default is not inspect.Parameter.empty:
        return False
    return first.name == "image" or "Image" in str(first.annotation)


def configured(works: Callable[..., Any]) -> Callable[..., Callable[[Image], Any]]:
    """From a function of an image and settings to a function of the settings that makes a function of the image."""
    signature = inspect.signature(works)

    @functools.wraps(works)
    def make(**settings: Any) -> Callable[[Image], Any]:
        return functools.partial(works, **settings)

    make.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])  # type: ignore[attr-defined]
    return make
