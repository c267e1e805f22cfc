"""Every family at a tiny size: what it draws and repaints, what it costs, and the traps of diffusers that each would fall into."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import diffusers
import numpy as np
import pytest
import tiny_families
import tiny_pipelines
import torch
from test_generators_adapter import fingerprint, job, same

from refine.errors import ConfigError, InputError
from refine.generators import blend, families, shapes, views
from refine.generators.adapter import DiffusersGenerator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers", "ignore::UserWarning:torch")

QUICK = [name for name in tiny_families.FAMILIES if name != "qwen-image-edit"]
all_families = pytest.mark.parametrize("family", [*QUICK, pytest.param("qwen-image-edit", marks=pytest.mark.slow)])


@cache
def pipe(family: str) -> Any:
    """One of each; nobody changes it, which is tested."""
    return (tiny_families if family in tiny_families.FAMILIES else tiny_pipelines).build(family)


def generator(family: str, given: Any = None, **more: Any) -> DiffusersGenerator:
    settings = {"steps": 4, "size": 32, "extra": tiny_families.EXTRA.get(family)} | more
    return DiffusersGenerator.from_pipe(given if given is not None else pipe(family), **settings)


def test_every_row_names_classes_that_diffusers_has() -> None:
    for row in families.TABLE:
        assert all(hasattr(diffusers, name) for name in (row.draw, row.paint) if name), row.name
        if row.way == "inpaint":
            assert {"image", "mask_image"} <= set(shapes.parameters(type("View", (), {"__call__": getattr(diffusers, row.paint).__call__})))


@all_families
def test_draws_and_repaints_a_mixed_batch_as_one_by_one(family: str) -> None:
    """Sizes are never the model's default, prompts stay with their pictures, and what else is in a batch changes nothing."""
    maker = generator(family)
    assert [image.size for image in maker.draw(["a red cube", "a blue sphere"], [1, 2])] == [(32, 32)] * 2
    sizes = ((64, 32), (32, 64)) if maker.grid == 32 else ((48, 32), (32, 64))
    jobs = [job(1, sizes[0]), job(2, sizes[1], strength=0.5), job(3, sizes[0], "a large shiny cone"), job(4, sizes[0], strength=1.0)]
    together = maker.inpaint(jobs)
    assert [image.size for image in together] == [one.image.size for one in jobs]
    assert all(same(image, maker.inpaint([one])[0], 2) for image, one in zip(together, jobs, strict=True))
    assert not same(together[0], together[2])


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3", "flux", "chroma", "z-image", "pixart-sigma", "sana"])
def test_draws_what_the_pipeline_itself_draws(family: str) -> None:
    """With no negative prompt in either: SDXL then takes zeros in its place, not the encoding of an empty text."""
    side, stock = generator(family)._drawer, (tiny_families if family in tiny_families.FAMILIES else tiny_pipelines).build(family)
    asked = {"prompt": "a red cube", "generator": torch.Generator().manual_seed(3), "width": 32, "height": 32, "num_inference_steps": 4}
    stock.set_progress_bar_config(disable=True)
    image = stock(**views.known(stock, asked | dict(side.guidance) | dict(side.fixed))).images[0]
    assert same(generator(family).draw(["a red cube"], [3])[0], image)


def test_a_negative_prompt_changes_only_its_own_picture() -> None:
    maker = generator("sdxl")
    mixed = maker.draw(["a red cube"] * 2, [1, 2], ["", "green"])
    alone = [maker.draw(["a red cube"], [1])[0], maker.draw(["a red cube"], [2], ["green"])[0]]
    assert all(same(image, one, 2) for image, one in zip(mixed, alone, strict=True))
    jobs = [job(1), replace(job(2), negative_prompt="green")]
    assert all(same(image, maker.inpaint([one])[0], 2) for image, one in zip(maker.inpaint(jobs), jobs, strict=True))


@all_families
def test_the_given_pipeline_is_left_alone(family: str) -> None:
    before = fingerprint(pipe(family))
    maker = generator(family)
    maker.draw(["a cone"], [1])
    maker.inpaint([job(1, (64, 32))])
    assert fingerprint(pipe(family)) == before
    assert maker.pipe is pipe(family)


