"""The command line, ``Refiner``, ``RefinePipeline`` and ``RefineStep`` are one engine: one seed, the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
import yaml
from diffusers import AutoPipelineForText2Image, DiffusionPipeline

from refine import RefinePipeline, Refiner, RefineStep, cli, config, embedded, store
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Image
from tests import tiny_pipelines
from tests.stage_parts import NODES, same
from tests.test_refine_step import workflow

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")

PROMPTS = ["a red cube", "a blue cone"]
SEED = 5


def cpu() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(SEED)


def run(folder: Path, preset: str, prompts: Sequence[str], *more: str) -> list[Image]:
    """The final images of ``refine run``, in the order of the prompts."""
    assert cli.main(["run", *prompts, "--seed", str(SEED), "--preset", preset, "--out", str(folder), *more]) == 0
    paths = [store.item_folder(folder, line["key"]) / "final.png" for line in store.ledger(folder)]
    return [PIL.Image.open(path).convert("RGB") for path in paths]


@pytest.mark.parametrize("family", sorted(tiny_pipelines.FAMILIES))
def test_a_tiny_pipeline_by_every_way_in(family: str, tmp_path: Path) -> None:
    stock = str(tmp_path / "stock")
    tiny_pipelines.build(family).save_pretrained(stock)
    preset = {"generator": {"use": "diffusers", "source": stock, "steps": 3, "size": 32, "device": "cpu"}, **NODES}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(preset))
    want = run(tmp_path / "run", str(tmp_path / "preset.yaml"), PROMPTS)

    pipe = DiffusionPipeline.from_pretrained(stock)
    pipe.set_progress_bar_config(disable=True)
    asked: dict[str, Any] = {"num_inference_steps": 3, "height": 32}
    made = Refiner(pipe, **NODES)(PROMPTS, generator=cpu(), **asked)
    assert same(made.images, want)
    assert not same([record.first.image for record in made.records], want)
    assert same(Refiner.from_preset(str(tmp_path / "preset.yaml"))(PROMPTS, generator=cpu()).images, want)
    assert same(RefinePipeline(pipe, **NODES)(PROMPTS, generator=cpu(), **asked).images, want)
    firsts = [record.first.image for record in made.records]
    existing: dict[str, Any] = {"num_inference_steps": 3, "size": 32, "generator": cpu()}
    assert same(Refiner(pipe, **NODES).refine_images(firsts, PROMPTS, **existing).images, want)


def test_a_modular_workflow_and_the_command_line(tmp_path: Path) -> None:
    pipe, models = workflow("flux", ("refine", RefineStep(**NODES)))
    models.save_pretrained(tmp_path / "stock")
    loaded = DiffusionPipeline.from_pretrained(str(tmp_path / "stock"))
    pipe.update_components(**{name: part for name, part in loaded.components.items() if part is not None and name in pipe._component_specs})
    preset = {"generator": {"use": "diffusers", "source": str(tmp_path / "stock"), "steps": 3, "size": 32, "device": "cpu"}, **NODES}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(preset))
    want = run(tmp_path / "run", str(tmp_path / "preset.yaml"), PROMPTS[:1])
    asked: dict[str, Any] = {"num_inference_steps": 3, "height": 32, "width": 32, "guidance_scale": 3.5}
    assert same(pipe(prompt=PROMPTS[:1], generator=cpu(), output="images", **asked), want)


@pytest.mark.slow
def test_the_embedded_family_by_every_way_in(tmp_path: Path) -> None:
    few = ["generator.steps=6", "budget.rounds=1", "policy.strengths=[0.6]", "gate.rule=off", "device=cpu"]
    prompts = list(DEFAULT_PROMPTS[:2])
    want = run(tmp_path / "run", "mini", prompts, *(part for text in few for part in ("--set", text)))
    tree = config.load(["mini"], few).tree
    pipe = AutoPipelineForText2Image.from_pretrained(embedded.resolve(tree["generator"]["source"]), dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    nodes = {name: tree[name] for name in ("controller", "rewards", "reviser", "policy", "gate", "budget")}
    asked = {"num_inference_steps": 6, "guidance_scale": tree["generator"]["guidance_scale"]}
    assert same(Refiner(pipe, **nodes)(prompts, generator=cpu(), **asked).images, want)
    assert same(Refiner.from_preset("mini", overrides=few)(prompts, generator=cpu()).images, want)
    RefinePipeline(pipe, **nodes).save_pretrained(tmp_path / "whole")
    loaded = RefinePipeline.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    assert same(loaded(prompts, generator=cpu(), **asked).images, want)
