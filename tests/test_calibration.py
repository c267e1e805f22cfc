"""The score of a finding: what it learns, where its operating point lies, what is written and read back."""

from __future__ import annotations

import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from refine import cli
from refine import config as configuration
from refine.commands.calibrate import Sources, decoder
from refine.controllers.legion import calibration as c
from refine.controllers.legion.answers import Finding
from refine.controllers.legion.controller import Evidence, LegionController
from refine.embedded import locate
from refine.errors import CheckpointError, InputError
from refine.stilllife.damage import sample_damage


def evidence(mask: float = 0.8, seg: float = -0.1, area: float = 0.02, fake: float | None = 0.5) -> Evidence:
    return Evidence(Finding("a", "b", None, seg, -0.2), mask, area, fake)


def images(count: int, seed: int = 0) -> list[c.Observed]:
    """Clean and faulty images by turns; real findings have surer masks than false ones."""
    rng = np.random.default_rng(seed)
    seen = []
    for k in range(count):
        faulty = bool(k % 2)
        sure = np.clip(rng.normal(0.85 if faulty else 0.65, 0.08, rng.integers(1, 4)), 0.51, 0.99)
        found = tuple(evidence(mask=float(one)) for one in sure)
        seen.append(c.Observed(faulty, found, (faulty,) * len(found)))
    return seen


@pytest.mark.parametrize("keep", [0.8, 0.95, 1.0])
def test_the_operating_point_keeps_the_wanted_share_of_clean_images(keep: float) -> None:
    seen = images(400)
    kept = c.figures(c.fit(seen, keep), seen)["clean kept clean"]
    assert keep <= kept <= keep + 0.02


def test_it_holds_on_other_images_and_finds_most_faults() -> None:
    found = c.figures(c.fit(images(400), 0.9), images(400, seed=1))
    assert found["clean kept clean"] > 0.84
    assert found["faulty found"] > 0.7


def test_a_surer_mask_scores_higher_and_a_feature_that_never_changes_says_nothing() -> None:
    fitted = c.fit(images(200))
    assert fitted.score(evidence(mask=0.9)) > fitted.score(evidence(mask=0.6))
    assert fitted.weights[c.FEATURES.index("area")] == 0
    assert fitted.score(evidence(fake=None)) == fitted.score(evidence(fake=0.5))


def test_too_few_images_or_one_kind_of_finding_is_said() -> None:
    with pytest.raises(InputError, match="20 clean and 20 faulty images; got 5 and 5"):
        c.fit(images(10))
    same = [c.Observed(one.faulty, one.evidence, (True,) * len(one.evidence)) for one in images(100)]
    with pytest.raises(InputError, match="of one kind"):
        c.fit(same)


def test_a_finding_is_real_where_it_lies_on_the_truth_or_covers_half_of_it() -> None:
    truth, mask = np.zeros((6, 8), np.bool_), np.zeros((6, 8), np.bool_)
    truth[:4, :4] = True
    mask[:, :] = True
    assert c.is_real(mask, truth)  # covers all of it
    mask[:] = False
    mask[0, :6] = True
    assert c.is_real(mask, truth)  # two thirds of it lie on the truth
    mask[0, 2] = mask[0, 3] = False
    mask[1, 4:7] = True
    assert not c.is_real(mask, truth)
    assert c.is_real(mask, None)


def test_written_and_read_back(tmp_path: Path) -> None:
    fitted = c.fit(images(100))
    fitted.save(tmp_path / c.FILE)
    assert c.load(tmp_path / c.FILE) == fitted


BROKEN = ("", "[]", "{}", json.dumps({"weights": [1.0], "bias": 0.0}), json.dumps({"weights": [1e999] * 5, "bias": 0}))


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / c.FILE).write_text(text)
    with pytest.raises(CheckpointError):
        c.load(tmp_path / c.FILE)


