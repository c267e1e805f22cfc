"""LegionController: critiques in the image's own frame, looked at once, robust to odd images."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from legion_parts import GOLDEN, golden, picture, tiny

from refine.controllers.legion.controller import LegionController, fingerprint
from refine.controllers.legion.loading import load
from refine.errors import CheckpointError
from refine.types import Controller, Critique


def controller(**settings: int) -> LegionController:
    return LegionController(*tiny(), **({"max_new_tokens": 24} | settings))


@cache
def critiques() -> list[Critique]:
    return controller().inspect([picture(k) for k in range(6)])


def test_it_is_a_controller() -> None:
    found: Controller = controller()
    assert found.inspect([]) == []


def test_masks_are_in_the_frame_of_the_image() -> None:
    regions = [region for critique in critiques() for region in critique.regions]
    assert regions
    assert all(critique.size == (80, 48) for critique in critiques())
    assert all(region.mask.shape == (48, 80) and region.mask.dtype == np.bool_ and region.mask.any() for region in regions)
    assert all(0 < region.score <= 1 for region in regions)
    assert all(0 <= critique.fake_probability <= 1 for critique in critiques() if critique.fake_probability is not None)


def test_answer_without_seg_gives_no_region() -> None:
    looks = controller(max_new_tokens=3).look([picture(k) for k in range(12)])
    clean = [look for look in looks if "[SEG]" not in look.answer]
    assert clean and all(look.critique.regions == () for look in clean)


def test_evidence_stands_behind_every_region() -> None:
    for look in controller().look([picture(k) for k in range(6)]):
        assert len(look.evidence) == len(look.critique.regions)
        for region, one in zip(look.critique.regions, look.evidence, strict=True):
            assert region.score == pytest.approx(one.mask_confidence * math.exp(one.finding.seg_logprob))
            assert one.area == pytest.approx(float(region.mask.mean()))


def test_batch_size_changes_nothing() -> None:
    alone = controller(batch_size=1, sam_batch=1).inspect([picture(k) for k in range(6)])
    for one, other in zip(alone, critiques(), strict=True):
        assert len(one.regions) == len(other.regions) and one.summary == other.summary
        for a, b in zip(one.regions, other.regions, strict=True):
            assert (a.mask != b.mask).mean() < 0.01 and a.score == pytest.approx(b.score, abs=1e-4)


def test_one_picture_is_looked_at_once() -> None:
    looked: list[int] = []
    one = controller()
    layer = one.model.clip.embeddings.register_forward_hook(lambda _, inputs, __: looked.append(len(inputs[0])))
    try:
        first = one.look([picture(0), picture(1), picture(0)])
        again = one.look([picture(1).copy(), picture(2)])
    finally:
        layer.remove()
    assert looked == [2, 1]
    assert first[0] is first[2] and again[0] is first[1]


def test_memory_is_bounded() -> None:
    one = controller(remember=2)
    first = one.look([picture(k) for k in range(4)])
    assert len(first) == 4 and len(one._seen) == 2


def test_fingerprint_knows_size_and_pixels() -> None:
    flat = PIL.Image.new("RGB", (4, 6))
    assert fingerprint(flat) == fingerprint(flat.convert("RGBA"))
    assert fingerprint(flat) != fingerprint(PIL.Image.new("RGB", (6, 4)))


@pytest.mark.parametrize(("mode", "size"), [("L", (48, 80)), ("RGBA", (80, 48)), ("RGB", (1, 1)), ("RGB", (700, 3)), ("RGB", (3, 700))])
def test_odd_images(mode: str, size: tuple[int, int]) -> None:
    image = PIL.Image.effect_noise(size, 80).convert(mode)
    (critique,) = controller().inspect([image])
    assert critique.size == size
    assert all(region.mask.shape == (size[1], size[0]) for region in critique.regions)


def test_own_layout_loads(tmp_path: Path) -> None:
    model, processor = tiny()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = LegionController.from_pretrained(tmp_path, device="cpu", max_new_tokens=24)
    assert [c.summary for c in loaded.inspect([picture(k) for k in range(6)])] == [c.summary for c in critiques()]
    assert loaded.model.dtype == torch.float32


def test_published_layout_loads_and_sees_what_the_original_saw() -> None:
    model, processor, _ = golden()
    (look,) = LegionController(model, processor, max_new_tokens=48).look([PIL.Image.open(GOLDEN / "input.png")])
    with np.load(GOLDEN / "expected.npz") as expected:
        masks = expected["mask_logits"] > 0
    kept = [mask for mask in masks if mask.any()]
    assert len(look.critique.regions) == len(kept)
    for region, mask in zip(look.critique.regions, kept, strict=True):
        np.testing.assert_array_equal(region.mask, mask)


def test_sam_side_and_precision_are_choices(tmp_path: Path) -> None:
    model, processor = tiny()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, settings = load(tmp_path, dtype=torch.bfloat16, sam_side=32)
    assert settings.sam_side == 32 and again.dtype == torch.bfloat16
    (critique,) = LegionController(again, settings, max_new_tokens=8).inspect([picture(0)])
    assert critique.size == (80, 48)


def test_nonsense_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Unknown dtype 'float12'"):
        LegionController.from_pretrained(tmp_path, device="cpu", dtype="float12")
    with pytest.raises(CheckpointError, match=r"No config\.json"):
        LegionController.from_pretrained(tmp_path, device="cpu")
