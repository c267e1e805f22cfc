"""Every named policy does what its name says, and hides what it fixes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from refine import config, loop, plugins, regions, repair
from refine.errors import ConfigError
from refine.gate import Gate
from refine.policy import Budget, Policy
from refine.stilllife.oracle import Blind
from refine.types import Attempt, Inpaint, Record, Redraw
from tests.test_loop import BOXES, models
from tests.toys import Painter, Spotter, picture

NAMES = sorted(plugins.TABLE["policy"])
SEEDS = [3, 2, 1]


def named(name: str, **options: object) -> Policy:
    policy = plugins.create("policy", name, options)
    assert isinstance(policy, Policy)
    return policy


def refined(policy: Policy, clumsy: int = 0, **options: object) -> list[Record]:
    party = models(clumsy=clumsy)
    party = replace(party, truth=Spotter(picture(0)))
    return loop.run(["a picture"] * 3, SEEDS, models=party, policy=replace(policy, crop_least=24), **options)  # type: ignore[arg-type]


def attempts(record: Record) -> list[Attempt]:
    return [attempt for turn in record.rounds for attempt in turn.attempts]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("clumsy", [0, 3])
def test_a_budget_binds_every_policy_and_masks_keep_their_promise(name: str, clumsy: int) -> None:
    for record in refined(named(name), clumsy, budget=Budget(evaluations=45)):
        assert record.evaluations <= 45
        image = record.first.image
        for attempt in attempts(record):
            if attempt.mask is not None:
                hashes = {regions.kept_hash(one, attempt.mask) for one in (image, *(option.image for option in attempt.candidates))}
                assert hashes == {attempt.kept_pixels_sha256}
            if attempt.kept is not None:
                image = attempt.candidates[attempt.kept].image
        assert np.array_equal(np.asarray(image), np.asarray(record.best.image))
        assert record.best.image.size == record.first.image.size


@pytest.mark.parametrize("name", NAMES)
def test_what_a_name_fixes_cannot_be_configured(name: str) -> None:
    shown = plugins.schema(plugins.find("policy", name))
    assert not {"route", "masks", "rule", "restore", "until_clean"} & shown.keys()
    if name != "oracle-mask":
        assert config.load(["painter"], [f"policy={name}"]).tree["policy"]["use"] == name
    with pytest.raises(ConfigError, match=r"policy\.route"):
        config.load(["painter"], [f"policy={name}", "policy.route=auto"])


def test_routes() -> None:
    kinds = {name: {type(a.action) for r in refined(named(name), 1000003) for a in attempts(r)} for name in ("auto", "inpaint", "redraw")}
    assert kinds == {"auto": {Inpaint, Redraw}, "inpaint": {Inpaint}, "redraw": {Redraw}}


def test_paper_inpaint_is_not_gated_and_lets_every_pixel_drift() -> None:
    for record in refined(named("paper-inpaint"), 1000003):
        assert len(record.rounds) == 3 and record.stop_reason == "rounds"
        assert all(a.kept == 0 and a.mask is None and a.verdicts[0].reason == "ungated" for a in attempts(record))
        assert all(option.strength == 0.84 and option.box == (0, 0, 80, 48) for a in attempts(record) for option in a.candidates)
        assert all("black box" in a.action.prompt and "picture" not in a.action.prompt.split("It hides")[0] for a in attempts(record))
        outside = ~np.logical_or.reduce([region.mask for region in record.first.critique.regions])
        assert (np.asarray(record.first.image)[outside] != np.asarray(record.best.image)[outside]).any()
        assert record.best.critique.mass > record.first.critique.mass  # noise everywhere, and yet kept


def test_paper_inpaint_grows_masks_by_ten_pixels_of_1024() -> None:
    party = models(size=(512, 384))
    [record] = loop.run(["x"], [1], models=party, policy=named("paper-inpaint"), budget=Budget(1))
    [attempt] = attempts(record)
    assert isinstance(attempt.action, Inpaint)
    found = attempt.action.region.mask
    grown = repair.plan(attempt.action, record.first.image, named("paper-inpaint"), party.generator).mask
    x0, y0, x1, y1 = regions.box_of(found)
    assert regions.box_of(grown) == (max(0, x0 - 5), max(0, y0 - 5), x1 + 5, y1 + 5)


def test_paper_regenerate_draws_anew_whatever_was_found_and_drifts_from_the_prompt() -> None:
    for record in refined(named("paper-regenerate", rounds=3)):
        assert len(record.rounds) == 3
        prompts = [a.action.prompt for a in attempts(record)]
        assert all(isinstance(a.action, Redraw) and a.kept == 0 for a in attempts(record))
        assert all(len(later) > len(earlier) for earlier, later in pairwise(prompts))
        assert record.best is attempts(record)[-1].candidates[0]


def test_best_of_n_keeps_the_image_that_the_rewards_like_best() -> None:
    gate = Gate(noise={"smoothness": 0.1})
    for record in refined(named("best-of-n", n=5), gate=gate, budget=Budget(rounds=9)):
        [attempt] = attempts(record)
        images = [record.first, *attempt.candidates]
        assert len(images) == 5 and record.evaluations == 50 and {one.prompt for one in images} == {"a picture"}
        assert record.best.scores["smoothness"] == max(one.scores["smoothness"] for one in images)


def test_best_of_one_is_no_choice() -> None:
    with pytest.raises(ConfigError, match=r"policy\.n is 1"):
        config.load(["painter"], ["policy=best-of-n", "policy.n=1"])


def test_random_masks_have_the_sizes_of_the_faults_and_other_places() -> None:
    found = named("inpaint")
    record = refined(named("random-mask"))[0]
    wanted = sorted(int(region.mask.sum()) for region in found.faults(record.first.critique))
    [first, *_] = record.rounds
    moved = [a.action.region.mask for a in first.attempts if isinstance(a.action, Inpaint)]
    assert sorted(int(mask.sum()) for mask in moved) == wanted
    assert (np.logical_or.reduce(moved) != (record.first.critique.heat > 0)).any()


def test_oracle_masks_are_found_where_the_controller_is_blind() -> None:
    party = replace(models(), controller=Blind())
    with pytest.raises(ConfigError, match="true masks"):
        loop.run(["x"], [3], models=party, policy=named("oracle-mask"))
    policy = named("oracle-mask", crop_least=24)
    [record] = loop.run(["x"], [3], models=replace(party, truth=Spotter(picture(0))), policy=policy, gate=Gate(rule="off"))
    assert isinstance(party.generator, Painter) and len(record.rounds[0].attempts) == len(BOXES)
    assert Spotter(picture(0)).inspect([record.best.image])[0].mass == 0 and record.stop_reason == "clean"
