"""The authors' packages as a subprocess: the protocol on a stand-in; the packages themselves where REFINE_OFFICIAL_PYTHON is set."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from small_rewards import HEADS, PROMPTS, pictures, write

from refine import cli
from refine.commands.parity import texts_of
from refine.errors import CheckpointError, ConfigError, InputError, RefineError
from refine.evals.backends import hps, imagereward
from refine.evals.official import PACKAGES, VARIABLE, Official, official_environment

STAND_IN = Path(__file__).with_name("official_stand_in.py")
REAL = os.environ.get(VARIABLE)


def script(path: Path, *arguments: str) -> str:
    """An executable that is run like an interpreter and starts the stand-in whatever it is given."""
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{STAND_IN}" {" ".join(arguments)}\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return script(tmp_path_factory.mktemp("official") / "python")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("small")
    write(made)
    return made


def grey(*levels: int) -> list[PIL.Image.Image]:
    return [PIL.Image.new("RGB", (30 + k, 20), (level, level, level)) for k, level in enumerate(levels)]


def moody(python: str, **options: object) -> Official:
    made = imagereward("some/repo", backend="official", python=python, **options)  # type: ignore[arg-type]
    assert isinstance(made, Official)
    return made


def test_pairs_come_back_in_order_and_in_batches(python: str) -> None:
    reward = moody(python, batch_size=2, name="mine")
    assert reward.score(grey(5, 250, 30, 7, 9), list("abcde")) == [5, 250, 30, 7, 9]
    assert reward.score([], []) == [] and reward.name == "mine"
    assert reward.protocol["backend"] == "official" and reward.protocol["offline"] == os.environ.get("HF_HUB_OFFLINE", "")
    with pytest.raises(InputError, match="2 images but 1 prompts"):
        reward.score(grey(1, 2), ["a"])
    reward.close()


def test_local_files_only_switches_the_hub_off(python: str) -> None:
    assert moody(python, local_files_only=True).protocol["offline"] == "1"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("crash", r"has ended \(exit code 3\)\. Its last words: .*about to die with hf_\*\*\*"),
        ("raise", r"failed: ValueError: hf_\*\*\* is no good"),
        ("short", r"gave \[\] for 1 images"),
    ],
)
def test_a_failure_says_what_happened_and_no_secret(python: str, prompt: str, words: str) -> None:
    reward = moody(python)
    with pytest.raises(RefineError, match=words) as caught:
        reward.score(grey(1), [prompt])
    assert "abcdefgh1234" not in str(caught.value)


def test_after_a_crash_there_is_no_hang(python: str) -> None:
    reward = moody(python)
    for _ in range(2):
        with pytest.raises(RefineError, match="has ended"):
            reward.score(grey(1), ["crash"])


def test_a_worker_that_does_not_answer_is_ended(python: str) -> None:
    reward = moody(python, timeout=4.0)
    began = time.monotonic()
    with pytest.raises(RefineError, match="no answer within 4 s"):
        reward.score(grey(1), ["sleep"])
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            os.kill(reward.protocol["process"], 0)
            reward.close()


def test_the_worker_ends_with_its_reward(python: str) -> None:
    reward = moody(python)
    process = reward.protocol["process"]
    del reward
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_not_a_number_passes_through(python: str) -> None:
    assert math.isnan(moody(python).score(grey(1), ["nan"])[0])


def test_what_cannot_start_is_explained(python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=rf"Set {VARIABLE}[\s\S]*pip install .*hpsv2x==1\.2\.0"):
        hps(backend="official")
    with pytest.raises(ConfigError, match="no interpreter"):
        hps(backend="official", python=str(tmp_path))
    with pytest.raises(ConfigError, match="no interpreter"):
        hps(backend="official", python=str(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="choose their own precision"):
        hps(backend="official", python=python, dtype="float16")
    with pytest.raises(CheckpointError, match=r"holds no HPS_v2\.1_compressed\.pt"):
        hps(str(tmp_path), backend="official", python=python)
    with pytest.raises(ConfigError, match=r"lacks a package \(ModuleNotFoundError.*a_package_that_nobody_has[\s\S]*image-reward==1\.5"):
        imagereward(backend="official", python=script(tmp_path / "lacking", "lacking"))
    with pytest.raises(CheckpointError, match="cannot load its weights: OSError: 401") as caught:
        imagereward("no/weights", backend="official", python=python)
    assert "signature" not in str(caught.value) and "abcdefgh1234" not in str(caught.value)


def test_the_variable_names_the_interpreter(python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, python)
    assert imagereward("some/repo", backend="official").score(grey(8), ["a"]) == [8]


def test_another_resize_protocol_is_refused(python: str) -> None:
    with pytest.raises(ConfigError, match=r"antialias is False, but .* torchvision 0\.29\.1, which resizes with antialiasing"):
        hps("some/repo", backend="official", python=python, version="v2.0", antialias=False)


@pytest.mark.parametrize("reward", PACKAGES)
def test_the_instructions_are_shell_lines(reward: str) -> None:
    text = official_environment(reward)
    assert PACKAGES[reward] in text and VARIABLE in text and all("==" in one for one in PACKAGES[reward].split())
    assert subprocess.run(["sh", "-n"], input=text.encode()).returncode == 0


# ---- refine parity


def parity(folder: Path, tmp_path: Path, python: str, *more: str) -> list[str]:
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    for k, image in enumerate(pictures()):
        image.save(images / f"{k}.png")
    (tmp_path / "prompts.txt").write_text("one\ntwo\na red cat\nfour\n")
    settings = [f"rewards.hps.source={folder}", f"rewards.hps.python={python}", *(f"rewards.hps.{key}={n}" for key, n in HEADS.items())]
    sets = [word for one in settings for word in ("--set", one)]
    return ["parity", "--images", str(images), "--prompts", str(tmp_path / "prompts.txt"), "--reward", "hps", *sets, *more]


def test_parity_finds_our_scores_unchanged_by_the_way(
    folder: Path, tmp_path: Path, python: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(parity(folder, tmp_path, python)) == 0
    shown = capsys.readouterr().out
    assert "hps: 4 pairs, largest difference 0, mean 0" in shown
    assert "2.png" in shown and "a red cat" in shown


def test_an_image_that_is_given_twice_has_its_prompt_twice(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a cat")
    assert texts_of([tmp_path / "a.png"] * 2, None) == ["a cat"] * 2


def test_parity_names_a_mismatch(folder: Path, tmp_path: Path, python: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = parity(folder, tmp_path, python)
    (tmp_path / "prompts.txt").write_text("one\ntwo\n")
    assert cli.main(arguments) == 2
    assert "4 images" in capsys.readouterr().err
    assert cli.main([*arguments[:6], "likeness"]) == 2
    assert "hps, imagereward" in capsys.readouterr().err


# ---- the packages themselves


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason=f"set {VARIABLE} to an interpreter with hpsv2x and image-reward")
def test_the_real_package_gives_our_scores(folder: Path) -> None:
    ours, theirs = (hps(str(folder), backend=backend, **HEADS) for backend in ("native", "official"))  # type: ignore[arg-type]
    expected = json.loads((Path(__file__).parent / "data" / "rewards_small.json").read_text())["hps"]
    for prompt, row in zip(PROMPTS, expected, strict=True):
        found = np.array([reward.score(pictures(), [prompt] * 4) for reward in (ours, theirs)])
        assert np.abs(found[0] - found[1]).max() < 1e-6 and np.abs(found[1] - row).max() < 1e-6
