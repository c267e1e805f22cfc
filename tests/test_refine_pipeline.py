"""``RefinePipeline``: saved and loaded as a whole, and everything that is asked of it reaches the pipeline within."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoPipelineForText2Image, DiffusionPipeline, StableDiffusionPipeline

from refine import RefinePipeline, Refiner
from refine.errors import CheckpointError, ConfigError
from refine.pipeline.portable import located
from tests import tiny_pipelines
from tests.stage_parts import NODES, RULES, Brightness, corner, noise, same
from tests.test_generators_adapter import fingerprint

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")

FEW: dict[str, Any] = {"num_inference_steps": 3, "height": 32}
CUBE = "a red cube"


@pytest.fixture(autouse=True)
def code_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes with folders is copied to a place of the test's own."""
    import diffusers.utils.dynamic_modules_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def build(family: str = "sd") -> Any:
    pipe = tiny_pipelines.build(family)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe: Any, seed: int = 5) -> Any:
    pipe.set_progress_bar_config(disable=True)
    return pipe(CUBE, generator=torch.Generator("cpu").manual_seed(seed), **FEW)


@pytest.mark.parametrize("family", sorted(tiny_pipelines.FAMILIES))
def test_a_round_trip_changes_no_bit(family: str, tmp_path: Path) -> None:
    build(family).save_pretrained(tmp_path / "stock")
    # The base is loaded like any user's: weights that were never in a file lie otherwise in memory, which changes a sum's last bit.
    made = RefinePipeline.from_pipe(DiffusionPipeline.from_pretrained(str(tmp_path / "stock")), **NODES)
    before = draw(made)
    made.save_pretrained(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")  # a folder may be moved
    after = draw(RefinePipeline.from_pretrained(tmp_path / "b"))
    assert same(before.images, after.images)
    assert after.records[0].first.scores == before.records[0].first.scores != {}
    assert after.records[0].rounds[0].attempts[0].kept == 0
    assert not same([before.records[0].first.image], before.images)


def test_it_loads_as_a_custom_pipeline_and_its_base_as_a_stock_one(tmp_path: Path) -> None:
    made = RefinePipeline(build(), **NODES)
    made.save_pretrained(str(tmp_path / "a"))
    loaded = DiffusionPipeline.from_pretrained(tmp_path / "a", custom_pipeline=str(tmp_path / "a"), trust_remote_code=True)
    assert isinstance(loaded, RefinePipeline)
    assert same(draw(made).images, draw(loaded).images)
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(tmp_path / "a", custom_pipeline=str(tmp_path / "a"))
    stock = AutoPipelineForText2Image.from_pretrained(tmp_path / "a" / "base")
    assert type(stock) is StableDiffusionPipeline


def test_a_controller_s_own_weights_travel_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "box.txt").write_text("4 6 18 16")
    made = RefinePipeline(build(), **{**NODES, "controller": {"use": f"{__name__}:Boxed", "source": str(tmp_path / "weights")}})
    before = draw(made)
    made.save_pretrained(tmp_path / "a")
    shutil.rmtree(tmp_path / "weights")
    index = json.loads((tmp_path / "a" / "model_index.json").read_text())
    assert index["controller"]["source"] == "./controller/source"
    loaded = RefinePipeline.from_pretrained(tmp_path / "a")
    assert same(before.images, draw(loaded).images)
    loaded.save_pretrained(tmp_path / "b")
    assert same(before.images, draw(RefinePipeline.from_pretrained(tmp_path / "b")).images)
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(CheckpointError):
        loaded.to("cpu").refiner  # noqa: B018


