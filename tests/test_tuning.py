"""Tuning: margins are what happens by chance, halves are honest, and what is written is a preset."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import toys
from hypothesis import given
from hypothesis import strategies as st

from refine import cli, config, presets
from refine.bench import tuning
from refine.bench.tuning import Chance
from refine.errors import InputError
from refine.gate import Gate
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Attempt, Candidate, Critique, Redraw, Region, Verdict


@given(st.lists(st.integers(0, 9), min_size=tuning.LEAST, max_size=60).filter(lambda found: len(set(found)) > 1), st.integers(0, 5))
def test_halves_share_no_prompt_and_lose_nothing(prompts: list[int], seed: int) -> None:
    items = list(enumerate(prompts))
    most = max(map(prompts.count, prompts))
    if 2 * most > len(prompts):
        with suppress(InputError):
            assert 4 * min(map(len, tuning.halves(items, lambda item: str(item[1]), seed))) >= len(prompts)
        return
    tune, report = tuning.halves(items, lambda item: str(item[1]), seed)
    assert sorted(tune + report) == items and tune and report
    assert not {prompt for _, prompt in tune} & {prompt for _, prompt in report}
    assert abs(len(tune) - len(report)) <= most
    assert tuning.halves(items, lambda item: str(item[1]), seed) == (tune, report)


def test_too_few_images_or_prompts_are_refused() -> None:
    with pytest.raises(InputError, match="5 images are too few"):
        tuning.halves(range(5), str)
    with pytest.raises(InputError, match="20 images have one prompt, 'a cube'"):
        tuning.halves(range(20), lambda _: "a cube")
    with pytest.raises(InputError, match="19 of 20 images have one prompt, 'a cube'"):
        tuning.halves(range(20), lambda index: "a cube" if index else "a cone")


@given(st.integers(0, 10_000), st.floats(0, 0.7))
def test_a_patch_touches_nothing_that_was_found(seed: int, share: float) -> None:
    taken = np.zeros((48, 80), bool)
    taken[:, : int(80 * share)] = True
    mask = tuning.patch(taken, np.random.default_rng(seed))
    assert mask is None or (mask.shape == (48, 80) and mask.any() and not (mask & taken).any())


def test_no_room_for_a_patch() -> None:
    assert tuning.patch(np.ones((48, 80), bool), np.random.default_rng(0)) is None


def test_margins_are_the_ninetieth_percentile_of_chance() -> None:
    chances = [Chance({"r": i / 10}, {"r": i / 5} if i else {}, i / 1000, (i / 20,)) for i in range(11)]
    gate = tuning.margins(Gate(fall=0.3), chances)
    assert gate.noise == {"r": pytest.approx(0.9)}
    assert gate.crop_noise == {"r": pytest.approx(np.quantile(np.arange(1, 11) / 5, 0.9), rel=1e-2)}
    assert gate.rise == pytest.approx(0.009)
    assert gate.fall == pytest.approx(0.45)
    assert gate.suspicion == Gate().suspicion, "no detector, so nothing was measured"
    steady = tuning.margins(Gate(fall=0.3), [Chance({"r": -1.0}, {}, 0.0, (0.0,)) for _ in range(4)])
    assert (steady.noise, steady.fall) == ({"r": 0.0}, tuning.LEAST_FALL)
    kept = tuning.margins(Gate(fall=0.3, crop_noise={"r": 0.2}), [Chance({"r": 0.1}, {}, 0.0, ())])
    assert (kept.fall, kept.crop_noise) == (0.3, {"r": 0.2}), "nothing was measured, so nothing changes"
    assert tuning.margins(Gate(), [Chance({}, {}, 0.0, (), i / 10) for i in range(11)]).suspicion == pytest.approx(0.9)


def test_a_reward_without_numbers_is_named() -> None:
    assert tuning.quantiles([{"r": 1.0}, {"r": float("nan")}]) == {"r": 1.0}
    with pytest.raises(InputError, match=r"rewards\.r=null"):
        tuning.quantiles([{"r": float("nan")}])


def test_falls_are_those_of_untouched_faults() -> None:
    left, right, touched = (np.zeros((48, 80), bool) for _ in range(3))
    left[:, :10], right[:, 70:], touched[:, 60:] = True, True, True
    before = Critique((80, 48), (Region(left, "l"), Region(right, "r")))
    after = Critique((80, 48), (Region(left, "l", score=0.75),))
    assert list(tuning.untouched_falls(before, after, touched)) == [pytest.approx(0.25)]


def test_what_appears_in_the_patch_itself_is_no_rise() -> None:
    left, right = (np.zeros((48, 80), bool) for _ in range(2))
    left[:, :10], right[:, 70:] = True, True
    found = Critique((80, 48), (Region(left, "l"), Region(right, "r")))
    assert tuning.beside(found, left) == right.sum()
    assert [tuning.risen(*pair) for pair in ((None, 0.5), (0.25, 0.5), (0.5, 0.25))] == [None, 0.25, 0.0]


def attempt(accepted: dict[float, bool]) -> Attempt:
    image = toys.picture(0)
    options = tuple(Candidate(image, "p", 0, Critique(image.size), {}, strength) for strength in accepted)
    return Attempt(Redraw("p"), options, tuple(Verdict(ok, "") for ok in accepted.values()), None)


def test_strengths_are_those_that_repair_most_between_them() -> None:
    attempts = [attempt({0.9: a, 0.6: b, 0.3: c}) for a, b, c in [(1, 1, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 0)]]
    painter = toys.Painter(toys.picture(0))
    assert tuning.best_strengths(attempts, painter, 3) == (0.9, 0.6, 0.3)
    assert tuning.best_strengths(attempts, painter, 1) == (0.6,)
    assert tuning.best_strengths([attempt({0.9: True, 0.3: True})], painter, 2) == (0.3,), "equal hits: the cheaper one, and it alone"
    assert tuning.best_strengths([attempt({0.9: False})], painter, 2) is None


def test_vetoes_count_both_kinds_of_drops() -> None:
    gate = Gate(noise={"r": 0.5}, crop_noise={"r": 0.1})
    chances = [Chance({"r": d}, {"r": c}, 0.0, ()) for d, c in [(0.4, 0.0), (0.6, 0.0), (0.0, 0.2), (0.0, 0.0)]]
    share = tuning.vetoed(gate, chances)
    assert share is not None
    assert share.estimate == 0.5
    assert tuning.vetoed(gate, []) is None


def prompt_file(folder: Path) -> Path:
    """16 images of prompts that the painter's oracle knows."""
    rows = [f'"{prompt}",{seed}' for seed in range(4) for prompt in DEFAULT_PROMPTS]
    (folder / "p.csv").write_text("prompt,seed\n" + "\n".join(rows) + "\n")
    return folder / "p.csv"


