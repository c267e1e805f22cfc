"""Each rule of the gate, one at a time."""

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.gate import Gate, Rule
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


@pytest.mark.parametrize(
    ("first", "before", "after", "reason"),
    [
        (0.5, 0.5, 0.52, "better"),
        (0.5, 0.5, 0.6, "more-suspect"),
        (0.9, 0.5, 0.6, "more-suspect"),
        (0.5, 0.9, 0.6, "more-suspect"),
        (None, 0.5, 0.6, "more-suspect"),
        (None, None, 0.6, "better"),
        (0.5, 0.5, None, "better"),
    ],
)
def test_a_repair_makes_the_detector_no_surer(first: float | None, before: float | None, after: float | None, reason: str) -> None:
    def suspected(one: Candidate, probability: float | None) -> Candidate:
        return replace(one, critique=replace(one.critique, fake_probability=probability))

    verdict = Gate(suspicion=0.05).judge(suspected(BEFORE, first), suspected(BEFORE, before), suspected(candidate(), after), MASK)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("scores", "crops"), [({}, {"r": 1.0}), ({"r": 1.0}, {}), ({"r": 1.0, "extra": 1.0}, {"r": 1.0}), ({"r": float("inf")}, {"r": 1.0})]
)
@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_missing_score_never_passes(scores: dict[str, float], crops: dict[str, float], rule: Rule) -> None:
    after = replace(candidate(reward=9.0), scores=scores, crop_scores=crops)
    gate = Gate(noise={"r": 99.0}, rule=rule, rate=1.0)
    [verdict], kept = gate.choose(BEFORE, BEFORE, [after], MASK)
    assert (verdict.reason, kept) == ("not-finite", None)


@pytest.mark.parametrize("rule", get_args(Rule))
def test_a_blank_answer_of_the_generator_never_passes(rule: Rule) -> None:
    after = replace(candidate(reward=9.0), blank=True)
    [verdict], kept = Gate(rule=rule, rate=1.0).choose(BEFORE, BEFORE, [after], MASK)
    assert (verdict.reason, kept) == ("blank", None)


marks = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(1, 10), st.integers(1, 10)), max_size=3)
levels = st.floats(-2, 2)


@st.composite
def looked_at(draw: st.DrawFn) -> Candidate:
    faults = [box(x, y, x + w, y + h) for x, y, w, h in draw(marks)]
    return candidate(*faults, reward=draw(levels), crop=draw(levels))


@given(looked_at(), looked_at(), st.lists(looked_at(), min_size=1, max_size=4), st.floats(0, 1))
def test_what_is_kept_is_never_worse_by_any_measure(first: Candidate, before: Candidate, options: list[Candidate], noise: float) -> None:
    gate = Gate(noise={"r": noise}, crop_noise={"r": noise / 2})
    verdicts, kept = gate.choose(first, before, options, MASK)
    assert (kept is None) == (not any(verdict.accepted for verdict in verdicts))
    if kept is None:
        return
    best = options[kept]
    heat = best.critique.heat
    assert best.critique.mass < before.critique.mass
    assert heat[MASK].sum() <= 0.7 * before.critique.heat[MASK].sum() + 1e-3
    assert heat[~MASK].sum() <= before.critique.heat[~MASK].sum() + 0.001 * heat.size + 1e-3
    assert best.scores["r"] >= max(first.scores["r"], before.scores["r"]) - noise - 1e-9
    assert best.crop_scores["r"] >= before.crop_scores["r"] - noise / 2 - 1e-9
    rivals = [one for one, verdict in zip(options, verdicts, strict=True) if verdict.accepted and one.scores["r"] >= best.scores["r"]]
    assert all(best.critique.mass <= one.critique.mass for one in rivals), "nothing accepted is both cleaner and as well liked"


@given(looked_at(), st.lists(looked_at(), min_size=1, max_size=4))
def test_the_rule_reward_keeps_the_best_liked_of_all(before: Candidate, options: list[Candidate]) -> None:
    _, kept = Gate(rule="reward").choose(before, before, options, None)
    chosen = before if kept is None else options[kept]
    assert chosen.scores["r"] == max(one.scores["r"] for one in [before, *options])


@given(looked_at(), st.lists(looked_at(), min_size=1, max_size=4))
def test_the_rule_cleanest_keeps_what_shows_least(before: Candidate, options: list[Candidate]) -> None:
    _, kept = Gate(rule="cleanest").choose(before, before, options, None)
    final = before if kept is None else options[kept]
    assert final.critique.mass == min(one.critique.mass for one in (before, *options))