@pytest.mark.parametrize("family", QUICK)
@pytest.mark.parametrize("strength", [None, 0.5, 0.01])
def test_cost_is_the_number_of_denoiser_evaluations(family: str, strength: float | None) -> None:
    maker = generator(family)
    rows: list[int] = []
    hook = shapes.denoiser(pipe(family)).register_forward_hook(lambda _module, _inputs, output: rows.append(len(output[0])))
    maker.draw(["a cone"], [1]) if strength is None else maker.inpaint([job(1, (64, 32), strength=strength)])
    hook.remove()
    assert maker.cost(strength) == sum(rows)


@pytest.mark.parametrize("family", ["flux2-klein", "qwen-image", "z-image", "pixart-sigma", "flux-kontext"])
def test_one_pixel_of_mask_is_repainted(family: str) -> None:
    """A mask is resampled on the latent's grid, where a thin line vanishes."""
    maker, asked, none = generator(family), job(1, (64, 32)), job(1, (64, 32))
    asked.mask[:] = none.mask[:] = False
    asked.mask[9, 33] = True
    assert not same(*maker.inpaint([asked, none]))


@pytest.mark.parametrize("family", ["sd", "flux", "pixart-sigma"])
def test_hooks_of_offloading_stay_the_owners(family: str) -> None:
    given = (tiny_families if family in tiny_families.FAMILIES else tiny_pipelines).build(family)
    given.enable_model_cpu_offload(device="cpu")
    before = fingerprint(given)
    maker = generator(family, given)
    plain = generator(family)
    assert same(maker.draw(["a cone"], [1])[0], plain.draw(["a cone"], [1])[0])
    assert same(maker.inpaint([job(1, (64, 32))])[0], plain.inpaint([job(1, (64, 32))])[0])
    assert fingerprint(given) == before


def control() -> Any:
    parts = pipe("sd").components
    net = diffusers.ControlNetModel.from_unet(parts["unet"], conditioning_embedding_out_channels=(16, 32), conditioning_channels=3)
    return diffusers.StableDiffusionControlNetPipeline(**parts, controlnet=net, requires_safety_checker=False)


def test_a_controlnet_steers_drawing_where_its_picture_is_given() -> None:
    given, picture = control(), job(1, (32, 32)).image
    with torch.no_grad():
        for layer in given.controlnet.controlnet_down_blocks.parameters():
            layer.add_(0.5)  # they begin at zero
    free, steered = generator("sd", given), generator("sd", given, extra={"image": picture})
    plain = generator("sd").draw(["a cone"], [1])[0]
    assert same(free.draw(["a cone"], [1])[0], plain)
    assert not same(steered.draw(["a cone"], [1])[0], plain)
    assert same(steered.inpaint([job(1)])[0], generator("sd").inpaint([job(1)])[0])
    assert "nothing" in free.notes[0] and "drawing only" in steered.notes[0]


def test_a_lora_and_a_scheduler_of_the_users_are_kept() -> None:
    from peft import LoraConfig

    given = tiny_pipelines.build("sd")
    plain = generator("sd").draw(["a cone"], [1])[0]
    given.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    given.scheduler = diffusers.EulerDiscreteScheduler.from_config(given.scheduler.config)
    before = fingerprint(given)
    maker = generator("sd", given)
    assert not same(maker.draw(["a cone"], [1])[0], plain)
    assert not same(maker.inpaint([job(1)])[0], generator("sd").inpaint([job(1)])[0])
    assert type(maker._painter.view.scheduler) is diffusers.EulerDiscreteScheduler
    assert fingerprint(given) == before


def test_an_ip_adapter_gets_its_picture_at_every_call() -> None:
    """diffusers does not repeat the picture's embedding for a batch, so calls take one picture each."""
    given = tiny_pipelines.build("sd")
    given.unet._load_ip_adapter_weights([ip_adapter(given.unet)])
    with pytest.raises(ConfigError, match="ip_adapter_image"):
        generator("sd", given)
    embeds = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    maker = generator("sd", given, extra={"ip_adapter_image_embeds": [embeds]})
    jobs = [job(1), job(2)]
    assert all(same(image, maker.inpaint([one])[0]) for image, one in zip(maker.inpaint(jobs), jobs, strict=True))
    assert not same(maker.inpaint(jobs)[0], generator("sd", given, extra={"ip_adapter_image_embeds": [-embeds]}).inpaint(jobs)[0])


