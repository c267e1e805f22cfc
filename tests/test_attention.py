"""Whose attention kernels a denoiser uses: the default changes nothing, a choice reaches the right layers, what is missing is said."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_families
import tiny_pipelines
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from legion_parts import GOLDEN

from refine import config
from refine.controllers.legion.controller import LegionController
from refine.errors import ConfigError, MissingDependency
from refine.generators import attention
from refine.generators.adapter import DiffusersGenerator
from refine.generators.shapes import denoiser

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:diffusers")
SETTINGS: dict[str, Any] = {"steps": 2, "size": 32, "device": "cpu", "dtype": "float32"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pipe")
    tiny_pipelines.build("sd").save_pretrained(place)
    return place


def processors(pipe: Any) -> list[str]:
    return [type(part.processor).__name__ for part in denoiser(pipe).modules() if hasattr(part, "processor")]


def test_the_default_leaves_layers_and_bytes_alone(folder: Path) -> None:
    given = tiny_pipelines.build("sd")
    loaded = DiffusersGenerator.from_pretrained(folder, **SETTINGS, attention="sdpa")
    assert processors(loaded.pipe) == processors(given)
    want = DiffusersGenerator.from_pipe(given, steps=2, size=32).draw(["a red cube"], [7])[0]
    assert loaded.draw(["a red cube"], [7])[0].tobytes() == want.tobytes()


@pytest.mark.parametrize(("choice", "module", "pip"), [
    ("xformers", "xformers", 'pip install "legion-refine[xformers]"'), ("flash_attention_2", "flash_attn", "pip install flash-attn"),
])  # fmt: skip
def test_a_missing_package_is_named_with_its_pip_line(choice: Any, module: str, pip: str) -> None:
    if find_spec(module):
        pytest.skip(f"{module} is installed")
    with pytest.raises(MissingDependency) as told:
        DiffusersGenerator.from_pretrained("nothing/is-loaded", attention=choice)
    assert f"generator.attention={choice}" in str(told.value) and pip in str(told.value)


def test_a_package_alone_is_not_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """An xformers that was built for another torch imports, and fails at its first call; here at the import of its operators."""
    request.addfinalizer(lambda: sys.modules.pop("xformers", None))  # else later tests find it installed
    (tmp_path / "xformers.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs a CUDA device; the generator is on 'cpu'\. Use attention=sdpa"):
        attention.check("xformers", "cpu")
    with pytest.raises(ConfigError, match=r"does not work with torch .* on 'cuda:1' \(No module named 'xformers.ops'"):
        attention.check("xformers", "cuda:1")


def test_it_is_a_choice_of_the_configuration() -> None:
    assert config.load(["sdxl"]).tree["generator"]["attention"] == "sdpa"
    assert config.load(["sdxl"], ["generator.attention=xformers"]).tree["generator"]["attention"] == "xformers"
    with pytest.raises(ConfigError, match="xfomers"):
        config.load(["sdxl"], ["generator.attention=xfomers"])


@pytest.mark.parametrize("family", ["sd", "sdxl", "sd3"])
def test_all_layers_of_a_unet_and_of_sd3_can_be_replaced(family: str) -> None:
    network = denoiser(tiny_pipelines.build(family))
    layers = attention.softmax_layers(network)
    assert not attention.has_backends(network)
    assert layers and len(layers) == len([part for part in network.modules() if hasattr(part, "processor")])
    assert all(hasattr(layer, "set_use_memory_efficient_attention_xformers") for layer in layers)
    with pytest.raises(ConfigError, match="sdpa or xformers"):
        attention.use(network, "flash_attention_2")


def test_linear_attention_stays_linear() -> None:
    network = denoiser(tiny_families.sana())
    chosen = {type(layer.processor).__name__ for layer in attention.softmax_layers(network)}
    every = {type(part.processor).__name__ for part in network.modules() if hasattr(part, "processor")}
    assert any("Linear" in name for name in every)
    assert not any("Linear" in name for name in chosen)


def test_a_backend_is_one_denoisers_own() -> None:
    """Shown with one that runs on a CPU: nearly the same picture, and the rest of the process keeps its default."""
    plain, other = (tiny_pipelines.build("flux") for _ in range(2))
    before = _AttentionBackendRegistry._active_backend
    assert attention.has_backends(denoiser(other))
    attention.dispatch(denoiser(other), "_native_math")
    assert _AttentionBackendRegistry._active_backend == before
    set_to = [part.processor._attention_backend for part in denoiser(other).modules() if hasattr(part, "processor")]
    assert {backend.value for backend in set_to} == {"_native_math"}
    images = [DiffusersGenerator.from_pipe(pipe, steps=2, size=32).draw(["a cone"], [3])[0] for pipe in (plain, other)]
    assert int(np.abs(np.subtract(*(np.asarray(image, int) for image in images))).max()) <= 1


def test_legion_says_why_it_has_no_xformers() -> None:
    with pytest.raises(ConfigError, match=r"transformers.*offers no xformers.*sdpa"):
        LegionController.from_pretrained(GOLDEN / "ckpt", clip=GOLDEN / "clip", device=torch.device("cpu"), attention="xformers")