def test_the_command_writes_a_preset_that_loads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.yaml"
    asked = ["tune", "--preset", "painter", "--prompts", str(prompt_file(tmp_path)), "--out", str(out), "--set", "generator.skill=0.9"]
    assert cli.main(asked) == 0
    said = capsys.readouterr().out
    assert "on 8 images that were not tuned on" in said
    assert re.search(r"change of artifact area .*: [−+\d.]+ points \[", said), "a difference of shares is no relative one"
    loaded = config.load([str(out)]).tree
    assert loaded["generator"]["use"] == "painter"
    assert loaded["generator"]["skill"] == 0.9
    assert set(loaded["gate"]["noise"]) == {"likeness"}
    assert set(loaded["policy"]["strengths"]) <= set(tuning.GRID)
    described = presets.describe(str(out))
    assert set(described.facts) == set(presets.FACTS)
    assert "regions repaired" in described.facts["expect"]
    assert cli.main(asked) == 3
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Nothing to tune on"),
        (["--prompts", "P", "--n", "8"], "--n is 8"),
        (["--prompts", "P", "--out", "x.json"], "ends in .yaml"),
    ],
)
def test_bad_requests(options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(prompt_file(tmp_path))
    given = [str(tmp_path / "x.json") if option == "x.json" else file if option == "P" else option for option in options]
    assert cli.main(["tune", "--preset", "painter", "--out", str(tmp_path / "new.yaml"), *given]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.yaml"))
