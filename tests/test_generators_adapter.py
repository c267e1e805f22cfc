"""The diffusers adapter on every family: what it draws, what it costs, and what it leaves alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tiny_pipelines
import torch

from refine.errors import CheckpointError, ConfigError, InputError
from refine.generators import shapes
from refine.generators.adapter import DiffusersGenerator
from refine.types import Image, InpaintJob

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")

SIZE = 32
families = pytest.mark.parametrize("family", sorted(tiny_pipelines.FAMILIES))


@pytest.fixture(scope="module")
def pipes() -> Callable[[str], Any]:
    built: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in built:
            built[family] = tiny_pipelines.build(family)
        return built[family]

    return get


def generator(pipe: Any, **more: Any) -> DiffusersGenerator:
    return DiffusersGenerator.from_pipe(pipe, **({"steps": 4, "size": SIZE} | more))


def job(seed: int, size: tuple[int, int] = (48, 32), prompt: str = "a red cube", **more: Any) -> InpaintJob:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[9:20, 5:17] = True
    return InpaintJob(PIL.Image.fromarray(pixels), mask, prompt, seed, **more)


def same(first: Image, second: Image, tolerance: int = 0) -> bool:
    return first.size == second.size and bool((np.abs(np.asarray(first, int) - np.asarray(second, int)) <= tolerance).all())


def fingerprint(pipe: Any) -> dict[str, str]:
    """Hash of the weights, type and hooks of every module, and the scheduler's configuration and state."""
    marks = {"scheduler": repr(sorted((k, repr(v)) for k, v in vars(pipe.scheduler).items()))}
    for name, part in pipe.components.items():
        if isinstance(part, torch.nn.Module):
            digest = hashlib.sha256(b"".join(p.detach().view(torch.uint8).numpy().tobytes() for p in part.parameters())).hexdigest()
            marks[name] = f"{part.dtype} {part.training} {len(part._forward_hooks)} {hasattr(part, '_hf_hook')} {digest}"
    return marks


@families
def test_draw_gives_one_image_of_native_size_per_prompt(family: str, pipes: Callable[[str], Any]) -> None:
    images = generator(pipes(family), batch_size=2).draw(["a red cube", "a blue sphere", "a cone"], [1, 2, 3])
    assert [image.size for image in images] == [(SIZE, SIZE)] * 3
    assert not same(images[0], images[1])


@families
def test_a_seed_gives_the_same_bytes(family: str, pipes: Callable[[str], Any]) -> None:
    prompts, jobs = ["a red cube", "a cone"], [job(1), job(2)]
    one, two = generator(pipes(family)), generator(pipes(family))
    assert all(map(same, one.draw(prompts, [5, 6]), two.draw(prompts, [5, 6])))
    assert all(map(same, one.inpaint(jobs), two.inpaint(jobs)))
    assert not same(one.draw(["a cone"], [5])[0], one.draw(["a cone"], [6])[0])


@families
def test_a_batch_of_different_jobs_equals_one_by_one(family: str, pipes: Callable[[str], Any]) -> None:
    jobs = [job(1), job(2, (32, 64), strength=0.5), job(3, prompt="a large shiny blue cone"), job(4, strength=0.5), job(5, strength=1.0)]
    maker = generator(pipes(family))
    together = maker.inpaint(jobs)
    assert [image.size for image in together] == [one.image.size for one in jobs]
    assert all(same(image, maker.inpaint([one])[0], 2) for image, one in zip(together, jobs, strict=True))


@families
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_given_pipeline_is_left_alone(family: str, dtype: torch.dtype) -> None:
    pipe = tiny_pipelines.build(family).to(dtype)
    before = fingerprint(pipe)
    maker = generator(pipe)
    maker.draw(["a cone"], [1])
    maker.inpaint([job(1)])
    assert fingerprint(pipe) == before
    assert shapes.denoiser(maker._painter.view) is shapes.denoiser(maker._drawer.view) is shapes.denoiser(pipe)
    assert maker._painter.view.scheduler is not maker._drawer.view.scheduler is not pipe.scheduler


