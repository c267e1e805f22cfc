"""Each rule of the gate, one at a time."""

from collections.abc import Callable

import numpy as np
import PIL.Image
import pytest

from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.types import Candidate, Critique, Mask, Region

SIZE = (50, 30)
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


def box(x0: int, y0: int, x1: int, y1: int) -> Mask:
    mask = np.zeros(SIZE[::-1], bool)
    mask[y0:y1, x0:x1] = True
    return mask


MASK = box(0, 0, 20, 20)


def candidate(*faults: Mask, reward: float = 1.0, crop: float = 1.0, flat: bool = False) -> Candidate:
    regions = tuple(Region(mask, "fault", score=1.0) for mask in faults)
    image = PIL.Image.new("RGB", SIZE) if flat else PIL.Image.fromarray(PIXELS)
    return Candidate(image, "p", 0, Critique(SIZE, regions), {"r": reward}, crop_scores={"r": crop})


BEFORE = candidate(box(2, 2, 12, 12))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (candidate(), "better"),
        (candidate(box(2, 2, 12, 8)), "better"),
        (candidate(box(2, 2, 12, 10)), "fault-remains"),
        (candidate(box(2, 2, 12, 12)), "fault-remains"),
        (candidate(box(30, 20, 33, 22)), "new-fault"),
        (candidate(box(30, 20, 31, 21)), "better"),
        (candidate(reward=0.85), "reward-drop"),
        (candidate(reward=0.95), "better"),
        (candidate(crop=0.5), "crop-reward-drop"),
        (candidate(reward=float("nan")), "not-finite"),
        (candidate(flat=True), "blank"),
    ],
)
def test_reasons(after: Candidate, reason: str) -> None:
    verdict = Gate(noise={"r": 0.1}).judge(BEFORE, BEFORE, after, MASK)
    assert verdict.reason == reason and verdict.accepted == (reason == "better")
    assert verdict.numbers["inside_before"] == 100


def test_drops_within_noise_do_not_add_up() -> None:
    first, now = candidate(box(2, 2, 12, 12), reward=1.0), candidate(box(2, 2, 12, 12), reward=0.95)
    assert Gate(noise={"r": 0.1}).judge(first, now, candidate(reward=0.88), MASK).reason == "reward-drop"


def test_a_whole_image_is_judged_as_a_whole() -> None:
    assert Gate(noise={"r": 0.1}).judge(BEFORE, BEFORE, candidate(box(40, 20, 45, 25)), None).accepted


def test_the_cleanest_accepted_candidate_wins() -> None:
    gate = Gate()
    options = [candidate(box(2, 2, 5, 5)), candidate(reward=0.5), candidate(), candidate(reward=2.0)]
    assert gate.choose(BEFORE, BEFORE, options, MASK)[1] == 3
    assert gate.choose(BEFORE, BEFORE, options[1:2], MASK)[1] is None


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Gate(fall=1.2), "gate.fall"),
        (lambda: Gate(noise={"r": -1.0}), "gate.noise"),
        (lambda: Policy(strengths=(0.5, 1.5)), "policy.strengths"),
        (lambda: Policy(strengths=()), "policy.strengths"),
        (lambda: Policy(crop_scale=0.5), "policy.crop_scale"),
        (lambda: Policy(min_area=-0.1), "policy.min_area"),
        (lambda: Policy(route="inpaitn"), "Did you mean 'inpaint'"),  # type: ignore[arg-type]
        (lambda: Budget(rounds=-1), "budget.rounds"),
    ],
)
def test_values_out_of_range_are_named(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make()