def test_weights_within_nodes_travel_too(tmp_path: Path) -> None:
    """Members of a union, the files of HPSv2 and ImageReward, and a reviser's model."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "box.txt").write_text("4 6 18 16")
    boxed, file = {"use": f"{__name__}:Boxed", "source": str(weights)}, str(weights / "box.txt")
    made = RefinePipeline(
        build(),
        controller={"use": "union", "members": [boxed, {"use": "detector", "finder": boxed, "grader": {"use": "clip", "source": file}}]},
        rewards={"hps": {"source": file}, "imagereward": {"source": "mini:imagereward", "tokenizer": str(weights)}},
        reviser={"use": "llm", "chat": {"use": "local", "source": str(weights)}},
    )
    made.save_pretrained(tmp_path / "a")
    assert str(weights) not in (tmp_path / "a" / "model_index.json").read_text()
    shutil.move(tmp_path / "a", tmp_path / "b")
    loaded = RefinePipeline.from_pretrained(tmp_path / "b")
    spec = located(loaded._spec, loaded.name_or_path)
    paths = [text for text in leaves([spec.controller, spec.rewards, spec.reviser]) if str(tmp_path) in text]
    assert len(paths) == 6
    assert all(Path(path).exists() for path in paths)


def leaves(tree: Any) -> list[str]:
    if isinstance(tree, dict | list):
        return [text for one in (tree.values() if isinstance(tree, dict) else tree) for text in leaves(one)]
    return [tree] if isinstance(tree, str) else []


def test_a_relative_path_is_the_user_s_until_the_pipeline_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "box.txt").write_text("4 6 18 16")
    monkeypatch.chdir(tmp_path)
    made = RefinePipeline(build(), **{**NODES, "controller": {"use": f"{__name__}:Boxed", "source": "./"}})
    assert len(draw(made).images) == 1


class Boxed:
    """A controller whose box lies in a file."""

    def __init__(self, source: str | Path) -> None:
        box = Path(source) / "box.txt"
        if not box.exists():
            raise CheckpointError(f"There is no file {box}.")
        self._box = tuple(map(int, box.read_text().split()))

    def inspect(self, images: Any) -> Any:
        from tests.stage_parts import BOX, Corner

        assert self._box == BOX
        return Corner().inspect(images)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_source_is_left_as_it_is(dtype: torch.dtype) -> None:
    pipe = build().to(dtype)
    before = fingerprint(pipe)
    made = RefinePipeline.from_pipe(pipe, **NODES)
    draw(made)
    assert fingerprint(pipe) == before
    assert made.base is pipe
    assert RefinePipeline.from_pipe(made, **NODES).base is pipe, "around another one, its base is shared"


def test_what_is_asked_reaches_the_base(tmp_path: Path) -> None:
    made = RefinePipeline(build(), **NODES)
    made.set_progress_bar_config(desc="drawing", disable=True)
    assert made.base._progress_bar_config == {"desc": "drawing", "disable": True}
    assert made.to(torch.bfloat16) is made
    assert made.base.unet.dtype == made.dtype == torch.bfloat16
    made.to(torch.float32).save_pretrained(tmp_path)
    loaded = RefinePipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {part.dtype for part in loaded.base.components.values() if isinstance(part, torch.nn.Module)} == {torch.bfloat16}
    want = draw(made).images
    made.enable_model_cpu_offload(device="cpu")
    assert hasattr(made.base.unet, "_hf_hook")
    assert same(draw(made).images, want)
    made.remove_all_hooks()
    assert not hasattr(made.base.unet, "_hf_hook")


def test_models_made_from_nodes_follow_the_base_under_offloading() -> None:
    made = RefinePipeline(build(), **{**NODES, "controller": f"{__name__}:Placed"})
    assert made.refiner.engine.models.controller.device == "cpu"  # type: ignore[attr-defined]
    made.enable_model_cpu_offload(device="cuda:0")  # nothing goes there before a call
    assert made.refiner.engine.models.controller.device == "cuda:0"  # type: ignore[attr-defined]
    made.remove_all_hooks()
    assert made.refiner.engine.models.controller.device == "cpu"  # type: ignore[attr-defined]


class Placed:
    """A controller that notes where it is put."""

    def __init__(self, device: str) -> None:
        self.device = device

    def inspect(self, images: Any) -> Any:
        raise AssertionError("no image is looked at")


def test_existing_images_are_refined_too() -> None:
    made, plain = RefinePipeline(build(), **NODES), Refiner(build(), **NODES)
    asked: dict[str, Any] = {"num_inference_steps": 3, "generator": torch.Generator("cpu").manual_seed(1)}
    assert same(made.refine_images(noise(1), CUBE, **asked).images, plain.refine_images(noise(1), CUBE, **asked).images)


def test_what_cannot_be_saved_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"controller, rewards.brightness cannot be saved"):
        RefinePipeline(build(), controller=corner, rewards=Brightness(), **RULES).save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    with pytest.raises(ConfigError, match="upload_folder"):
        RefinePipeline(build(), **NODES).save_pretrained(tmp_path / "a", push_to_hub=True)


def test_faults_are_said_where_it_is_made() -> None:
    with pytest.raises(ConfigError, match="needs a controller"):
        RefinePipeline(build())
    with pytest.raises(ConfigError, match="Did you mean 'legion'"):
        RefinePipeline(build(), controller="legoin")
    with pytest.raises(ConfigError, match="no image pipeline"):
        RefinePipeline(torch.nn.Linear(2, 2), controller=corner)