def test_the_command_writes_a_file_that_the_controller_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.json"
    assert cli.main(["calibrate", "--stilllife", "44", "--keep-clean", "0.9", "--out", str(out)]) == 0
    assert "clean kept clean" in capsys.readouterr().out
    controller = LegionController.from_pretrained(locate("mini:legion"), calibration=out)
    assert controller.calibration == c.load(out)


def test_a_finding_that_is_likelier_false_is_doubt_and_no_region() -> None:
    controller = LegionController.from_pretrained(locate("mini:legion"), remember=0)
    assert controller.calibration is not None
    pictures = [sample_damage(np.random.default_rng(seed), faults=2).image for seed in range(1_300_000, 1_300_006)]
    sure, shipped = controller.inspect(pictures), controller.calibration
    controller.calibration = replace(shipped, bias=shipped.bias - 3)
    unsure = controller.inspect(pictures)
    assert sum(len(one.regions) for one in unsure) < sum(len(one.regions) for one in sure)
    pairs = list(zip(sure, unsure, strict=True))
    assert all(less.doubt > 0 for one, less in pairs if len(less.regions) < len(one.regions))  # what is no region any more is doubt
    assert all(less.expected < one.expected for one, less in pairs if one.expected)  # and everything is less to be expected
    assert all(one.expected == one.mass + one.doubt and one.doubt >= 0 for one in (*sure, *unsure))
    controller.calibration = None
    assert all(one.doubt == 0 for one in controller.inspect(pictures))  # every finding is a region then


@pytest.mark.parametrize("name", ["photo[1]", "a"])
def test_the_mask_of_an_image_is_the_one_of_its_name(name: str, tmp_path: Path) -> None:
    for folder, shades in (("clean", {"x": 9}), ("faulty", {name: 9}), ("masks", {f"{name}.b": 0, name: 255, "1": 0, "z": 0})):
        (tmp_path / folder).mkdir()
        for stem, shade in shades.items():
            PIL.Image.new("L", (20, 20), shade).save(tmp_path / folder / f"{stem}.png")
    args = Namespace(stilllife=None, clean=[tmp_path / "clean"], faulty=[tmp_path / "faulty"], masks=tmp_path / "masks")
    truth = [truth for _, truth in Sources(args)][1]
    assert isinstance(truth, np.ndarray) and truth.all()


def test_fewer_than_no_still_lifes_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "--stilllife", "-1"]) == 2
    assert "--stilllife is -1; it must be 0 or more" in capsys.readouterr().err


def test_too_few_images_are_counted_as_they_were_given_before_anything_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("refine.runner.load_controller", lambda config: pytest.fail("nothing is loaded"))
    assert cli.main(["calibrate", "--stilllife", "8"]) == 2
    assert "needs 40 clean and 40 faulty images, half of each for the fit and half for the figures; got 8 and 8" in capsys.readouterr().err


def test_without_images_the_command_says_what_to_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate"]) == 2
    assert "--clean FOLDER" in capsys.readouterr().err


def test_another_controller_is_refused_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("refine.runner.load_controller", lambda config: pytest.fail("a model was loaded"))
    assert cli.main(["calibrate", "--preset", "painter", "--stilllife", "40"]) == 2
    assert "this preset's controller is 'oracle'" in capsys.readouterr().err


def test_half_of_the_still_lifes_go_through_the_autoencoder_in_both_halves_of_the_fit() -> None:
    args = Namespace(stilllife=8, clean=[], faulty=[], masks=None)
    plain, mixed = (list(Sources(args, folder)) for folder in (None, decoder(configuration.load([], []))))
    changed = [(k // 2) for k, (one, other) in enumerate(zip(plain, mixed, strict=True)) if one[0].tobytes() != other[0].tobytes()]
    assert sorted(set(changed)) == [2, 3, 6, 7] and len(changed) == 8  # fit and figures take the pairs by turns
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(plain, mixed, strict=True))


def test_a_generator_without_a_folder_has_no_autoencoder() -> None:
    assert decoder(configuration.load(["painter"], [])) is None