def ip_adapter(unet: Any, width: int = 8, tokens: int = 4) -> dict[str, Any]:
    """Random weights in the published layout."""
    dice = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=dice) * 0.3

    cross = [part.to_k.weight.shape for name, part in unet.named_modules() if name.endswith("attn2")]
    words = cross[0][1]
    layers = {f"{2 * k + 1}.{name}.weight": random(*shape) for k, shape in enumerate(cross) for name in ("to_k_ip", "to_v_ip")}
    project = {"proj.weight": random(tokens * words, width), "proj.bias": random(tokens * words)}
    return {"image_proj": project | {"norm.weight": torch.ones(words), "norm.bias": torch.zeros(words)}, "ip_adapter": layers}


def test_extra_arguments_nobody_knows_are_refused() -> None:
    with pytest.raises(ConfigError, match="'clip_skp'"):
        generator("sd", extra={"clip_skp": 1})
    rescaled = generator("sd", extra={"guidance_rescale": 1.0}, guidance_scale=7.5).draw(["a cone"], [1])[0]
    assert not same(rescaled, generator("sd", guidance_scale=7.5).draw(["a cone"], [1])[0])


@pytest.mark.parametrize("task", ["Img2Img", "Inpaint"])
def test_pipelines_of_other_tasks_draw_as_well(task: str) -> None:
    given = views.view(pipe("sd"), getattr(diffusers, f"StableDiffusion{task}Pipeline"))
    assert same(generator("sd", given).draw(["a cone"], [1])[0], generator("sd").draw(["a cone"], [1])[0])


def test_a_pipeline_of_its_own_for_repairs() -> None:
    maker = generator("sd", inpaint_pipe=pipe("sd-fill"), guidance_scale=3.0, inpaint_guidance_scale=1.0)
    assert same(maker.draw(["a cone"], [1])[0], generator("sd", guidance_scale=3.0).draw(["a cone"], [1])[0])
    assert same(maker.inpaint([job(1)])[0], generator("sd-fill", guidance_scale=1.0).inpaint([job(1)])[0])
    assert (maker.cost(), maker.cost(1.0)) == (8, 4)


def test_families_without_a_way_to_repaint_are_refused() -> None:
    class Strange:
        """No pipeline of diffusers."""

    with pytest.raises(ConfigError, match=r"cannot repaint with a Strange.*sdxl"):
        families.of(Strange())


