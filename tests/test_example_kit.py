"""The example package has a plug-in of every role: each keeps its contract, and together they are a run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from refine import cli, plugins, store
from refine.errors import ConfigError
from refine.types import Critique, InpaintJob, Region

KIT = Path(__file__).parent.parent / "examples" / "plugin_kit"


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, importable and with its entry points declared as pip would declare them."""
    declared = tomllib.loads((KIT / "pyproject.toml").read_text())["project"]["entry-points"]["refine.plugins"]
    metadata = tmp_path / "site" / "refine_plugin_kit-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: refine-plugin-kit\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[refine.plugins]\n" + "".join(f"{k} = {v}\n" for k, v in declared.items()))
    monkeypatch.syspath_prepend(metadata.parent)
    monkeypatch.syspath_prepend(KIT)
    plugins._entry_points.cache_clear()
    yield __import__("refine_plugin_kit")
    plugins._entry_points.cache_clear()


def spotted() -> PIL.Image.Image:
    """40 × 24, grey, with one white patch of 5 × 4 and a single white pixel."""
    pixels = np.full((24, 40, 3), 90, np.uint8)
    pixels[6:10, 20:25] = 255
    pixels[20, 3] = 255
    return PIL.Image.fromarray(pixels)


def test_every_role_is_offered(kit: Any) -> None:
    listed = [(kind, *item) for kind in plugins.TABLE for item in plugins.names(kind).items()]
    offered = {kind: name for kind, name, where in listed if where.startswith("refine_plugin_kit:")}
    assert offered == {"generator": "sky", "controller": "glare", "reward": "calm", "reviser": "suffix", "policy": "gentle"}


def test_the_controller_marks_the_patch_and_not_the_pixel(kit: Any) -> None:
    (mask,) = kit.find_glare(spotted())
    assert mask.shape == (24, 40) and mask.sum() == 20 and mask[6:10, 20:25].all()
    assert len(kit.find_glare(spotted(), least=1)) == 2


def test_the_generator_draws_alike_and_paints_the_mask_alone(kit: Any) -> None:
    sky = kit.Sky(side=64, spots=1)
    alone, again = sky.draw(["dusk"], [5])[0], sky.draw(["noon", "dusk"], [9, 5])[1]
    assert alone.tobytes() == again.tobytes() and alone.tobytes() != sky.draw(["dusk"], [6])[0].tobytes()
    (mask,) = kit.find_glare(spotted())
    (painted,) = sky.inpaint([InpaintJob(spotted(), mask, "dusk", 0, strength=1.0)])
    before, after = np.asarray(spotted()), np.asarray(painted)
    assert (after[~mask] == before[~mask]).all() and np.abs(after[mask].astype(int) - 90).max() < 30
    assert sky.cost() > sky.cost(0.5) >= 1
    with pytest.raises(ConfigError, match=r"generator\.side is 70"):
        kit.Sky(side=70)


def test_the_reward_prefers_the_even_picture_and_the_reviser_keeps_the_prompt(kit: Any) -> None:
    even = PIL.Image.new("RGB", (40, 24), (90, 90, 90))
    low, high = kit.Calm().score([spotted(), even], ["a", "a"])
    assert low < high == 0
    region = Region(np.ones((24, 40), np.bool_), "glare")
    made = kit.Suffix("soft").revise("dusk", Critique((40, 24)), region)
    assert (made.prompt, made.negative_prompt) == ("dusk, soft", "glare")


def test_the_five_together_are_a_run(kit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "an evening sky", "--preset", str(KIT / "kit.yaml"), "--out", str(tmp_path / "run")]) == 0
    (line,) = store.ledger(tmp_path / "run")
    record = json.loads((store.item_folder(tmp_path / "run", line["key"]) / "record.json").read_text())
    final = PIL.Image.open(store.item_folder(tmp_path / "run", line["key"]) / "final.png")
    assert record["stop_reason"] == "clean" and len(record["rounds"]) == 2 and kit.find_glare(final) == []


def test_a_wrong_key_is_told(kit: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--set", "generator.spot=3", "--set", "policy.strengths=[2]", "--out", str(tmp_path / "run")]
    assert cli.main(["run", "dusk", "--preset", str(KIT / "kit.yaml"), *wrong]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'generator.spots'" in said and "policy.strengths" in said and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_pip_installs_it(tmp_path: Path) -> None:
    shutil.copytree(KIT, tmp_path / "source")  # setuptools builds beside the sources
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(tmp_path / "site"), str(tmp_path / "source")], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(KIT.parent.parent)])}
    command = [sys.executable, "-m", "refine", "run", "dusk", "--preset", str(KIT / "kit.yaml"), "--out", "run"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "run" / "report.html").exists()
