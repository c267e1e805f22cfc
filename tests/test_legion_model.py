"""LegionModel on tiny random weights: shapes, splice, states, masks, batching, saving."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from legion_parts import config, picture, tiny
from torch import Tensor

from refine.controllers.legion.configuration import IGNORE, IMAGE_PLACE
from refine.controllers.legion.generation import left_pad, loop_start, respond
from refine.controllers.legion.modeling import LegionModel, image_place, positions, splice, to_frame

PATCHES = 16


def batch() -> tuple[Tensor, Tensor, Tensor]:
    """Two right-padded conversations with one and two [SEG]."""
    _, processor = tiny()
    texts = ("<p> a cube </p> [SEG]: red", "<p> a </p> [SEG] the <p> cube </p> [SEG]: wrong way")
    rows = [processor.training_ids(text)[0] for text in texts]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask, processor.clip_pixels([picture(0), picture(1)])


def test_splice_puts_patches_in_the_place() -> None:
    text, image = torch.arange(5.0).reshape(1, 5, 1), torch.full((1, 3, 1), -1.0)
    assert splice(text, image, torch.tensor([2])).flatten().tolist() == [0, 1, -1, -1, -1, 3, 4]


def test_prompt_without_image_is_refused() -> None:
    with pytest.raises(ValueError, match="exactly once"):
        image_place(torch.tensor([[1, 2, 3]]))


@torch.no_grad()
def test_forward_shapes_and_loss() -> None:
    model, processor = tiny()
    ids, mask, pixels = batch()
    labels = ids.masked_fill((mask == 0) | (ids == IMAGE_PLACE), IGNORE)
    embeddings = model.sam_features(processor.sam_pixels([picture(0), picture(1)])[0])
    out = model(ids, mask, pixels, labels=labels, sam_embeddings=embeddings)
    assert out.logits.shape == (2, ids.shape[1] - 1 + PATCHES, len(processor.tokenizer))
    assert [len(s) for s in out.seg_states] == [1, 2]
    assert out.mask_logits is not None and [tuple(m.shape) for m in out.mask_logits] == [(1, 32, 32), (2, 32, 32)]
    assert out.loss is not None and torch.isfinite(out.loss)


@torch.no_grad()
def test_seg_state_is_the_one_that_predicts_it() -> None:
    model, processor = tiny()
    ids, mask, pixels = batch()
    tokens, _ = model.image_features(pixels)
    embeds, spliced = model.embed(ids, mask, tokens)
    states = model.llm.model(inputs_embeds=embeds, attention_mask=spliced, position_ids=positions(spliced)).last_hidden_state
    column = ids[0].tolist().index(processor.tokenizer.id("[SEG]"))
    expected = model.text_hidden_fcs(states[0, column + PATCHES - 2])
    torch.testing.assert_close(model(ids, mask, pixels).seg_states[0][0], expected)


@torch.no_grad()
def test_loss_counts_the_supervised_tokens_only() -> None:
    model, processor = tiny()
    ids, labels = (torch.tensor([x]) for x in processor.training_ids("a red cube"))
    pixels = processor.clip_pixels([picture(2)])
    out = model(ids, clip_pixels=pixels, labels=labels)
    count = int((labels != IGNORE).sum())
    logp = out.logits[0, -count - 1 : -1].log_softmax(-1)
    torch.testing.assert_close(out.loss, -logp.gather(1, ids[0, -count:, None]).mean())


@torch.no_grad()
def test_packed_masks_equal_one_by_one() -> None:
    model, processor = tiny()
    ids, mask, pixels = batch()
    embeddings = model.sam_features(processor.sam_pixels([picture(0), picture(1)])[0])
    out = model(ids, mask, pixels, sam_embeddings=embeddings)
    assert out.mask_logits is not None
    for packed, states, embedding in zip(out.mask_logits, out.seg_states, embeddings, strict=True):
        torch.testing.assert_close(packed, model.mask_logits(states, embedding), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_masks_come_in_the_frame_of_the_image() -> None:
    model, processor = tiny()
    pixels, (size,) = processor.sam_pixels([picture(0)])
    assert size == (38, 64)
    embedding = model.sam_features(pixels)
    assert model.decode_masks(torch.randn(3, 16), embedding, size, (48, 80)).shape == (3, 48, 80)
    assert model.decode_masks(torch.zeros(0, 16), embedding, size, (48, 80)).shape == (0, 48, 80)


def test_to_frame_drops_the_padding() -> None:
    low = torch.zeros(1, 16, 16)
    low[:, :8] = 1  # the upper half of the canvas is the image
    assert to_frame(low, 64, (28, 64), (35, 80)).min() > 0.9


def _answers(prompts: list[list[int]], seeds: list[int]) -> list[tuple[tuple[int, ...], Tensor]]:
    model, processor = tiny()
    ids, mask = left_pad(prompts, 0)
    with torch.inference_mode():
        tokens, _ = model.image_features(processor.clip_pixels([picture(seed) for seed in seeds]))
    answers = respond(model, ids, mask, tokens, eos_id=processor.tokenizer.eos_id, max_new_tokens=24, times=None)
    return [(a.ids, a.seg_states) for a in answers]


def test_batched_answers_equal_single_ones() -> None:
    _, processor = tiny()
    prompts = [processor.prompt_ids(text) for text in ("", "the red cube points the wrong way", "a shadow")]
    together = _answers(prompts, [0, 1, 2])
    assert len({len(ids) for ids, _ in together}) > 1 and sum(len(states) for _, states in together) > 0
    for k, prompt in enumerate(prompts):
        ((ids, states),) = _answers([prompt], [k])
        assert ids == together[k][0]
        torch.testing.assert_close(states, together[k][1], atol=1e-5, rtol=1e-4)


def test_cached_answer_equals_feeding_everything_again() -> None:
    model, processor = tiny()
    prompt, pixels = processor.prompt_ids(), processor.clip_pixels([picture(3)])
    ((ids, states),) = _answers([prompt], [3])
    assert len(states) > 0
    said: list[int] = []
    with torch.inference_mode():
        for _ in range(len(ids)):  # the original's way: no cache, image and all tokens again at every step
            said.append(int(model(torch.tensor([prompt + said]), clip_pixels=pixels).logits[0, -1].argmax()))
        again = model(torch.tensor([prompt + said]), clip_pixels=pixels).seg_states[0]
    assert tuple(said) == ids
    torch.testing.assert_close(states, again, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("ids", "start"),
    [
        ([1, 2, 3, 4] * 3, 4),
        ([9, 9, *[1, 2, 3, 4] * 3], 6),
        ([1, 2, 3, 4] * 2, None),
        ([1, 2] * 5, None),
        (list(range(30)), None),
        ([5] * 12, 4),
    ],
)
def test_loop_start(ids: list[int], start: int | None) -> None:
    assert loop_start(ids, least=4, times=3) == start


def test_a_model_that_repeats_itself_is_stopped() -> None:
    model, processor = tiny()
    ids, mask = left_pad([processor.prompt_ids()], 0)
    with torch.inference_mode():
        tokens, _ = model.image_features(processor.clip_pixels([picture(0)]))
        (free,) = respond(model, ids, mask, tokens, eos_id=-1, max_new_tokens=200, times=None)
        (stopped,) = respond(model, ids, mask, tokens, eos_id=-1, max_new_tokens=200, least=2, times=2)
    assert len(stopped.ids) < len(free.ids) == 200
    assert stopped.ids == free.ids[: len(stopped.ids)]
    assert len(stopped.seg_states) == stopped.ids.count(model.config.seg_token_id)
    assert len(stopped.logprobs) == len(stopped.ids)


@torch.no_grad()
def test_saved_model_and_processor_come_back(tmp_path: Path) -> None:
    model, processor = tiny()
    ids, mask, pixels = batch()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = LegionModel.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(ids, mask, pixels).logits, model(ids, mask, pixels).logits, atol=0, rtol=0)
    restored = type(processor).from_pretrained(tmp_path)
    assert replace(restored, tokenizer=processor.tokenizer) == processor
    assert restored.prompt_ids() == processor.prompt_ids()


def test_fresh_weights_are_alive() -> None:
    model = LegionModel(config())
    assert 0.3 < float(model.sam.shared_image_embedding.positional_embedding.detach().std()) < 3
    assert float(model.sam.vision_encoder.layers[0].mlp.lin1.weight.detach().std()) > 1e-3


def test_model_without_detector_says_so() -> None:
    with pytest.raises(ValueError, match="no detector"):
        LegionModel(config(detector=0)).detect(torch.zeros(1, 24))


def test_every_head_gets_a_gradient() -> None:
    model = LegionModel(config())
    ids, mask, pixels = batch()
    _, processor = tiny()
    embeddings = model.sam_features(processor.sam_pixels([picture(0), picture(1)])[0])
    out = model(ids, mask, pixels, labels=ids.clamp_min(IGNORE), sam_embeddings=embeddings)
    assert out.loss is not None and out.mask_logits is not None and out.cls is not None
    total = out.loss + sum(m.square().mean() for m in out.mask_logits) + model.detect(out.cls).square().mean()
    total.backward()
    for module in (model.clip.embeddings, model.mm_projector, model.llm, model.text_hidden_fcs, model.sam.vision_encoder, model.detector):
        assert any(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
