"""Property: under every rule of the gate, nothing that cannot be judged is ever kept, and the reason says so."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.gate import Gate, Rule
from refine.types import Candidate, Critique, Region

SIZE = (24, 16)
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
MASK = np.zeros((16, 24), bool)
MASK[:8, :8] = True
NAMES = ("hps", "imagereward")

finite = st.floats(-3, 3)
broken = st.sampled_from([float("nan"), float("inf"), float("-inf"), None])  # None: the score is missing


def candidate(whole: dict[str, float], crop: dict[str, float], faulty: bool, heat: float = 1.0) -> Candidate:
    regions = (Region(MASK, "fault", score=heat),) if faulty else ()
    return Candidate(PIL.Image.fromarray(PIXELS), "p", 3, Critique(SIZE, regions), whole, crop_scores=crop)


def scores(draw: st.DrawFn) -> dict[str, float]:
    return {name: draw(finite) for name in NAMES}


@st.composite
def unjudgeable(draw: st.DrawFn) -> tuple[Candidate, Candidate, Candidate]:
    """First, before and after, perfect but for one number of one of them."""
    tables = [(scores(draw), scores(draw)) for _ in range(3)]
    spoilt, value = draw(st.sampled_from(["first", "before", "after", "before crop", "after crop"])), draw(broken)
    table = tables[["first", "before", "after"].index(spoilt.split()[0])]["crop" in spoilt]
    name = draw(st.sampled_from(NAMES))
    if value is None:
        del table[name]
    else:
        table[name] = value
    first, before, after = (candidate(*table, faulty) for table, faulty in zip(tables, (True, True, False), strict=True))
    return first, before, after


@settings(max_examples=300, deadline=None)
@given(unjudgeable(), st.sampled_from(get_args(Rule)), st.integers(0, 50))
def test_a_score_that_is_no_number_is_never_accepted(three: tuple[Candidate, Candidate, Candidate], rule: Rule, seed: int) -> None:
    gate = Gate(rule=rule, rate=1.0, seed=seed, noise=dict.fromkeys(NAMES, 100.0))
    verdicts, kept = gate.choose(*three[:2], [three[2]], MASK)
    assert kept is None and not verdicts[0].accepted and verdicts[0].reason == "not-finite"


@pytest.mark.parametrize("rule", get_args(Rule))
@pytest.mark.parametrize("heat", [float("nan"), float("inf")])
def test_a_controller_that_gives_no_number_is_not_believed(rule: Rule, heat: float) -> None:
    good = dict.fromkeys(NAMES, 1.0)
    before = candidate(good, good, True)
    verdicts, kept = Gate(rule=rule, rate=1.0).choose(before, before, [candidate(good, good, True, heat)], MASK)
    assert kept is None and verdicts[0].reason == "not-finite"


@pytest.mark.parametrize("rule", get_args(Rule))
def test_one_colour_is_never_accepted_and_a_good_one_beside_it_is(rule: Rule) -> None:
    low, high = dict.fromkeys(NAMES, 1.0), dict.fromkeys(NAMES, 2.0)
    before, good = candidate(low, low, True), candidate(high, high, False)
    for colour in ((0, 0, 0), (255, 255, 255), (9, 200, 31)):
        flat = replace(good, image=PIL.Image.new("RGB", SIZE, colour))
        verdicts, kept = Gate(rule=rule, rate=1.0).choose(before, before, [flat], MASK)
        assert kept is None and verdicts[0].reason == "blank"
        _, kept = Gate(rule=rule, rate=1.0).choose(before, before, [flat, good], MASK)
        assert kept == 1
