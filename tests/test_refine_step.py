"""``RefineStep`` after modular workflows: images in, images and records out; saved with its code; the silent drop is said."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import ModularPipeline

from examples.modular_workflow import compose
from refine import Refiner, RefineStep, save_workflow
from refine.errors import ConfigError, InputError
from tests import tiny_pipelines
from tests.stage_parts import NODES, RULES, Corner, brightness, same

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")

BLOCKS = {"sdxl": "StableDiffusionXLAutoBlocks", "sd3": "StableDiffusion3AutoBlocks", "flux": "FluxAutoBlocks"}
CUBE, CONE = "a red cube", "a blue cone"
SMALL: dict[str, Any] = {"num_inference_steps": 3, "height": 32, "width": 32}
BOTH = ["images", "records"]


@pytest.fixture(autouse=True)
def code_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code that comes with folders is copied to a place of the test's own."""
    import diffusers.utils.dynamic_modules_utils as modules

    monkeypatch.setattr(modules, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def cpu(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


def workflow(family: str, *steps: tuple[str, Any]) -> tuple[Any, Any]:
    """A text2image workflow with more steps behind it, and the classic pipeline whose models it has."""
    blocks = getattr(diffusers, BLOCKS[family])().get_workflow("text2image")
    for name, step in steps:
        blocks.sub_blocks.insert(name, step, len(blocks.sub_blocks))
    pipe, models = blocks.init_pipeline(), tiny_pipelines.build(family)
    models.set_progress_bar_config(disable=True)
    pipe.update_components(**{name: part for name, part in models.components.items() if part is not None and name in pipe._component_specs})
    return pipe, models


@pytest.mark.parametrize("family", sorted(BLOCKS))
def test_what_a_workflow_draws_is_refined_as_a_refiner_would(family: str) -> None:
    pipe, models = workflow(family, ("refine", RefineStep(**NODES)))
    made = pipe(prompt=[CUBE, CONE], num_images_per_prompt=2, generator=cpu(5), output=BOTH, **SMALL)
    plain, _ = workflow(family)
    drawn = plain(prompt=[CUBE, CONE], num_images_per_prompt=2, generator=cpu(5), output="images", **SMALL)
    guidance = {"sdxl": pipe.guider.guidance_scale} if family == "sdxl" else {"sd3": 7.0, "flux": 3.5}
    asked: dict[str, Any] = {"num_inference_steps": 3, "size": 32, "guidance_scale": guidance[family], "generator": cpu(5)}
    want = Refiner(models, **NODES).refine_images(drawn, [CUBE, CUBE, CONE, CONE], **asked)
    assert same(made["images"], want.images)
    assert not same(made["images"], drawn)
    assert [record.prompt for record in made["records"]] == [CUBE, CUBE, CONE, CONE]
    assert [record.seed for record in made["records"]] == [5, 6, 7, 8]


def test_the_same_seed_draws_the_same_bytes_as_the_pipeline_and_a_refiner() -> None:
    pipe, models = workflow("flux", ("refine", RefineStep(**NODES)))
    asked: dict[str, Any] = {"prompt": CUBE, "guidance_scale": 3.5, **SMALL}
    made = pipe(generator=cpu(5), output=BOTH, **asked)
    want = Refiner(models, **NODES)(generator=cpu(5), **asked)
    assert same([made["records"][0].first.image], models(generator=cpu(5), **asked).images)
    assert same(made["images"], want.images)


@pytest.mark.parametrize(("output_type", "shape"), [("np", (2, 32, 32, 3)), ("pt", (2, 3, 32, 32))])
def test_the_output_type_stays(output_type: str, shape: tuple[int, ...]) -> None:
    pipe, _ = workflow("sdxl", ("refine", RefineStep(**NODES)))
    made = pipe(prompt=[CUBE, CONE], generator=cpu(5), output_type=output_type, output="images", **SMALL)
    assert tuple(made.shape) == shape
    pil = pipe(prompt=[CUBE, CONE], generator=cpu(5), output="images", **SMALL)
    array = made.permute(0, 2, 3, 1).numpy() if output_type == "pt" else made
    assert np.abs(np.rint(array * 255) - np.stack([np.asarray(image, np.float32) for image in pil])).max() <= 1


def test_the_example_composes_text2image_refine_upscale() -> None:
    plain, models = workflow("flux")
    pipe = compose(plain, RefineStep(**NODES)).init_pipeline()
    assert list(pipe.blocks.sub_blocks)[-3:] == ["decode", "refine", "upscale"]
    pipe.update_components(**{name: part for name, part in models.components.items() if name in pipe._component_specs})
    made = pipe(prompt=CUBE, generator=cpu(5), output=BOTH, **SMALL)
    assert made["images"][0].size == (64, 64)
    assert made["records"][0].best.image.size == (32, 32)


def test_objects_are_shared_by_copies_of_a_step() -> None:
    controller = Corner()
    step = deepcopy(RefineStep(controller=controller, rewards=[brightness], **RULES))
    assert step._spec.controller is controller
    pipe, _ = workflow("flux", ("refine", step))
    first = pipe(prompt=CUBE, generator=cpu(5), output="images", **SMALL)
    models = step._workshop.refiner(pipe).engine.models
    assert same(first, pipe(prompt=CUBE, generator=cpu(5), output="images", **SMALL))
    assert step._workshop.refiner(pipe).engine.models is models


def test_a_step_alone_is_a_folder_that_loads(tmp_path: Path) -> None:
    RefineStep(**NODES).save_pretrained(tmp_path / "step")
    names = sorted(path.name for path in (tmp_path / "step").iterdir())
    (code,) = (name for name in names if name.endswith(".py"))
    assert names == ["modular_config.json", "modular_model_index.json", code]
    RefineStep(**{**NODES, "batch": 3}).save_pretrained(tmp_path / "other")
    assert not (tmp_path / "other" / code).exists(), "another step has another file name"
    with pytest.raises(ValueError, match="trust_remote_code"):
        ModularPipeline.from_pretrained(str(tmp_path / "step"))
    loaded = ModularPipeline.from_pretrained(str(tmp_path / "step"), trust_remote_code=True)
    assert isinstance(loaded.blocks, RefineStep)
    pipe, _ = workflow("flux", ("refine", loaded.blocks))
    want, _ = workflow("flux", ("refine", RefineStep(**NODES)))
    asked: dict[str, Any] = {"prompt": CUBE, "output": "images", **SMALL}
    assert same(pipe(generator=cpu(5), **asked), want(generator=cpu(5), **asked))


def test_a_workflow_is_saved_whole(tmp_path: Path) -> None:
    pipe, _ = workflow("flux", ("refine", RefineStep(**NODES)))
    asked: dict[str, Any] = {"prompt": CUBE, "output": BOTH, **SMALL}
    before = pipe(generator=cpu(5), **asked)
    save_workflow(pipe, tmp_path / "a")
    loaded = ModularPipeline.from_pretrained(str(tmp_path / "a"), trust_remote_code=True)
    loaded.load_components(dtype=torch.float32)
    assert list(loaded.blocks.sub_blocks) == list(pipe.blocks.sub_blocks)
    after = loaded(generator=cpu(5), **asked)
    assert same(before["images"], after["images"])
    assert len(after["records"][0].rounds) == 1
    with pytest.warns(UserWarning, match="never blocks"):
        loaded.save_pretrained(str(tmp_path / "b"), overwrite_modular_index=True)


def test_the_silent_drop_is_said(tmp_path: Path) -> None:
    pipe, _ = workflow("flux", ("refine", RefineStep(**NODES)))
    with pytest.warns(UserWarning, match=r"writes components, never blocks.*save_workflow"):
        pipe.save_pretrained(str(tmp_path), overwrite_modular_index=True)
    index = json.loads((tmp_path / "modular_model_index.json").read_text())
    assert index["refine"]["controller"] == NODES["controller"]
    dropped = ModularPipeline.from_pretrained(str(tmp_path))
    assert "refine" not in dropped.blocks.sub_blocks, "diffusers keeps blocks now: the warning and save_workflow can go"


def test_what_a_step_cannot_do_is_said(tmp_path: Path) -> None:
    pipe, _ = workflow("flux", ("refine", RefineStep(**NODES)))
    with pytest.raises(InputError, match="output_type is 'latent'"):
        pipe(prompt=CUBE, output_type="latent", output="images", **SMALL)
    empty = RefineStep(**NODES).init_pipeline()
    with pytest.raises(ConfigError, match=r"cannot work within a ModularPipeline.*SDXL, SD3 or FLUX"):
        empty(images=np.zeros((1, 32, 48, 3), np.uint8), prompt=CUBE)
    with pytest.raises(ConfigError, match="needs a controller"):
        RefineStep()
    with pytest.raises(ConfigError, match=r"rewards.brightness cannot be saved"):
        RefineStep(controller=NODES["controller"], rewards=brightness).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no RefineStep"):
        save_workflow(workflow("flux")[0], tmp_path)
    bare, _ = workflow("flux", ("refine", RefineStep(**NODES)))
    bare.update_components(text_encoder=None)
    with pytest.raises(InputError, match=r"has no text_encoder, which a repair needs"):
        from refine.pipeline.step import classic

        classic(bare)
