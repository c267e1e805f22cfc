"""The loop's invariants: kept pixels, never worse, same seed same bytes, budgets honoured."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine import loop, regions, repair
from refine.errors import ConfigError, InputError
from refine.gate import REASONS, Gate, Rule
from refine.policy import Budget, Policy, Route
from refine.reviser import TemplateReviser
from refine.seeds import derive
from refine.stages import Event, Models
from refine.types import Inpaint, Record, Redraw
from tests.toys import Fickle, Gloom, Painter, Smoothness, Spotter, picture, scratched

BOXES = [(5, 5, 17, 15), (40, 20, 70, 40), (70, 0, 80, 8)]
GATE = Gate(noise={"smoothness": 0.0})
POLICY = Policy(crop_least=24)


def models(seed: int = 0, clumsy: int = 0, size: tuple[int, int] = (80, 48)) -> Models:
    target = picture(seed, *size)
    return Models(Painter(target, BOXES, clumsy), Spotter(target), (Smoothness(),), TemplateReviser())


def story(record: Record) -> list[object]:
    """Everything of a record that must repeat."""
    attempts = [attempt for turn in record.rounds for attempt in turn.attempts]
    return [record.stop_reason, record.evaluations, regions.kept_hash(record.best.image, None)] + [
        (option.seed, regions.kept_hash(option.image, None), verdict.reason)
        for attempt in attempts
        for option, verdict in zip(attempt.candidates, attempt.verdicts, strict=True)
    ]


def test_a_good_painter_repairs_everything() -> None:
    [record] = loop.run(["a picture"], [3], models=models(), policy=POLICY, gate=GATE)
    assert record.first.critique.mass > 0 and record.best.critique.mass == 0
    assert record.stop_reason == "clean" and record.best.scores["smoothness"] > record.first.scores["smoothness"]
    assert len(record.rounds[0].attempts) == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 7), min_size=1, max_size=4), st.sampled_from([0, 2, 3, 1000003]))
def test_never_worse_and_kept_pixels_identical(seed: int, seeds: list[int], clumsy: int) -> None:
    for record in loop.run(["x"] * len(seeds), seeds, models=models(seed, clumsy), policy=POLICY, gate=GATE):
        assert record.best.critique.mass <= record.first.critique.mass
        assert record.best.scores["smoothness"] >= record.first.scores["smoothness"]
        image = record.first.image
        for attempt in (attempt for turn in record.rounds for attempt in turn.attempts):
            assert all(verdict.reason in REASONS for verdict in attempt.verdicts)
            if isinstance(attempt.action, Inpaint):
                assert attempt.mask is not None
                for option in attempt.candidates:
                    assert regions.kept_hash(option.image, attempt.mask) == attempt.kept_pixels_sha256
                assert regions.kept_hash(image, attempt.mask) == attempt.kept_pixels_sha256
            if attempt.kept is not None:
                image = attempt.candidates[attempt.kept].image
        assert np.array_equal(np.asarray(image), np.asarray(record.best.image))
        assert record.best.image.size == record.first.image.size


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=3), st.sampled_from([0, 3]))
def test_same_seed_same_story(seeds: list[int], clumsy: int) -> None:
    prompts = ["x"] * len(seeds)
    once, again = (loop.run(prompts, seeds, models=models(1, clumsy), policy=POLICY, gate=GATE) for _ in range(2))
    assert [story(record) for record in once] == [story(record) for record in again]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(0, 7), min_size=1, max_size=3), st.sampled_from([0, 2, 3]))
def test_of_several_first_drawings_the_cleanest_is_repaired(draws: int, seeds: list[int], clumsy: int) -> None:
    party = models(1, clumsy)
    for record, seed in zip(
        loop.run(["x"] * len(seeds), seeds, models=party, policy=replace(POLICY, draws=draws), gate=GATE), seeds, strict=True
    ):
        assert record.first.seed == seed  # the user's own, whatever is chosen
        if draws == 1:
            assert record.repairs == tuple(attempt for turn in record.rounds for attempt in turn.attempts)
            continue
        choice = record.rounds[0].attempts[0]
        assert choice.action == Redraw("x", first=True) and len(choice.candidates) == draws - 1 and choice not in record.repairs
        start = record.first if choice.kept is None else choice.candidates[choice.kept]
        assert start.critique.mass == min(one.critique.mass for one in (record.first, *choice.candidates))
        assert record.best.critique.mass <= start.critique.mass and record.best.scores["smoothness"] >= start.scores["smoothness"]
        assert [turn.index for turn in record.rounds] == list(range(len(record.rounds)))
        assert record.evaluations >= 10 * draws


def test_a_budget_pays_for_as_many_first_drawings_as_it_can() -> None:
    [record] = loop.run(["x"], [3], models=models(), policy=replace(POLICY, draws=9), gate=GATE, budget=Budget(evaluations=35))
    assert len(record.rounds[0].attempts[0].candidates) == 2 and record.evaluations <= 35
    [record] = loop.run(["x"], [3], models=models(), policy=replace(POLICY, draws=9), gate=GATE, budget=Budget(rounds=0))
    assert record.rounds == () and record.evaluations == 10


def test_a_given_image_has_no_rivals() -> None:
    target = picture(0)
    [record] = loop.run(["x"], [1], models=models(), images=[target], policy=replace(POLICY, draws=4), gate=GATE)
    assert record.rounds == () and record.best.image is target


def test_images_walk_in_lockstep() -> None:
    party = models()
    loop.run(["x"] * 3, [3, 3, 3], models=party, policy=POLICY, gate=GATE)
    assert isinstance(party.generator, Painter)
    assert party.generator.calls == [9, 9, 9]  # 3 images × 3 strengths, one call per region rank


def test_given_images_are_not_drawn_and_cost_nothing() -> None:
    target = picture(0, 61, 47)
    party = models(0, size=(61, 47))
    [record] = loop.run(["x"], [1], models=party, images=[target], policy=POLICY, gate=GATE)
    assert record.evaluations == 0 and record.stop_reason == "clean" and record.best.image is target


@settings(max_examples=40, deadline=None)
@given(
    st.integers(10, 150),
    st.lists(st.floats(0.05, 1), min_size=1, max_size=4),
    st.integers(1, 3),
    st.sampled_from(get_args(Route)),
    st.lists(st.integers(1, 7), min_size=1, max_size=3),
)
def test_the_budget_is_spent_to_the_last_action_it_pays_for(
    evaluations: int, strengths: list[float], copies: int, route: Route, seeds: list[int]
) -> None:
    """Never exceeded, and where it ends an image, no action of the route is left that it would have paid for."""
    policy = replace(POLICY, route=route, strengths=tuple(strengths), seeds=copies, patience=9)
    party = models(0, 1000003)
    for record in loop.run(["x"] * len(seeds), seeds, models=party, policy=policy, gate=GATE, budget=Budget(5, evaluations)):
        tried = [option for turn in record.rounds for attempt in turn.attempts for option in attempt.candidates]
        assert record.evaluations == 10 + sum(party.generator.cost(option.strength) for option in tried) <= evaluations
        if record.stop_reason == "budget":
            repaint, redraw = min(map(party.generator.cost, strengths)), party.generator.cost()
            cheapest = {"inpaint": repaint, "redraw": redraw, "auto": min(repaint, redraw)}[route]
            assert evaluations - record.evaluations < cheapest


def test_a_budget_below_the_first_draw_is_refused() -> None:
    with pytest.raises(ConfigError, match="one image takes 10 to draw"):
        loop.run(["x"], [3], models=models(), budget=Budget(evaluations=9))
    target = picture(0)
    [record] = loop.run(["x"], [3], models=models(), images=[target], budget=Budget(evaluations=9))
    assert record.evaluations == 0


@settings(max_examples=30, deadline=None)
@given(st.floats(10, 200), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_no_repair_is_begun_that_would_end_too_late(seconds: float, seeds: list[int]) -> None:
    party = models(0, 1000003)
    assert isinstance(party.generator, Painter)
    clock, drawing = party.generator.ticker, 10 * len(seeds)
    records = loop.run(
        ["x"] * len(seeds), seeds, models=party, policy=replace(POLICY, route="inpaint", patience=9), gate=GATE,
        budget=Budget(9, seconds=seconds), clock=clock,
    )  # fmt: skip
    assert clock.now <= max(seconds, drawing)
    assert clock.now == sum(record.evaluations for record in records)
    if len(seeds) == 1 and records[0].stop_reason == "budget":
        assert seconds - clock.now < party.generator.cost(min(POLICY.strengths)) or clock.now == drawing > seconds


def test_no_seconds_left_means_no_repair() -> None:
    [record] = loop.run(["x"], [3], models=models(), policy=POLICY, gate=GATE, budget=Budget(seconds=0.0))
    assert record.stop_reason == "budget" and not record.rounds


def test_rewards_of_the_crop_reach_the_gate() -> None:
    """A repair that only its crop shows to be worse is rejected for that, and with nothing else changed accepted without the reward."""
    party = replace(models(), rewards=(Gloom((80, 48)),))
    [record] = loop.run(["x"], [1], models=party, policy=POLICY, budget=Budget(1))
    assert {v.reason for a in record.rounds[0].attempts for v in a.verdicts} == {"crop-reward-drop"}
    [record] = loop.run(["x"], [1], models=replace(party, rewards=()), policy=POLICY, budget=Budget(1))
    assert record.best.critique.mass == 0


@pytest.mark.parametrize("rule", get_args(Rule))
def test_what_a_safety_checker_blackened_is_never_kept(rule: Rule) -> None:
    party = replace(models(), generator=Painter(picture(0), BOXES, censored=True))
    [record] = loop.run(["x"], [3], models=party, policy=replace(POLICY, route="inpaint"), gate=Gate(rule=rule, rate=1.0))
    assert record.best is record.first
    assert {v.reason for turn in record.rounds for a in turn.attempts for v in a.verdicts} == {"blank"}


def test_without_crop_the_whole_image_is_repainted_and_pixels_are_kept_all_the_same() -> None:
    party = models(size=(160, 96))
    assert isinstance(party.generator, Painter)
    [record] = loop.run(["x"], [3], models=party, policy=replace(POLICY, crop=False), gate=GATE)
    for attempt in record.rounds[0].attempts:
        assert {option.box for option in attempt.candidates} == {(0, 0, 160, 96)}
        assert not any(option.crop_scores for option in attempt.candidates)
        assert attempt.kept_pixels_sha256


def test_a_fault_that_went_with_another_is_not_repaired() -> None:
    """A controller may change its mind about the rest of the picture. What it no longer sees could only be rejected."""
    target = picture(0)
    damaged = scratched(target, BOXES)
    party = replace(models(), controller=Fickle(Spotter(target), damaged))
    [record] = loop.run(["x"], [3], models=party, policy=POLICY, gate=GATE)
    assert len(POLICY.faults(record.first.critique)) == 3
    assert len(record.rounds) == 1 and len(record.rounds[0].attempts) == 1
    assert record.stop_reason == "clean" and record.evaluations == 10 + 8 + 6 + 4


def test_candidates_are_strengths_times_seeds() -> None:
    [record] = loop.run(["x"], [1], models=models(), policy=replace(POLICY, seeds=2), gate=GATE, budget=Budget(1))
    [attempt] = record.rounds[0].attempts
    assert [option.strength for option in attempt.candidates] == [*POLICY.strengths, *POLICY.strengths]
    assert len({option.seed for option in attempt.candidates}) == 6


def test_a_hopeless_painter_leaves_the_first_image() -> None:
    [record] = loop.run(["x"], [3], models=models(0, 1000003), policy=replace(POLICY, route="inpaint"), gate=GATE, budget=Budget(9))
    assert record.best is record.first and record.stop_reason == "nothing-accepted" and len(record.rounds) == POLICY.patience


def test_wide_damage_is_drawn_again() -> None:
    policy = replace(POLICY, redraw_area=0.1)
    [record] = loop.run(["x"], [3], models=models(), policy=policy, gate=GATE, budget=Budget(1))
    [attempt] = record.rounds[0].attempts
    assert isinstance(attempt.action, Redraw) and attempt.mask is None and len(attempt.candidates) == policy.redraws


def test_every_stage_is_announced() -> None:
    seen: list[Event] = []
    loop.run(["x"], [3], models=models(), policy=POLICY, gate=GATE, observe=seen.append)
    assert {event.stage for event in seen} == {"draw", "inspect", "score", "repair"}
    assert all(0 <= event.done <= event.total for event in seen)


def test_lists_must_match() -> None:
    with pytest.raises(InputError, match="2 prompts, 1 seeds"):
        loop.run(["a", "b"], [1], models=models())


def test_no_images_no_records() -> None:
    assert loop.run([], [], models=models()) == []


def test_seeds_differ_along_every_path() -> None:
    paths = [(image, turn, region, k) for image in range(5) for turn in range(3) for region in range(3) for k in range(3)]
    assert len({derive(*path) for path in paths}) == len(paths)


def test_long_prompts_are_cut_and_said() -> None:
    [record] = loop.run([" ".join(f"w{i}" for i in range(40))], [3], models=models(), policy=POLICY, gate=GATE)
    action = record.rounds[0].attempts[0].action
    assert isinstance(action, Inpaint) and "w39" in action.dropped and "w39" not in action.prompt


def test_repair_of_a_given_scratched_image_at_odd_size() -> None:
    party = models(2, size=(83, 131))
    image = scratched(picture(2, 83, 131), [(60, 100, 80, 120)])
    [record] = loop.run(["x"], [0], models=party, images=[image], policy=POLICY, gate=GATE)
    assert record.best.image.size == (83, 131) and record.best.critique.mass < record.first.critique.mass


def test_a_soft_mask_tells_the_generator_how_free_a_pixel_is() -> None:
    """Its edge is the edge that the result is blended with; what is kept stays kept."""
    party, image = models(), scratched(picture(0), BOXES)
    found = party.controller.inspect([image])[0].regions[0]
    for soft in (False, True):
        where = repair.plan(Inpaint(found, "x"), image, replace(POLICY, soft=soft), party.generator)
        asked = repair.job(where, Inpaint(found, "x"), image, 0.5, 1)
        assert (asked.soft is not None) == soft
        if asked.soft is not None:
            assert asked.soft.shape == asked.mask.shape
            assert 0 <= asked.soft.min() < asked.soft.max() <= 1
            assert asked.soft[asked.mask].mean() > asked.soft[~asked.mask].mean()
            assert len(np.unique(asked.soft[asked.mask])) > 2, "an edge of many steps"
