"""The native LEGION against what the original implementation answered (tests/data/legion_tiny)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from legion_parts import GOLDEN, golden

from refine.controllers.legion.generation import Answer, left_pad, respond


@cache
def expected() -> dict[str, Any]:
    with np.load(GOLDEN / "expected.npz") as file:
        return dict(file)


@cache
def image() -> PIL.Image.Image:
    return PIL.Image.open(GOLDEN / "input.png").convert("RGB")


@cache
def answer() -> Answer:
    model, processor, _ = golden()
    with torch.inference_mode():
        tokens, _ = model.image_features(processor.clip_pixels([image()]))
    ids, mask = left_pad([processor.prompt_ids()], processor.tokenizer.pad_id)
    return respond(model, ids, mask, tokens, eos_id=processor.tokenizer.eos_id, max_new_tokens=48)[0]


def test_prompt_ids_are_the_original_ones() -> None:
    assert golden()[1].prompt_ids() == expected()["input_ids"][0].tolist()


def test_pixels_are_the_original_ones() -> None:
    _, processor, _ = golden()
    sam, sizes = processor.sam_pixels([image()])
    np.testing.assert_array_equal(processor.clip_pixels([image()])[:, :, ::16, ::16].numpy(), expected()["clip_pixels"])
    np.testing.assert_array_equal(sam[:, :, ::16, ::16].numpy(), expected()["sam_pixels"])
    assert sizes == [(683, 1024)]


def test_greedy_ids_are_the_original_ones() -> None:
    assert list(answer().ids) == expected()["output_ids"][0, expected()["input_ids"].shape[1] :].tolist()


def test_seg_states_match() -> None:
    np.testing.assert_allclose(answer().seg_states.numpy(), expected()["seg_hidden_proj"], atol=1e-4, rtol=0)


def test_states_of_one_uncached_pass_match() -> None:
    model, processor, _ = golden()
    ids = torch.from_numpy(expected()["output_ids"])
    with torch.inference_mode():
        states = model(ids, clip_pixels=processor.clip_pixels([image()])).seg_states[0]
    np.testing.assert_allclose(states.numpy(), expected()["seg_hidden_proj"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("side", "name"), [(1024, "mask_logits"), (512, "mask_logits_512")])
def test_masks_match_at_both_sam_sides(side: int, name: str) -> None:
    model, processor, _ = golden()
    pixels, (size,) = processor.with_sam_side(side).sam_pixels([image()])
    with torch.inference_mode():
        embedding = model.sam_features(pixels)
        logits = model.decode_masks(answer().seg_states, embedding, size, (image().height, image().width)).numpy()
    if side == 1024:
        np.testing.assert_allclose(embedding.numpy(), expected()["sam_embedding"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, expected()[name], atol=2e-4, rtol=0)
    np.testing.assert_array_equal(logits > 0, expected()[name] > 0)


def test_detector_matches() -> None:
    model, processor, _ = golden()
    with torch.inference_mode():
        logits = model.detect(model.image_features(processor.clip_pixels([image()]))[1])
    np.testing.assert_allclose(logits.numpy(), expected()["cls_logits"], atol=1e-4, rtol=0)


def test_report_names_what_was_left_out() -> None:
    _, _, report = golden()
    assert report.unused["region_encoder"] == ("model.region_encoder.flatten_linear.weight", "model.region_encoder.flatten_linear.bias")
    assert not report.missing
    assert "region_encoder: 2 tensors not used" in str(report)
