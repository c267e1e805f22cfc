"""The held-out judge: what it decodes, what it counts as right, how it is trained and stored."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from refine.commands.calibrate import Sources
from refine.errors import CheckpointError, InputError
from refine.evals import judge_data, judge_training, labels
from refine.evals.judge import DEFAULT_PATH, HEADS, Config, Dense, Judge, Kind, Reading, decode, peaks, prompt_accuracy
from refine.stilllife import packing
from refine.stilllife.captions import caption
from refine.stilllife.damage import sample_damage
from refine.stilllife.scene import Scene, Solid

TINY = Config((4, 6, 8, 8))
RED_CUBE, BLUE_BALL = Solid("cube", "red", "large", "shiny"), Solid("sphere", "blue", "small", "matte")
SCENE = Scene((RED_CUBE, BLUE_BALL), "wood", "left")


def reading(*solids: Kind, floor: str = "wood", light: str = "left") -> Reading:
    return Reading(solids, floor, light, np.zeros((4, 6), np.float32))


def perfect(examples: judge_data.Examples) -> Dense:
    """The answer of a judge that knows the truth of the damaged pictures."""
    rows = np.arange(len(examples))
    made = judge_data.truth(examples, rows, np.ones(len(rows), np.bool_))
    classes = {name: torch.nn.functional.one_hot(made.truth[name].clamp(min=0), len(names)) for name, names in HEADS.items()}
    heads = {name: 20 * values.permute(0, 3, 1, 2).float() for name, values in classes.items()}
    return Dense(made.heat.logit(1e-6), heads, 40 * made.artifact - 20)


@pytest.fixture(scope="module")
def examples() -> judge_data.Examples:
    return judge_data.from_seeds(range(8_000_000, 8_000_012))


def test_perfect_maps_decode_to_the_scene(examples: judge_data.Examples) -> None:
    readings = decode(perfect(examples), [(128, 128)] * len(examples))
    for index, answer in enumerate(readings):
        sample = sample_damage(np.random.default_rng(8_000_000 + index))
        assert answer.solids == tuple(solid.kind for solid in sample.scene.solids)
        assert prompt_accuracy(answer, sample.caption)["every"] == 1
        mask = sample.mask
        assert answer.artifact_area == pytest.approx(mask.mean(), abs=0.02)
        assert ((answer.artifact > 0.5) == mask).mean() > 0.97


def test_right_reading_scores_one_everywhere() -> None:
    assert set(prompt_accuracy(reading(RED_CUBE.kind, BLUE_BALL.kind), caption(SCENE)).values()) == {1.0}


def test_left_and_right_swapped_is_wrong() -> None:
    scores = prompt_accuracy(reading(BLUE_BALL.kind, RED_CUBE.kind), caption(SCENE))
    assert (scores["core"], scores["count"], scores["colour"]) == (0, 1, 0)


def test_small_attributes_and_surroundings_count_for_every_only() -> None:
    dull = ("cube", "red", "large", "matte")
    scores = prompt_accuracy(reading(dull, BLUE_BALL.kind, light="right"), caption(SCENE))
    assert (scores["core"], scores["every"], scores["material"], scores["light"]) == (1, 0, 0.5, 0)
    assert scores["mean"] == pytest.approx(9 / 11)  # count, 4 + 4 attributes, floor, light; two wrong


def test_a_missing_and_an_extra_solid() -> None:
    missing = prompt_accuracy(reading(BLUE_BALL.kind), caption(SCENE))
    assert (missing["core"], missing["count"], missing["shape"]) == (0, 0, 0.5)
    extra = prompt_accuracy(reading(RED_CUBE.kind, RED_CUBE.kind, BLUE_BALL.kind), caption(SCENE))
    assert (extra["core"], extra["shape"]) == (0, 1)
    assert extra["mean"] == pytest.approx(10 / 11)
    assert prompt_accuracy(reading(), caption(SCENE))["mean"] == pytest.approx(2 / 11)


def test_a_caption_outside_the_grammar_is_refused() -> None:
    with pytest.raises(InputError, match="a dog on a sofa"):
        prompt_accuracy(reading(), "a dog on a sofa")


def test_peaks_are_ordered_apart_and_at_most_three() -> None:
    heat = np.zeros((32, 32), np.float32)
    heat[20, 25], heat[20, 26], heat[10, 3], heat[5, 15], heat[28, 8], heat[2, 2] = 0.9, 0.8, 0.7, 0.6, 0.5, 0.2
    assert peaks(heat) == [(10, 3), (5, 15), (20, 25)]
    assert peaks(np.zeros((32, 32), np.float32)) == []


def test_mirroring_moves_everything_together(examples: judge_data.Examples) -> None:
    rows = np.arange(4)
    made = judge_data.truth(examples, rows, np.ones(4, np.bool_))
    x = torch.rand(4, 3, 128, 128)
    there = judge_data.mirror(judge_data.Batch(x, made.heat, made.truth, made.artifact), torch.tensor([True, False, True, False]))
    assert torch.equal(there.x[0], x[0].flip(-1))
    assert torch.equal(there.x[1], x[1])
    assert torch.equal(there.artifact[2], made.artifact[2].flip(-1))
    assert torch.equal(there.truth["light"][0], 1 - made.truth["light"][0])
    assert torch.equal(there.truth["shape"][3], made.truth["shape"][3])


def test_spoiling_keeps_the_picture(examples: judge_data.Examples) -> None:
    x = torch.from_numpy(examples.clean[:6].transpose(0, 3, 1, 2) / np.float32(127.5) - 1).float()
    spoiled = judge_data.spoil(x, np.random.default_rng(0))
    assert torch.equal(spoiled, judge_data.spoil(x, np.random.default_rng(0)))
    assert 0 < (spoiled - x).abs().mean() < 0.12
    assert torch.allclose(judge_data.blur(x, np.zeros(6)), x, atol=1e-6)
    flat = torch.full((2, 3, 16, 24), 0.3)
    assert torch.allclose(judge_data.blur(flat, [1.2, 0.4]), flat, atol=1e-6)


def test_patched_pictures_are_whole_or_boxed(examples: judge_data.Examples) -> None:
    before, after = examples.clean[:6], 255 - examples.clean[:6]
    made = judge_data.patched(before, after, np.random.default_rng(1))
    assert (made[1::2] == after[1::2]).all()
    boxed = (made[::2] == after[::2]).all(-1).mean((1, 2))
    assert ((boxed > 0.05) & (boxed < 1)).all()
    assert ((made == before) | (made == after)).all()


def test_reads_any_size_and_survives_the_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = Judge(TINY).eval()
    judge.save_pretrained(tmp_path)
    again = Judge.from_pretrained(tmp_path)
    images = [PIL.Image.new("RGB", (48, 80), "red"), PIL.Image.new("L", (200, 30)), PIL.Image.new("RGBA", (1, 1))]
    before, after = judge.read(images, batch=2), again.read(images, batch=2)
    assert [r.artifact.shape for r in after] == [(80, 48), (30, 200), (1, 1)]
    for one, other in zip(before, after, strict=True):
        assert np.allclose(one.artifact, other.artifact, atol=0.01)
        assert 0 <= other.artifact_area <= 1


@pytest.mark.parametrize("spoil", ["missing", "widths", "foreign", "cut"])
def test_bad_checkpoints_are_refused(tmp_path: Path, spoil: str) -> None:
    if spoil != "missing":
        Judge(TINY).save_pretrained(tmp_path)
        text = '{"widths": [4, 6, 8, 12]}' if spoil == "widths" else '{"model_type": "clip"}'
        (tmp_path / ("config.json" if spoil != "cut" else "model.safetensors")).write_text(text)
    with pytest.raises(CheckpointError, match=r"Cannot load a judge .*It must hold config\.json and model\.safetensors"):
        Judge.from_pretrained(tmp_path)


def test_training_learns_and_resumes(tmp_path: Path, examples: judge_data.Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_data, "SHARD", 12)
    monkeypatch.setattr(judge_training, "BATCH", 6)
    shared = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path), "--samples", "12"]
    judge_training.main([*shared, "--steps", "2"])
    judge_training.main([*shared, "--steps", "3", "--data", str(tmp_path / "5000000.npz")])
    assert torch.load(tmp_path / "out" / "last.pt", weights_only=False)["step"] == 3
    rows = judge_training.evaluate(judge_training.arguments(["evaluate", "--n", "4", "--model", str(tmp_path / "out" / "model")]))
    assert rows["clean"].truth_area == 0 < rows["damaged"].truth_area
    answers = perfect(examples)
    made = judge_data.truth(examples, np.arange(len(examples)), np.ones(len(examples), np.bool_))
    good, bad = (sum(part.item() for part in judge_training.losses(dense, made).values()) for dense in (answers, _worse(answers)))
    assert good < 0.7 < bad


def _worse(dense: Dense) -> Dense:
    return Dense(-dense.heat, {name: -logits for name, logits in dense.heads.items()}, -dense.artifact)


@pytest.mark.skipif(not DEFAULT_PATH.exists(), reason="the embedded judge is not in this checkout")
def test_the_embedded_judge_reads_held_out_pictures() -> None:
    judge = Judge.from_pretrained()
    samples = [sample_damage(np.random.default_rng(9_000_000 + index)) for index in range(32)]
    clean = judge.read([sample.clean for sample in samples])
    empty = [np.zeros((128, 128), np.bool_)] * len(samples)
    scores = judge_training.measure(clean, samples, empty)
    assert scores.every >= 0.9
    assert scores.area < 0.005
    damaged = judge_training.measure(judge.read([s.image for s in samples]), samples, [s.mask for s in samples])
    assert damaged.f1 > 0.5
    assert sum(p.numel() for p in judge.parameters()) < 1_500_000


# Labels for a controller: by another reader than the judge


def seen(*boxes: tuple[int, int, int, int]) -> labels.Seen:
    """A wide picture with the solids of SCENE at a third and two thirds, and these boxes (top, bottom, left, right) broken."""
    artifact = np.full((64, 128), 0.1, np.float32)
    for top, bottom, left, right in boxes:
        artifact[top:bottom, left:right] = 0.9
    return labels.Seen(artifact, ((30.0, 42.0), (34.0, 86.0)))


def test_a_fault_is_told_of_the_nearest_solid_and_by_its_own_mask() -> None:
    first, second = labels.faults(seen((20, 40, 36, 48), (28, 40, 82, 92)), SCENE)
    assert (first.phrase, second.phrase) == ("the red cube", "the blue sphere")
    assert "whole red cube" in first.explanation
    assert first.category == "structure"
    assert (first.mask.sum(), second.mask.sum()) == (20 * 12, 12 * 10)


def test_what_lies_beyond_every_solid_is_its_shadow_or_the_floor() -> None:
    lit_from_left = labels.faults(seen((52, 62, 112, 126), (52, 62, 0, 8)), SCENE)
    assert sorted(region.phrase for region in lit_from_left) == ["the blue sphere's shadow", "the floor"]


def test_specks_are_no_fault() -> None:
    assert not list(labels.faults(seen((10, 13, 10, 13)), SCENE))


def test_labels_are_a_cache_that_a_controller_trains_on(tmp_path: Path) -> None:
    samples = [sample_damage(np.random.default_rng(8_100_000 + i), faults=1) for i in range(6)]
    pictures = np.stack([np.asarray(sample.image) for sample in samples])
    np.savez(tmp_path / "drawn.npz", images=pictures, prompts=np.array([sample.caption for sample in samples]))
    Judge.from_pretrained().save_pretrained(tmp_path / "reader")
    judge_training.main(
        ["label", "--model", str(tmp_path / "reader"), "--images", str(tmp_path / "drawn.npz"), "--to", str(tmp_path / "cache.npz")]
    )
    with np.load(tmp_path / "cache.npz") as file:
        assert set(file.files) == set(packing.FIELDS)
        assert len(file["masks"]) == len(file["owner"]) > 0
        assert (file["ids"] == -1).all()


def test_labels_are_folders_that_a_calibration_reads(tmp_path: Path) -> None:
    samples = [sample_damage(np.random.default_rng(8_100_000 + i), faults=i % 2) for i in range(4)]
    labels.write_folders(samples, tmp_path)
    known = list(Sources(Namespace(stilllife=1, clean=[tmp_path / "clean"], faulty=[tmp_path / "faulty"], masks=tmp_path / "masks")))
    assert [bool(np.any(truth)) for _, truth in known] == [True, False, False, True, False, True]
    for (image, truth), sample in zip(known[3::2], samples[1::2], strict=True):
        assert (np.asarray(image) == np.asarray(sample.image)).all()
        assert (truth == sample.mask).all()


def test_the_held_out_judge_labels_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="teaches nothing"):
        judge_training.main(["label", "--images", str(tmp_path / "x.npz"), "--to", str(tmp_path / "y.npz")])


def test_pictures_that_no_reader_recognises_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "drawn.npz", images=np.zeros((1, 128, 128, 3), np.uint8), prompts=np.array(["a wolf"]))
    Judge.from_pretrained().save_pretrained(tmp_path / "reader")
    with pytest.raises(InputError, match="In none of the 1 pictures"):
        judge_training.main(
            ["label", "--model", str(tmp_path / "reader"), "--images", str(tmp_path / "drawn.npz"), "--to", str(tmp_path / "y.npz")]
        )
