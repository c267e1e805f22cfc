"""``Refiner`` around a loaded pipeline: what it takes, what it gives, and what it says where it cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from diffusers import ImagePipelineOutput

from refine import Refiner
from refine.errors import ConfigError, InputError, UnknownName
from refine.pipeline.seeds import fresh, seeds
from refine.policy import Budget
from refine.stilllife.prompts import DEFAULT_PROMPTS
from tests import stage_parts, tiny_pipelines
from tests.stage_parts import BOX, NODES, RULES, Brightness, Corner, brightness, corner, noise, same

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")

FEW: dict[str, Any] = {"num_inference_steps": 3, "height": 32}
CUBE, CONE = "a red cube", "a blue cone"


def cpu(seed: int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


@pytest.fixture(scope="module")
def pipe() -> Any:
    made = tiny_pipelines.build("sd")
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture(scope="module")
def refiner(pipe: Any) -> Refiner:
    return Refiner(pipe, **NODES)


def test_a_call_looks_like_a_pipeline_s(refiner: Refiner) -> None:
    made = refiner([CUBE, CONE], num_images_per_prompt=2, generator=cpu(5), **FEW)
    assert isinstance(made, ImagePipelineOutput)
    assert [record.prompt for record in made.records] == [CUBE, CUBE, CONE, CONE]
    assert [record.seed for record in made.records] == [5, 6, 7, 8]
    assert [image.size for image in made.images] == [(32, 32)] * 4
    assert all(len(record.rounds) == 1 and record.rounds[0].attempts[0].kept == 0 for record in made.records)
    assert same(made.images, [record.best.image for record in made.records])
    images, records = refiner([CUBE, CONE], num_images_per_prompt=2, generator=cpu(5), return_dict=False, **FEW)
    assert same(images, made.images)
    assert len(records) == 4


@pytest.mark.parametrize("family", sorted(tiny_pipelines.FAMILIES))
def test_every_family_refines_and_only_the_marked_part_changes(family: str) -> None:
    image = noise(1, 128, 32)  # painted at 64 × 16: SDXL wants multiples of 8
    made = Refiner(tiny_pipelines.build(family), **NODES).refine_images(image, CUBE, num_inference_steps=3, size=32, generator=cpu(1))
    before, after = np.asarray(image), np.asarray(made.images[0])
    mask = made.records[0].rounds[0].attempts[0].mask
    assert mask is not None
    assert mask[BOX[1] : BOX[3], BOX[0] : BOX[2]].all()
    assert (before[~mask] == after[~mask]).all()
    assert (before[mask] != after[mask]).any()


@pytest.mark.parametrize(
    ("controller", "rewards"),
    [
        (Corner(), Brightness()),
        (f"{stage_parts.__name__}:Corner", [f"{stage_parts.__name__}:Brightness"]),
        ({"use": f"{stage_parts.__name__}:Corner"}, {"brightness": {"use": f"{stage_parts.__name__}:Brightness"}}),
        (corner, brightness),
        (lambda image: torch.from_numpy(corner(image))[None], [brightness]),
        (lambda image: [PIL.Image.fromarray(corner(image))], {"brightness": brightness}),
        (lambda image: corner(image).astype(np.uint8) * 255, ()),
        (lambda image: corner(image) * 0.9, None),
    ],
)
def test_whoever_plays_a_role_the_images_are_the_same(controller: Any, rewards: Any, pipe: Any, refiner: Refiner) -> None:
    asked: dict[str, Any] = {"prompts": CUBE, "num_inference_steps": 3, "generator": cpu(1)}
    made = Refiner(pipe, controller=controller, rewards=rewards, **RULES).refine_images(noise(1), **asked)
    assert same(made.images, refiner.refine_images(noise(1), **asked).images)
    assert [list(record.first.scores) for record in made.records] in ([["brightness"]], [[f"{stage_parts.__name__}:Brightness"]], [[]])


def test_images_of_any_kind_and_any_mix_of_sizes(refiner: Refiner, tmp_path: Path) -> None:
    image, wide = noise(1), noise(2, 64, 24)
    wide.save(tmp_path / "a.png")
    array = np.asarray(image)
    tensor = torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)
    given = [image, tmp_path / "a.png", str(tmp_path / "a.png"), array, array.astype(np.float32) / 255, tensor]
    asked: dict[str, Any] = {"num_inference_steps": 3, "generator": [cpu(9)] * 6}
    made = refiner.refine_images(given, CUBE, **asked)
    assert [one.size for one in made.images] == [(48, 32), (64, 24), (64, 24), (48, 32), (48, 32), (48, 32)]
    assert same([made.images[i] for i in (3, 4, 5, 2)], [made.images[i] for i in (0, 0, 0, 1)])
    stacked = refiner.refine_images(np.stack([array, array]), CUBE, num_inference_steps=3, generator=[cpu(9)] * 2)
    assert len(stacked.images) == 2


def test_output_types(refiner: Refiner) -> None:
    asked: dict[str, Any] = {"prompts": CUBE, "num_inference_steps": 3, "generator": cpu(9)}
    pil = refiner.refine_images([noise(1)], **asked).images
    array = refiner.refine_images([noise(1)], output_type="np", **asked).images
    tensor = refiner.refine_images([noise(1)], output_type="pt", **asked).images
    assert (array.shape, tensor.shape) == ((1, 32, 48, 3), (1, 3, 32, 48))
    assert np.array_equal(np.rint(array[0] * 255).astype(np.uint8), pil[0])
    assert torch.equal(tensor[0].permute(1, 2, 0), torch.from_numpy(array[0]))
    assert refiner.refine_images(tensor, CUBE, num_inference_steps=3).images[0].size == (48, 32)
    mixed = refiner.refine_images([noise(1), noise(2, 64, 24)], CUBE, num_inference_steps=3, output_type="np").images
    assert [one.shape for one in mixed] == [(32, 48, 3), (24, 64, 3)]


def test_alpha_and_the_prompt_in_an_image_are_used(refiner: Refiner, tmp_path: Path) -> None:
    from PIL import PngImagePlugin

    image, texts = noise(1), PngImagePlugin.PngInfo()
    image.putalpha(77)
    texts.add_text("parameters", f"{CONE}\nSteps: 20, Seed: 1")
    image.save(tmp_path / "a.png", pnginfo=texts)
    with PIL.Image.open(tmp_path / "a.png") as opened:
        for given in (tmp_path / "a.png", [opened]):
            made = refiner.refine_images(given, num_inference_steps=3)
            assert made.records[0].prompt == CONE
            assert made.images[0].mode == "RGBA"
            assert made.images[0].getpixel((1, 1))[3] == 77
    with pytest.raises(InputError, match="No prompt came with image 1"):
        refiner.refine_images([tmp_path / "a.png", noise(1)])


def test_callbacks_hear_of_stages_and_rounds_and_can_interrupt(pipe: Any) -> None:
    rounds: list[int] = []
    stages: list[str] = []

    def round_end(which: Refiner, turn: int, values: dict[str, Any]) -> None:
        assert [image.size for image in values["images"]] == [(32, 32)]
        rounds.append(turn)
        which.interrupt()

    refiner = Refiner(pipe, **{**NODES, "budget": Budget(rounds=3)}, batch=1)
    made = refiner(
        [CUBE, CONE], generator=cpu(1), callback_on_round_end=round_end, callback_on_stage=lambda event: stages.append(event.stage), **FEW
    )
    assert rounds == [0]
    assert {"draw", "inspect", "score", "repair"} <= set(stages)
    assert [record.stop_reason for record in made.records] == ["interrupted", "interrupted"]
    assert [len(record.rounds) for record in made.records] == [1, 0]
    assert len(refiner(CUBE, generator=cpu(1), **FEW).records[0].rounds) > 1, "the next call is not interrupted"


def test_a_generator_s_seed_counts_and_a_second_call_with_it_draws_anew(refiner: Refiner) -> None:
    used = cpu(5)
    first, second = (refiner(CUBE, generator=used, **FEW) for _ in range(2))
    assert first.records[0].seed == 5
    assert second.records[0].seed != 5
    again = cpu(5)
    assert same(first.images, refiner(CUBE, generator=again, **FEW).images)
    assert same(second.images, refiner(CUBE, generator=again, **FEW).images)
    assert seeds(fresh([cpu(1), cpu(3)]), 2) == [1, 3]
    assert seeds(None, 2) != seeds(None, 2)


def test_the_pipeline_may_be_a_preset_s() -> None:
    painter = Refiner.from_preset("painter", overrides=["generator.skill=1"])
    made = painter(DEFAULT_PROMPTS[0], generator=cpu(5))
    assert made.records[0].stop_reason == "clean"
    with pytest.raises(InputError, match=r"steps cannot be set in a call for a Painter"):
        painter(DEFAULT_PROMPTS[0], num_inference_steps=3)


def test_all_faults_of_the_settings_are_said_at_once(pipe: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        Refiner(pipe, controller="legoin", rewards="hpz", budget={"round": 3}, gate={"fall": 2})
    said = str(raised.value)
    assert "Did you mean 'legion'?" in said
    assert "Did you mean 'hps'?" in said
    assert "Did you mean 'budget.rounds'?" in said
    assert "gate.fall is 2" in said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"controller": 7}, "controller is a int, which has no inspect.*or a plugin's name"),
        ({"controller": Corner}, r"controller is the class Corner. Give an object of it: Corner\("),
        ({"controller": corner, "rewards": [3]}, "reward is a int, which has no .*score"),
        ({"controller": corner, "rewards": [brightness, brightness]}, "Two rewards are called 'brightness'"),
        ({"controller": corner, "budget": 3}, r"budget is a int. Give a Budget"),
        ({"controller": corner, "policy": 3}, "policy is a int, which has no decide"),
    ],
)
def test_wrong_players_are_named(settings: dict[str, Any], said: str, pipe: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        Refiner(pipe, **settings)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r(CUBE, output_type="latent"), "output_type is 'latent', but refine inspects and repairs pixels.*'pil', 'np' or 'pt'"),
        (lambda r: r(CUBE, output_type="pill"), "Did you mean 'pil'?"),
        (lambda r: r([]), "at least one"),
        (lambda r: r([CUBE, " "]), "Prompt 1 is ' '"),
        (lambda r: r(CUBE, num_images_per_prompt=0), "num_images_per_prompt is 0"),
        (lambda r: r(CUBE, height=64, width=32), "32 × 64 is not square.*refine_images"),
        (lambda r: r([CUBE, CONE], generator=[cpu(1)] * 3), "3 generators for 2 images. Give one per image, or a single one"),
        (lambda r: r(CUBE, generator=7), r"generator is 7 \(int\).*torch.Generator\('cpu'\).manual_seed\(7\)"),
        (lambda r: r.refine_images([], CUBE), "There are no images"),
        (lambda r: r.refine_images([noise(1)] * 3, [CUBE, CONE]), "2 prompts for 3 images. Give one per image, or a single one"),
        (lambda r: r.refine_images(7, CUBE), "images is a int"),
        (lambda r: r.refine_images([noise(1), 7], CUBE), "Image 1 is a int"),
        (lambda r: r.refine_images(np.full((2, 32, 48, 3), np.nan), CUBE), "Image 0 has values that are not finite.*bfloat16 or float32"),
        (lambda r: r.refine_images(torch.full((3, 32, 48), -1.0), CUBE), r"from -1 to -1; floats must be from 0 to 1.*image / 2 \+ 0.5"),
        (lambda r: r.refine_images(torch.zeros(1, 4, 8, 8), CUBE), r"Image 0 has the shape \(4, 8, 8\).*\(N, 3, H, W\)"),
        (lambda r: r.refine_images([torch.zeros(8, 8, dtype=torch.bfloat16)], CUBE), r"Image 0 has the shape \(8, 8\)"),
        (lambda r: r.refine_images(np.zeros((0, 32, 48, 3), np.uint8), CUBE), "There are no images"),
        (lambda r: r.refine_images(np.zeros((32, 48), np.uint8), CUBE), r"the shape \(32, 48\); it must be \(N, H, W, 3\)"),
        (lambda r: r.refine_images(np.zeros((32, 48, 3), int), CUBE), "values of type int64; they must be uint8"),
        (lambda r: r.refine_images(noise(1, 9, 9), CUBE), "9 × 9 pixels; each side must have at least 16"),
        (lambda r: r.refine_images("gone.png", CUBE), "There is no file gone.png"),
    ],
)
def test_bad_input_gets_a_sentence_that_says_what_to_change(call: Callable[[Refiner], Any], said: str, refiner: Refiner) -> None:
    with pytest.raises(InputError, match=said):
        call(refiner)


class Elsewhere(torch.Generator):
    """A generator that says it lives on an accelerator, which this machine may not have."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", 1)


