"""Our scores against those of the authors' packages, on small checkpoints in their layouts (see ``small_rewards``)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_rewards import HEADS, MED, PROMPTS, SMALL_VIT, pictures, write

from refine import cli
from refine.evals.backends import hps, imagereward
from refine.evals.hps import HPSv2
from refine.evals.imagereward import ImageReward

EXPECTED = json.loads((Path(__file__).parent / "data" / "rewards_small.json").read_text())
REWARD_HEADS = {"vision_heads": SMALL_VIT["heads"], "text_heads": int(str(MED["num_attention_heads"]))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("small")
    write(made)
    return made


@pytest.mark.parametrize(("antialias", "kind"), [(True, "hps"), (False, "hps legacy")])
def test_hps_equals_the_authors_code(folder: Path, antialias: bool, kind: str) -> None:
    reward = HPSv2.from_pretrained(folder, antialias=antialias, **HEADS)
    found = np.array(reward.matrix(pictures(), PROMPTS)).T
    assert np.abs(found - EXPECTED[kind]).max() < 1e-6
    assert np.abs(found - EXPECTED["hps" if kind == "hps legacy" else "hps legacy"]).max() > 1e-3, "the two protocols must differ"


def test_imagereward_equals_the_authors_code(folder: Path) -> None:
    reward = ImageReward.from_pretrained(folder, tokenizer=folder, **REWARD_HEADS)
    found = np.array(reward.matrix(pictures(), PROMPTS)).T
    assert np.abs(found - EXPECTED["imagereward"]).max() < 1e-5


def test_transformers_layout_gives_the_same_scores(folder: Path, tmp_path: Path) -> None:
    first = HPSv2.from_pretrained(folder, **HEADS)
    first.towers.model.save_pretrained(tmp_path)
    again = HPSv2.from_pretrained(tmp_path)
    assert again.score(pictures(), [PROMPTS[1]] * 4) == first.score(pictures(), [PROMPTS[1]] * 4)


def test_scores_by_configuration_are_the_same(folder: Path) -> None:
    made = [hps(str(folder), **HEADS), imagereward(str(folder), tokenizer=str(folder), **REWARD_HEADS)]
    for reward in made:
        for prompt, row in zip(PROMPTS, EXPECTED[reward.name], strict=True):
            assert np.abs(np.array(reward.score(pictures(), [prompt] * 4)) - row).max() < 1e-5


def test_a_score_does_not_depend_on_company_or_history(folder: Path) -> None:
    images = pictures()
    fresh = HPSv2.from_pretrained(folder, **HEADS)
    alone = fresh.score(images[2:3], PROMPTS[2:3])
    fresh.score(images[:2], PROMPTS[:2])
    assert fresh.score(images[2:3], PROMPTS[2:3]) == alone  # remembered
    other = HPSv2.from_pretrained(folder, **HEADS)
    other.score(images[:2], PROMPTS[:2])
    assert other.score([images[0], images[2]], [PROMPTS[0], PROMPTS[2]])[1] == pytest.approx(alone[0], abs=1e-7)
    assert len(fresh.towers.known_images) == 3 and len(other.towers.known_texts) == 3


def test_texts_do_not_depend_on_company_at_all(folder: Path) -> None:
    one, many = (HPSv2.from_pretrained(folder, **HEADS) for _ in range(2))
    assert (one.text_features(PROMPTS[:1])[0] == many.text_features(PROMPTS[::-1])[-1]).all()


def test_a_run_keeps_the_protocol_of_its_scores(folder: Path, tmp_path: Path) -> None:
    image = pictures()[0]
    image.save(tmp_path / "one.png")
    settings = [f"rewards.hps.source={folder}", "rewards.hps.antialias=false", "rewards.likeness=null", "controller=blind"]
    settings += [f"rewards.hps.{key}={n}" for key, n in HEADS.items()]
    words = ["run", "a red cat", "--images", str(tmp_path / "one.png"), "--preset", "painter"]
    assert cli.main([*words, *(word for one in settings for word in ("--set", one)), "--out", str(tmp_path / "run")]) == 0
    kept = json.loads((tmp_path / "run" / "rewards.json").read_text())
    assert kept["hps"]["resize_antialias"] == "legacy" and kept["hps"]["version"] == "v2.1"
    score = json.loads((tmp_path / "run" / "ledger.jsonl").read_text().splitlines()[0])["first"]["scores"]["hps"]
    assert score == pytest.approx(HPSv2.from_pretrained(folder, antialias=False, **HEADS).score([image], ["a red cat"])[0], abs=1e-6)