@families
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize(("steps", "strength"), [(4, None), (7, 0.5), (49, 0.01)])
def test_cost_is_the_number_of_denoiser_evaluations(
    family: str, guidance: float, steps: int, strength: float | None, pipes: Callable[[str], Any]
) -> None:
    maker = generator(pipes(family), steps=steps, guidance_scale=guidance, **({"true_cfg_scale": guidance} if family == "flux" else {}))
    rows: list[int] = []
    hook = shapes.denoiser(pipes(family)).register_forward_hook(lambda _module, _inputs, output: rows.append(len(output[0])))
    maker.draw(["a cone"], [1]) if strength is None else maker.inpaint([job(1, strength=strength)])
    hook.remove()
    assert maker.cost(strength) == sum(rows)


@families
def test_the_prompt_steers_and_so_does_the_negative_one(family: str, pipes: Callable[[str], Any]) -> None:
    maker = generator(pipes(family), guidance_scale=5.0, **({"true_cfg_scale": 5.0} if family == "flux" else {}))
    cube, cone = maker.draw(["a red cube"], [1])[0], maker.draw(["a blue cone"], [1])[0]
    assert not same(cube, cone)
    assert not same(cube, maker.draw(["a red cube"], [1], ["a blue cone"])[0])


@families
def test_sides_and_budgets(family: str, pipes: Callable[[str], Any]) -> None:
    maker = DiffusersGenerator(pipes(family))
    assert maker.grid == (2 if family in ("sd", "sdxl") else 4)
    assert maker.native_size == (256 if family == "flux" else 32)
    words = "red " * 100
    kept, dropped = maker.fits(words)
    assert f"{kept} {dropped}" == words.strip()
    # "red" is one token of CLIP and four of the toy T5, which reads more of them all the same.
    assert len(kept.split()) == (tiny_pipelines.TOKENS - 2 if family in ("sd", "sdxl") else (tiny_pipelines.T5_TOKENS - 1) // 4)
    assert maker.fits("a  red cube") == ("a  red cube", "")
    assert maker.fits("") == ("", "")


def test_the_mask_grows_to_whole_cells() -> None:
    mask = np.zeros((16, 24), np.bool_)
    mask[3, 15] = mask[8, 16] = True
    snapped = np.asarray(shapes.snap(mask, 8)) > 0
    assert snapped[:8, 8:16].all() and snapped[8:, 16:].all()
    assert snapped.sum() == 128


def test_one_pixel_of_mask_is_repainted(pipes: Callable[[str], Any]) -> None:
    asked = job(1)
    asked.mask[:] = False
    asked.mask[9, 33] = True
    full = InpaintJob(asked.image, np.zeros_like(asked.mask), asked.prompt, asked.seed)
    one, none = generator(pipes("sd")).inpaint([asked, full])
    assert not same(one, none)


def test_a_saved_pipeline_loads(tmp_path: Path, pipes: Callable[[str], Any]) -> None:
    pipes("sd").save_pretrained(tmp_path)
    loaded = DiffusersGenerator.from_pretrained(tmp_path, steps=4, device="cpu")
    assert same(loaded.draw(["a cone"], [3])[0], generator(pipes("sd")).draw(["a cone"], [3])[0])


def test_offloading_changes_no_picture(tmp_path: Path, pipes: Callable[[str], Any]) -> None:
    pipes("sd").save_pretrained(tmp_path)
    loaded = DiffusersGenerator.from_pretrained(tmp_path, steps=4, device="cpu", offload="model")
    assert same(loaded.draw(["a cone"], [3])[0], generator(pipes("sd")).draw(["a cone"], [3])[0])
    assert loaded.inpaint([job(1)])[0].size == (48, 32)


def test_errors_say_the_value_and_the_rule(pipes: Callable[[str], Any], tmp_path: Path) -> None:
    maker = generator(pipes("sd"))
    with pytest.raises(InputError, match=r"33 × 32.*multiples of 2"):
        maker.inpaint([job(1, (33, 32))])
    with pytest.raises(InputError, match=r"mask is 48 × 32, the image 32 × 32"):
        maker.inpaint([InpaintJob(PIL.Image.new("RGB", (32, 32)), job(1).mask, "", 1)])
    with pytest.raises(InputError, match=r"Strength 0"):
        maker.inpaint([job(1, strength=0)])
    with pytest.raises(ConfigError, match=r"steps is -1.*\n.*batch_size is 0.*\n.*size is 33"):
        DiffusersGenerator(pipes("sd"), steps=-1, batch_size=0, size=33)
    with pytest.raises(CheckpointError, match="model_index"):
        DiffusersGenerator.from_pretrained(tmp_path)