def test_a_generator_on_an_accelerator_is_refused_with_the_line_to_write(refiner: Refiner) -> None:
    with pytest.raises(InputError, match=r"lives on cuda:1.*torch.Generator\('cpu'\).manual_seed\(7\)"):
        refiner(CUBE, generator=Elsewhere().manual_seed(7))


def test_images_that_are_there_take_their_seed_from_a_generator_on_any_device(refiner: Refiner) -> None:
    made = [refiner.refine_images(noise(1), CUBE, generator=one.manual_seed(7)) for one in (torch.Generator(), Elsewhere())]
    assert [one.records[0].seed for one in made] == [7, 7]
    assert made[0].images[0].tobytes() == made[1].images[0].tobytes()


def test_a_mask_of_another_size_is_refused(pipe: Any) -> None:
    turned = Refiner(pipe, controller=lambda image: corner(image).T)
    with pytest.raises(InputError, match=r"shape \(48, 32\); for this image it must be \(32, 48\): height, width"):
        turned.refine_images(noise(1), CUBE)


@pytest.mark.parametrize("pipe", [torch.nn.Linear(2, 2), 7])
def test_what_is_no_image_pipeline_is_refused(pipe: Any) -> None:
    with pytest.raises(ConfigError, match=r"which is no image pipeline\. Load one first"):
        Refiner(pipe, controller=corner)


def test_a_family_without_inpainting_is_named_with_what_still_works() -> None:
    from diffusers import DDPMPipeline

    tiny = tiny_pipelines.build("sd")
    with pytest.raises(ConfigError, match=r"(for|with) a DDPMPipeline.*Images that a DDPMPipeline draws .*refine_images"):
        Refiner(DDPMPipeline(unet=tiny.unet, scheduler=tiny.scheduler), controller=corner)
    with pytest.raises(ConfigError, match=r"^The configuration has a fault: (?!The configuration)"):
        Refiner(DDPMPipeline(unet=tiny.unet, scheduler=tiny.scheduler), controller=corner)


def test_an_unknown_plugin_as_pipeline_is_an_unknown_name() -> None:
    with pytest.raises((UnknownName, ConfigError), match=r"Did you mean 'painter'\?"):
        Refiner("paiter", controller=corner)
