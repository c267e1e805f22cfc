"""Plain functions as controllers and graders, in Python and in a configuration."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from refine import config, loop, plugins, runner
from refine.adapters import MaskController, as_controller, as_grader, takes_an_image
from refine.errors import ConfigError, InputError
from refine.loop import Models
from refine.reviser import TemplateReviser
from refine.stilllife.oracle import Blind
from refine.types import Image, Region
from tests.toys import Painter, Smoothness, Spotter, picture

HERE = __name__
MASK = np.zeros((48, 80), np.bool_)
MASK[10:20, 30:50] = True


def dark(image: Image, limit: int = 128) -> list[Any]:
    """A detailer's detector: from one image to masks."""
    return [np.asarray(image.convert("L")) < limit]


def drawn(picture_: PIL.Image.Image) -> Any:
    return PIL.Image.fromarray(MASK)


def make_dark(limit: int = 100) -> Any:
    """Not a detector but what makes one."""
    return lambda image: dark(image, limit)


def nothing(image: Image) -> None:
    return None


def rough(image: Image) -> float:
    return 2.0


def inspect_one(found: Any) -> tuple[Region, ...]:
    return as_controller(lambda image: found).inspect([picture(0)])[0].regions


@pytest.mark.parametrize(
    "found",
    [
        MASK,
        [MASK],
        MASK[None],
        MASK.astype(np.uint8) * 255,
        MASK.astype(np.uint8),
        MASK * 0.9,
        torch.from_numpy(MASK).half(),
        torch.from_numpy(MASK),
        PIL.Image.fromarray(MASK),
        PIL.Image.fromarray(MASK.astype(np.uint8) * 255),
        [Region(MASK, "hand")],
        (np.zeros_like(MASK), MASK),
    ],
)
def test_masks_of_every_library_are_regions(found: Any) -> None:
    [region] = inspect_one(found)
    assert np.array_equal(region.mask, MASK)
    assert region.score == 1.0


@pytest.mark.parametrize("found", [None, [], np.zeros((48, 80), np.bool_)])
def test_nothing_found_is_a_clean_critique(found: Any) -> None:
    assert inspect_one(found) == ()


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (MASK.T, r"\(80, 48\); for this image it must be \(48, 80\)"),
        (MASK * 5.0, "float64 from 0 to 5.*threshold"),
        (np.full((48, 80), np.nan), "float64 from nan"),
        (MASK.astype(np.int64), "is int64"),
    ],
)
def test_a_mask_that_cannot_be_one(found: Any, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        inspect_one(found)


def test_a_controller_passes_as_it_is() -> None:
    blind = Blind()
    assert as_controller(blind) is blind


def test_a_detector_is_told_from_what_makes_one() -> None:
    assert takes_an_image(dark)
    assert takes_an_image(drawn)
    assert not takes_an_image(make_dark)
    assert not takes_an_image(MaskController)
    assert not takes_an_image(lambda: None)


def test_a_function_is_named_in_a_configuration_and_its_settings_are_checked() -> None:
    tree = config.load(["painter"], [f"controller={HERE}:dark", "controller.limit=120"]).tree
    assert tree["controller"] == {"use": f"{HERE}:dark", "limit": 120}
    image = picture(0)
    [critique] = runner.make("controller", tree["controller"]).inspect([image])
    assert np.array_equal(critique.regions[0].mask, np.asarray(image.convert("L")) < 120)
    with pytest.raises(ConfigError, match=r"Did you mean 'controller\.limit'"):
        config.load(["painter"], [f"controller={HERE}:dark", "controller.limt=1"])
    with pytest.raises(ConfigError, match="must be int"):
        config.load(["painter"], [f"controller={HERE}:dark", "controller.limit=much"])


@pytest.mark.parametrize("use", ["make_dark", "drawn", "nothing"])
def test_makers_and_bare_functions_both_work(use: str) -> None:
    made = plugins.create("controller", f"{HERE}:{use}", {})
    assert made.inspect([picture(0)])[0].size == (80, 48)


def test_a_function_stands_for_the_controller_in_the_loop() -> None:
    target = picture(4)
    spotter = Spotter(target)

    def find(image: Image) -> list[Any]:
        return [region.mask for region in spotter.inspect([image])[0].regions]

    models = Models(Painter(target, [(8, 8, 24, 24)]), find, (Smoothness(),), TemplateReviser())  # type: ignore[arg-type]
    [record] = loop.run(["a smooth picture"], [1], models=models)
    assert record.first.critique.area > 0.05
    assert record.stop_reason == "clean"
    assert record.best.critique.area == 0


def test_grades_are_probabilities() -> None:
    assert as_grader(lambda crop: True).grade([picture(0)], ["hand"]) == [1.0]
    with pytest.raises(InputError, match=r"said 2\.0; it must be the probability"):
        plugins.create("grader", f"{HERE}:rough", {}).grade([picture(0)], ["hand"])
