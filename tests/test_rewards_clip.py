"""PickScore, CLIPScore and the aesthetic head on tiny CLIPs, against transformers' own processor and plain formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from refine import plugins
from refine.errors import CheckpointError, InputError, UnknownName
from refine.evals.clip_rewards import Aesthetic, CLIPScore, PickScore, linear_probe
from refine.evals.clip_text import openai_tokenizer
from refine.evals.preprocess import centre_crop, clip_crop

PROMPTS = ["A red  Cube, left of a small cone", "two horns & a cat's head", "x " * 100]


def pictures() -> list[PIL.Image.Image]:
    rng = np.random.default_rng(5)
    return [PIL.Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for h, w in ((70, 45), (64, 64), (51, 131))]


def tiny_clip(act: str) -> CLIPModel:
    torch.manual_seed(7)
    tower = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2, "num_hidden_layers": 2, "hidden_act": act}
    vision, text = {**tower, "image_size": 64, "patch_size": 16}, {**tower, "bos_token_id": 49406, "eos_token_id": 49407}
    model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return model


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIPModel, Path]:
    model, folder = tiny_clip(request.param), tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


@torch.no_grad()
def by_transformers(model: CLIPModel, images: list[PIL.Image.Image], prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors by transformers' processor, tokenizer call and model call."""
    processor = CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    words = openai_tokenizer()(prompts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    out = model(**words, pixel_values=torch.as_tensor(np.array(processor(images)["pixel_values"])))
    return out.image_embeds, out.text_embeds


def test_pickscore(tmp_path: Path) -> None:
    model = tiny_clip("gelu")
    model.save_pretrained(tmp_path)
    images, texts = by_transformers(model, pictures(), PROMPTS)
    expected = model.logit_scale.exp() * (images * texts).sum(-1)
    reward = PickScore.from_pretrained(tmp_path)
    assert np.abs(np.array(reward.score(pictures(), PROMPTS)) - expected.detach().numpy()).max() < 1e-5
    assert reward.protocol["scale"] == pytest.approx(float(model.logit_scale.detach().exp()))
    assert reward.score([], []) == []


def test_pickscore_refuses_a_conversion_with_another_activation(tmp_path: Path) -> None:
    tiny_clip("quick_gelu").save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="hidden_act 'quick_gelu', but a PickScore checkpoint has 'gelu'"):
        PickScore.from_pretrained(tmp_path)


def test_clipscore_formulas(clip: tuple[CLIPModel, Path]) -> None:
    model, folder = clip
    images, texts = by_transformers(model, pictures(), PROMPTS)
    cosine = (images * texts).sum(-1).numpy()
    made = {formula: CLIPScore.from_pretrained(folder, formula=formula) for formula in ("torchmetrics", "cosine", "hessel")}  # type: ignore[arg-type]
    assert np.abs(np.array(made["torchmetrics"].score(pictures(), PROMPTS)) - 100 * cosine).max() < 1e-4
    # the other two crop as OpenAI's code does; on the square picture all crops agree
    square, text = [pictures()[1]] * 3, ["plain words", PROMPTS[1], "more"]
    images, texts = by_transformers(model, square, text)
    assert np.abs(np.array(made["cosine"].score(square, text)) - (images * texts).sum(-1).numpy()).max() < 1e-6
    images, texts = by_transformers(model, square, ["A photo depicts " + one for one in text])
    expected = 2.5 * (images * texts).sum(-1).clamp(min=0).numpy()
    assert np.abs(np.array(made["hessel"].score(square, text)) - expected).max() < 1e-5
    with pytest.raises(UnknownName, match="'hessel'"):
        CLIPScore.from_pretrained(folder, formula="hesel")  # type: ignore[arg-type]


def test_hessel_is_never_negative(clip: tuple[CLIPModel, Path]) -> None:
    images = pictures()
    prompts = [f"word {k} of many" for k in range(3)]
    plain, cut = (CLIPScore.from_pretrained(clip[1], formula=formula) for formula in ("cosine", "hessel"))  # type: ignore[arg-type]
    prefixed = plain.score(images, ["A photo depicts " + prompt for prompt in prompts])
    assert cut.score(images, prompts) == pytest.approx([2.5 * max(one, 0) for one in prefixed], abs=1e-6)


def test_aesthetic(clip: tuple[CLIPModel, Path], tmp_path: Path) -> None:
    model, folder = clip
    torch.manual_seed(3)
    layers = linear_probe(16)
    file = tmp_path / "aesthetic-model.pth"
    torch.save({f"layers.{key}": value for key, value in layers.state_dict().items()}, file)
    square = [pictures()[1]]
    features, _ = by_transformers(model, square, ["x"])
    state = layers.state_dict()
    expected = features
    for k in (0, 2, 4, 6, 7):
        expected = expected @ state[f"{k}.weight"].T + state[f"{k}.bias"]
    for head in (file, tmp_path):
        reward = Aesthetic.from_pretrained(folder, head=head)
        assert reward.score(square, ["anything"]) == pytest.approx([float(expected)], abs=1e-6)
        assert reward.score(pictures(), ["a", "b", "c"]) == reward.score(pictures(), ["d", "e", "f"])
    with pytest.raises(InputError, match="1 images but 2 prompts"):
        reward.score(square, ["a", "b"])


def test_a_head_for_other_features_is_refused(clip: tuple[CLIPModel, Path], tmp_path: Path) -> None:
    torch.save({f"layers.{key}": value for key, value in linear_probe(20).state_dict().items()}, tmp_path / "head.pth")
    with pytest.raises(CheckpointError, match=r"not an aesthetic head for 16 features: wrong shape layers\.0\.weight"):
        Aesthetic.from_pretrained(clip[1], head=tmp_path / "head.pth")


@pytest.mark.parametrize("size", [(64, 64), (64, 101), (101, 64), (63, 64), (640, 479), (300, 777), (17, 900)])
def test_clip_crop_is_that_of_transformers(size: tuple[int, int]) -> None:
    image = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))
    processor = CLIPImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    expected = np.array(processor(image)["pixel_values"])[0]
    assert np.abs(clip_crop(image, 56).numpy() - expected).max() < 1e-5


def test_the_two_crops_differ_by_at_most_one_pixel() -> None:
    image = PIL.Image.fromarray(np.random.default_rng(1).integers(0, 256, (59, 56, 3), np.uint8))
    floor, even = clip_crop(image, 56), centre_crop(image, 56)  # 3 rows too many: offset 1 or 2
    assert torch.equal(floor[:, 1:], even[:, :-1]) and not torch.equal(floor, even)


def test_missing_weights_are_not_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tiny_clip("gelu").save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"missing visual_projection\.weight"):
        PickScore.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["hps", "imagereward", "pickscore", "clipscore", "aesthetic"])
def test_rewards_are_plugins_with_a_device_and_a_name(name: str) -> None:
    known = plugins.schema(plugins.find("reward", name))
    assert {"source", "name", "device", "dtype", "batch_size"} <= known.keys()
    assert known["name"].default == name