def deepfloyd() -> Any:
    network = tiny_pipelines.unet(in_channels=3, cross_attention_dim=tiny_pipelines.WIDTH)
    return diffusers.IFPipeline(
        tokenizer=tiny_pipelines.t5_tokenizer(), text_encoder=tiny_pipelines.t5(), unet=network, scheduler=diffusers.DDPMScheduler(),
        safety_checker=None, feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def flux_control() -> Any:
    return diffusers.FluxControlPipeline(**tiny_pipelines.flux_parts(in_channels=32, out_channels=16))


@pytest.mark.parametrize("build", [deepfloyd, flux_control])
def test_pipelines_that_cannot_serve_are_refused_before_they_are_called(build: Any) -> None:
    """diffusers' maps know both, but one has no latents, and the other needs a control picture at every call."""
    given = build()
    with pytest.raises(ConfigError, match=rf"cannot repaint with a {type(given).__name__}.*sdxl"):
        generator("sd", given)


@pytest.mark.parametrize(("family", "words"), [("sd-fill", "filling"), ("pixart-sigma", "no inpainting"), ("chroma", "whole crop")])
def test_what_a_family_cannot_is_said(family: str, words: str) -> None:
    assert any(words in note for note in generator(family).notes)
    assert not generator("flux").notes


def named(name: str) -> Any:
    given = tiny_pipelines.build("sdxl")
    given.unet.register_to_config(_name_or_path=name)
    return given


@pytest.mark.parametrize(
    ("name", "found", "steps", "scale"),
    [
        ("stabilityai/sdxl-turbo", "turbo", 4, 0.0),
        ("ByteDance/SDXL-Lightning-8step", "lightning", 8, 0.0),
        ("ByteDance/Hyper-SD", "hyper", 8, 0.0),
        ("latent-consistency/lcm-sdxl", "lcm", 4, 1.0),
        ("stabilityai/stable-diffusion-xl-base-1.0", None, 50, 5.0),
        ("/data/turbo/models/sdxl/unet", None, 50, 5.0),
    ],
)
def test_distilled_variants_are_known_by_their_names(name: str, found: str | None, steps: int, scale: float) -> None:
    given = named(name)
    pace = families.pace(given)
    assert (pace.name if pace else None) == found
    maker = DiffusersGenerator.from_pipe(given, size=32)
    assert maker.cost() == steps * (2 if scale > 1 else 1)
    assert DiffusersGenerator.from_pipe(given, size=32, steps=6, guidance_scale=3.0).cost() == 12
    assert bool(maker.notes) == (found is not None)


def test_distilled_variants_are_known_by_their_parts() -> None:
    lcm = tiny_pipelines.build("sd")
    lcm.scheduler = diffusers.LCMScheduler.from_config(lcm.scheduler.config)
    assert DiffusersGenerator.from_pipe(lcm, size=32).cost() == 4
    schnell = DiffusersGenerator.from_pipe(pipe("flux-schnell"), size=32)
    assert schnell.cost() == 4
    assert schnell._drawer.fixed["max_sequence_length"] == 256
    klein = tiny_families.build("flux2-klein")
    klein.register_to_config(is_distilled=True)
    assert DiffusersGenerator.from_pipe(klein, size=32).cost() == 4
    assert families.pace(pipe("flux")) is None


SOFT = ["sd", "sdxl", "sd3", "pixart-sigma", "sana"]


@pytest.mark.parametrize("family", SOFT)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_soft_masks_redraw_less_where_they_are_softer(family: str, strength: float) -> None:
    """0 is the VAE's round trip to the last bit, 1 is free; in between is neither."""
    maker, asked = generator(family, steps=8), job(1, (64, 32), strength=strength)
    view = maker._drawer.view
    with torch.no_grad():
        latents = blend.encode(view, [asked.image])
        shift, scale = view.vae.config.get("shift_factor") or 0.0, view.vae.config.scaling_factor
        trip = view.image_processor.postprocess(view.vae.decode(latents / scale + shift, return_dict=False)[0])[0]
    levels = [maker.inpaint([replace(asked, soft=np.full((32, 64), level, np.float32))])[0] for level in (0.0, 0.4, 1.0)]
    assert same(levels[0], trip, 1)
    assert not same(levels[2], trip, 1)
    assert not same(levels[1], levels[2], 1)


def test_a_vae_that_overflows_in_half_precision_is_held_to_in_single() -> None:
    """SDXL's does: what is held would be no numbers, and the picture black."""
    given = tiny_pipelines.build("sdxl").to(torch.float16)
    with torch.no_grad():
        given.vae.encoder.conv_in.weight.mul_(1e5)  # the norm that follows divides it away, where it is still a number
    before = fingerprint(given)
    latents = blend.encode(generator("sdxl", given)._drawer.view, [job(1).image])
    assert latents.isfinite().all()
    assert fingerprint(given) == before


WALKERS = ("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler", "DDPMScheduler")


@pytest.mark.parametrize("scheduler", WALKERS)
def test_blending_starts_at_the_picture_with_any_scheduler(scheduler: str) -> None:
    """A denoiser that predicts the very noise that was put on leads back to the picture, if the walk began at the right noise level."""
    given = tiny_pipelines.build("sd")
    given.scheduler = getattr(diffusers, scheduler).from_config(given.scheduler.config)
    maker, asked = generator("sd", given, steps=10, guidance_scale=1.0), job(1, (64, 32), strength=0.5)
    began: list[torch.Tensor] = []
    hook = given.unet.register_forward_pre_hook(lambda _module, inputs, kwargs: began.append(inputs[0].clone()), with_kwargs=True)
    maker.inpaint([replace(asked, soft=asked.mask.astype(np.float32))])
    hook.remove()
    assert len(began) == 5
    walker = maker._painter.view.scheduler
    walker.set_timesteps(10)
    assert 0.5 < float(began[0].std()) < 1.5  # what a denoiser is fed has about unit variance


def test_soft_masks_are_checked() -> None:
    with pytest.raises(InputError, match="a family whose latents can be blended"):
        generator("flux").inpaint([replace(job(1), soft=np.zeros((32, 48), np.float32))])
    with pytest.raises(InputError, match=r"soft mask is \(8, 8\)"):
        generator("sd").inpaint([replace(job(1), soft=np.zeros((8, 8), np.float32))])
