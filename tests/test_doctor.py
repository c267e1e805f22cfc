"""What the machine has, what a preset needs, and what is fetched: said before anything is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from refine import cli, config, device, memory, needs
from refine.evals import hub


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


def test_the_embedded_family_needs_nothing() -> None:
    assert needs.needs(config.load([]).tree) == []
    assert cli.main(["fetch", "--preset", "mini"]) == 0


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
