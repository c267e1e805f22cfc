"""Copies of one vision tower in another architecture: what can be equal is equal."""

from __future__ import annotations

import pytest
import torch
from transformers import BlipVisionConfig, BlipVisionModel, CLIPVisionConfig, CLIPVisionModel, SamVisionConfig, SamVisionModel

from refine import trunk
from refine.embedded import locate
from refine.evals.preprocess import CLIP_MEAN, CLIP_STD

SIDE, PATCH, WIDTH = 32, 8, 16
SIZES = {"hidden_size": WIDTH, "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH, "hidden_act": "gelu"}


@pytest.fixture(scope="module")
def sam() -> torch.nn.Module:
    torch.manual_seed(0)
    own = {"mlp_dim": 4 * WIDTH, "num_hidden_layers": 2, "window_size": 0, "use_rel_pos": False, "output_channels": WIDTH}
    model = SamVisionModel(SamVisionConfig(**SIZES, **own)).eval().vision_encoder
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def images() -> torch.Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def normalised(pixels: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def embedded_by_sam(sam: torch.nn.Module) -> torch.Tensor:
    """(3, P, D): what enters SAM's first layer."""
    patches = sam.patch_embed(normalised(255 * images(), trunk.SAM_MEAN, trunk.SAM_STD))
    return (patches + sam.pos_embed).flatten(1, 2)


def test_clip_embeds_the_same_pictures_to_the_same_tokens_and_its_layers_agree(sam: torch.nn.Module) -> None:
    clip = CLIPVisionModel(CLIPVisionConfig(**SIZES, intermediate_size=4 * WIDTH, num_hidden_layers=3, layer_norm_eps=1e-6)).eval()
    pixels = normalised(images(), CLIP_MEAN, CLIP_STD)
    trunk.into_clip(clip, trunk.of(sam.state_dict()), pixels, CLIP_MEAN, CLIP_STD)
    tokens = embedded_by_sam(sam)
    torch.testing.assert_close(clip.embeddings(pixels)[:, 1:], tokens, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(clip.encoder.layers, sam.layers, strict=False):
        expected = theirs(tokens.unflatten(1, (SIDE // PATCH,) * 2))
        torch.testing.assert_close(ours(tokens, None), expected.flatten(1, 2), rtol=1e-4, atol=1e-4)


def test_blip_embeds_the_same_pictures_to_the_same_tokens_and_its_layers_agree(sam: torch.nn.Module) -> None:
    blip = BlipVisionModel(BlipVisionConfig(**SIZES, intermediate_size=4 * WIDTH, num_hidden_layers=2, layer_norm_eps=1e-6)).eval()
    pixels = normalised(images(), CLIP_MEAN, CLIP_STD)
    trunk.into_blip(blip, trunk.of(sam.state_dict()), CLIP_MEAN, CLIP_STD)
    tokens = embedded_by_sam(sam)
    torch.testing.assert_close(blip.embeddings(pixels)[:, 1:], tokens, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(blip.encoder.layers, sam.layers, strict=True):
        expected = theirs(tokens.unflatten(1, (SIDE // PATCH,) * 2)).flatten(1, 2)
        found = ours(tokens)
        torch.testing.assert_close(found[0] if isinstance(found, tuple) else found, expected, rtol=1e-4, atol=1e-4)


def test_the_shipped_legion_has_a_trunk() -> None:
    found = trunk.load(locate("mini:legion"))
    assert len(found.layers) == 6
    assert found.places.shape[1] == found.kernel.shape[0]