def test_of_equally_clean_drawings_doubt_and_liking_decide() -> None:
    def doubted(pixels: float, reward: float) -> Candidate:
        made = candidate(reward=reward)
        return replace(made, critique=replace(made.critique, doubt=pixels))

    gate, one_percent = Gate(rule="cleanest"), candidate().image.width * candidate().image.height / 100
    for option, kept in ((doubted(0, 1.1), 0), (doubted(0, 0.9), None), (doubted(one_percent, 6.9), None), (doubted(one_percent, 7.1), 0)):
        assert gate.choose(doubted(0, 1.0), doubted(0, 1.0), [option], None)[1] == kept


def test_of_equally_clean_drawings_the_detector_has_a_say() -> None:
    def suspected(probability: float | None, reward: float) -> Candidate:
        made = candidate(reward=reward)
        return replace(made, critique=replace(made.critique, fake_probability=probability))

    gate, plain = Gate(rule="cleanest"), suspected(0.2, 1.0)
    for option, kept in ((suspected(0.1, 0.5), 0), (suspected(0.3, 2.9), None), (suspected(0.3, 3.1), 0)):
        assert gate.choose(plain, plain, [option], None)[1] == kept
    assert gate.choose(suspected(None, 1.0), suspected(None, 1.0), [suspected(None, 1.1)], None)[1] == 0  # a controller without one


@pytest.mark.parametrize(("crop", "accepted"), [(0.97, True), (0.93, False)])
def test_crops_have_a_noise_of_their_own(crop: float, accepted: bool) -> None:
    verdict = Gate(noise={"r": 0.1}, crop_noise={"r": 0.05}).judge(BEFORE, BEFORE, candidate(crop=crop), MASK)
    assert verdict.accepted == accepted and verdict.reason == ("better" if accepted else "crop-reward-drop")


def test_rewards_are_added_up_in_units_of_their_noise() -> None:
    """A gain of two noises weighs more than a loss of one, whatever the scales."""
    before, after = (replace(BEFORE, scores=scores, crop_scores={}) for scores in ({"a": 0.20, "b": 1.0}, {"a": 0.22, "b": 0.0}))
    assert Gate(noise={"a": 0.01, "b": 1.0}, rule="reward").judge(before, before, after, None).accepted
    assert not Gate(noise={"a": 0.01, "b": 0.1}, rule="reward").judge(before, before, after, None).accepted


def test_without_a_gate_the_cleanest_is_kept_even_if_it_is_worse() -> None:
    worse = [candidate(box(0, 0, 30, 30), reward=-9), candidate(box(0, 0, 20, 30), reward=-9)]
    verdicts, kept = Gate(rule="off").choose(BEFORE, BEFORE, worse, MASK)
    assert kept == 1 and {verdict.reason for verdict in verdicts} == {"ungated"}


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_the_lot_accepts_attempts_at_its_rate_and_repeats(rate: float) -> None:
    options = [[replace(candidate(), seed=3 * attempt + index) for index in range(3)] for attempt in range(500)]

    def lots(seed: int) -> list[int | None]:
        return [Gate(rule="random", rate=rate, seed=seed).choose(BEFORE, BEFORE, three, MASK)[1] for three in options]

    kept = lots(1)
    share = np.mean([one is not None for one in kept])
    assert abs(share - rate) <= 0.07 * (0 < rate < 1)
    assert kept == lots(1) and (rate in (0.0, 1.0) or kept != lots(2))
    assert rate == 0 or {one for one in kept if one is not None} == {0, 1, 2}


def test_drops_within_noise_do_not_add_up() -> None:
    first, now = candidate(box(2, 2, 12, 12), reward=1.0), candidate(box(2, 2, 12, 12), reward=0.95)
    assert Gate(noise={"r": 0.1}).judge(first, now, candidate(reward=0.88), MASK).reason == "reward-drop"


def test_a_whole_image_is_judged_as_a_whole() -> None:
    assert Gate(noise={"r": 0.1}).judge(BEFORE, BEFORE, candidate(box(40, 20, 45, 25)), None).accepted


@pytest.mark.parametrize(("liked", "kept"), [(1.1, 0), (1.9, 0), (2.2, 1)])
def test_a_half_removed_fault_must_be_liked_much_better(liked: float, kept: int) -> None:
    """Half of the fault weighs one and a half noises of the reward; less than that, and the cleaner one is kept."""
    options = [candidate(), candidate(box(2, 2, 12, 7), reward=liked)]
    assert Gate(noise={"r": 0.7}).choose(BEFORE, BEFORE, options, MASK)[1] == kept


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
        (lambda: Gate(crop_noise={"r": float("nan")}), "gate.crop_noise"),
        (lambda: Gate(rate=1.5), "gate.rate"),
        (lambda: Gate(rule="of"), "Did you mean 'off'"),  # type: ignore[arg-type]
        (lambda: Policy(seeds=0), "policy.seeds"),
        (lambda: Policy(wording="usr"), "Did you mean 'user'"),  # type: ignore[arg-type]
        (lambda: Budget(seconds=float("nan")), "budget.seconds"),
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
