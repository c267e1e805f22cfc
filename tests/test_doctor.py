"""What the machine has, what a preset needs, and what is fetched: said before anything is downloaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import architectures
from refine import cli, config, device, memory, needs, sizes
from refine.commands import fetch
from refine.evals import hub

REWARD = """
class Steady:
    name = "steady"

    def score(self, images, prompts):
        return [1.0] * len(images)
"""


def test_doctor_weighs_a_preset_without_a_download(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["doctor", "--preset", "sdxl"]) == 0
    said = capsys.readouterr().out
    assert "stabilityai/stable-diffusion-xl-base-1.0" in said and "sequential" in said and "[red]" not in said


@pytest.mark.parametrize("preset", ["sd15", "sdxl", "sd35", "flux"])
def test_less_of_the_accelerator_with_every_policy(preset: str) -> None:
    found, _ = memory.models(config.load([preset]).tree)
    asked = memory.demands(found)
    together = [demand.together for demand in asked]
    assert together == sorted(together, reverse=True) and together[0] > together[-1]
    assert all(demand.staged <= demand.together for demand in asked)


@pytest.mark.parametrize("preset", ["qwen-vl", "adetailer", "legion-le"])
def test_every_model_within_a_model_is_counted(preset: str) -> None:
    tree = config.load([preset]).tree
    found, unknown = memory.models(tree)
    assert unknown == []
    named = {need.repo for need in needs.needs(tree)}
    assert all(sizes.weights(repo) is not None for repo in named)
    controller = next(model for model in found if model.where == "controller")
    assert len(controller.networks) == len([None for need in needs.needs(tree) if re.fullmatch(r"controller\..*source", need.where)])


def test_precision_is_the_plugins_own() -> None:
    """Qwen-VL in bfloat16, SAM as it is stored: in float32."""
    found, _ = memory.models(config.load(["qwen-vl"]).tree)
    controller = next(model for model in found if model.where == "controller")
    assert sorted(controller.networks) == pytest.approx([4 * 0.64109, 2 * 8.29217])


def test_a_local_reviser_never_leaves_the_accelerator() -> None:
    layer = ["reviser.use=llm", "reviser.chat.use=local", "reviser.chat.source=Qwen/Qwen2.5-7B-Instruct"]
    without, beside = (memory.demands(memory.models(config.load(["sdxl"], more).tree)[0]) for more in ([], layer))
    for before, after in zip(without, beside, strict=True):
        assert after.staged - before.staged == pytest.approx(2 * 7.61562)
        assert after.together - before.together == pytest.approx(2 * 7.61562)


def test_what_cannot_be_counted_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    preset = tmp_path / "mine.yaml"
    preset.write_text(
        "base: adetailer\ncontroller: {use: detector, finder: {use: yolo, source: hand.pt}}\n"
        "rewards: {odd: {use: pickscore, source: some/model}, own: {use: 'tiny_reward:Steady'}}\n"
    )
    (tmp_path / "tiny_reward.py").write_text(REWARD)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert cli.main(["doctor", "--preset", str(preset), "--set", "controller.grader.use=clip"]) == 0
    said = capsys.readouterr().out
    assert "hand.pt (controller), some/model (rewards.odd), tiny_reward:Steady (rewards.own)" in said
    assert "weights to download: at least" in said
    assert "hand.pt" not in [need.repo for need in needs.needs(config.load([str(preset)]).tree)], "a file is not downloaded"


@pytest.mark.parametrize("settings", [["controller.quantize=8bit"], ["controller.quantize=4bit"], ["generator.quantize=4bit"]])
def test_quantized_weights_are_smaller(settings: list[str]) -> None:
    whole, less = (memory.models(config.load(["flux"], more).tree)[0] for more in ([], settings))
    role = settings[0].partition(".")[0]
    for before, after in zip(whole, less, strict=True):
        assert after.total < 0.7 * before.total if before.where == role else after.total == before.total


def test_legion_quantized() -> None:
    """By hand: 6,476.01 M of 7,721.90 M weights at half a byte and a float32 for every 64, the others in bfloat16."""
    controller = memory.models(config.load(["legion-le"], ["controller.quantize=4bit"]).tree)[0][-1]
    assert controller.total == pytest.approx(6.47601 * 0.5625 + 1.24589 * 2)


@pytest.mark.parametrize("name", ["sdxl-unet", "legion", "t5-xxl"])
def test_what_quantizing_shrinks_is_counted(name: str) -> None:
    assert architectures.linear(name) == pytest.approx(sizes.linear()[name], abs=0.01)


@pytest.mark.parametrize("name", ["clip-l", "clip-l-224", "sam-base", "owlv2-base", "imagereward", "aesthetic-head"])
def test_sizes_are_counted(name: str) -> None:
    """On the meta device, from the classes; ``python -m benchmarks.architectures`` counts the large ones too."""
    assert architectures.count(name) == pytest.approx(sizes.millions()[name], abs=0.01)


def test_the_embedded_family_needs_nothing() -> None:
    assert needs.needs(config.load([]).tree) == []
    assert cli.main(["fetch", "--preset", "mini"]) == 0


def test_doctor_draws_no_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--preset", "mini"]) == 0
    out = capsys.readouterr().out
    assert "Nothing is needed from the hub." in out
    assert "repository" not in out


def test_an_interrupted_download_says_that_it_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(parcel: fetch.Parcel) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "measure", lambda need: fetch.Parcel(need, ("a",), 1, 1))
    monkeypatch.setattr(fetch, "download", interrupted)
    assert cli.main(["fetch", "--preset", "sdxl"]) == cli.INTERRUPTED
    assert "What has come is kept. The same command goes on." in capsys.readouterr().err


def test_fetch_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cli.main(["fetch", "--preset", "sdxl"]) == 4
    said = capsys.readouterr().err
    assert "HF_HUB_OFFLINE" in said and "hf download stabilityai/stable-diffusion-xl-base-1.0)" in said


def test_no_secret_in_what_is_said() -> None:
    said = hub.explain("a/b", "x.bin", OSError("GET https://user:pw@host/x?sig=1 with Bearer hf_abcdef"))
    assert not any(secret in said for secret in ("hf_abcdef", "pw@", "sig=1"))


def test_a_full_accelerator_goes_to_the_next_smaller_policy_and_says_so() -> None:
    tried: list[str] = []
    told: list[str] = []

    def work() -> str:
        if len(tried) < 2:
            raise torch.OutOfMemoryError("full")
        return "done"

    assert device.fitted(work, "none", tried.append, told.append) == ("done", "group")
    assert tried == ["model", "group"] and "--set generator.offload=model" in told[0]
    with pytest.raises(torch.OutOfMemoryError):
        tried.clear()
        device.fitted(work, "sequential", tried.append, told.append)


class Worker:
    """A role with a network; it notes where that is when it works."""

    def __init__(self) -> None:
        self.net = torch.nn.Linear(2, 2)
        self.seen: list[str] = []

    def score(self) -> None:
        self.seen.append(self.net.weight.device.type)


def test_only_the_model_that_works_is_on_the_accelerator() -> None:
    residency = device.Residency("meta")  # any device that is not the CPU will do to see who moves; meta tensors cannot come back
    first, second = Worker(), Worker()
    one, _ = residency.host(first), residency.host(second)
    one.score()
    assert first.seen == ["meta"] and second.net.weight.device.type == "cpu"


def test_residency_is_a_choice_of_the_configuration() -> None:
    assert config.load([]).tree["residency"] == "all"
    with pytest.raises(config.ConfigError, match="residency"):
        config.load([], ["residency=stge"])
    assert device.hosting("stage", "cpu")(json) is json
