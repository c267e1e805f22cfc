"""Mask and text measures against values worked out by hand, on non-square frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.errors import InputError
from refine.overlap import f1, miou, overlap, rouge_l, union
from refine.types import Mask, Region


def block(x0: int, x1: int, shape: tuple[int, int] = (4, 10)) -> Mask:
    mask = np.zeros(shape, np.bool_)
    mask[:, x0:x1] = True
    return mask


def test_half_overlap() -> None:
    found = overlap(block(0, 4), block(2, 6))
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)
    assert found.iou == pytest.approx(8 / 24)
    assert found.miou == pytest.approx((8 / 24 + 16 / 32) / 2)


def test_nothing_predicted_keeps_about_half_of_miou() -> None:
    found = overlap(block(0, 0), block(0, 1))
    assert found.f1 == 0
    assert found.miou == pytest.approx(0.45)


def test_empty_against_empty_is_perfect_f1() -> None:
    assert overlap(block(0, 0), block(0, 0)).f1 == 1


def test_means_are_per_image() -> None:
    predicted, true = [block(0, 1), block(0, 0)], [block(0, 1), block(0, 10)]
    assert f1(predicted, true) == 0.5
    assert miou(predicted, true) == pytest.approx(0.5, abs=1e-6)


def test_union_of_regions() -> None:
    regions = [Region(block(0, 2), "a"), Region(block(1, 5), "b")]
    assert (union(regions, (4, 10)) == block(0, 5)).all()
    assert not union([], (4, 10)).any()


def test_frames_must_agree() -> None:
    with pytest.raises(InputError, match="frame of the image"):
        overlap(block(0, 1), block(0, 1, (10, 4)))


@pytest.mark.parametrize(
    ("candidate", "reference", "score"),
    [("the cat sat", "The cat sat.", 1.0), ("a b c d", "b d", 2 * 2 / 6), ("", "x", 0.0), ("", "", 1.0), ("cat the", "the cat", 0.5)],
)
def test_rouge_l(candidate: str, reference: str, score: float) -> None:
    assert rouge_l(candidate, reference) == pytest.approx(score)


@given(st.text("ab ", max_size=20), st.text("ab ", max_size=20))
def test_rouge_l_is_symmetric(left: str, right: str) -> None:
    assert rouge_l(left, right) == pytest.approx(rouge_l(right, left))
