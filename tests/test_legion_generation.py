"""Answers: batched equals single, a fixed cache equals a growing one, the best logit wins, and nothing runs past the context."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from legion_parts import WORDS, config, golden, picture, tiny

from refine.controllers.legion.controller import LegionController
from refine.controllers.legion.generation import Answer, left_pad, respond
from refine.controllers.legion.loading import load
from refine.controllers.legion.modeling import LegionModel, perceive
from refine.errors import ConfigError, InputError, MissingDependency, UnknownName

Ask = tuple[str, int]  # instruction, seed of the picture


def answers(asks: list[Ask], model: LegionModel | None = None, compiled: bool = False, count: int = 16) -> list[Answer]:
    own, processor = tiny()
    model = model or own
    ids, mask = left_pad([processor.prompt_ids(text) for text, _ in asks], processor.tokenizer.pad_id)
    with torch.inference_mode():
        tokens, _ = model.image_features(processor.clip_pixels([picture(seed) for _, seed in asks]))
    eos = processor.tokenizer.eos_id
    return respond(model, ids, mask, tokens, eos_id=eos, max_new_tokens=count, compiled=compiled)


def assert_equal(one: Answer, other: Answer) -> None:
    assert one.ids == other.ids
    torch.testing.assert_close(one.seg_states, other.seg_states, atol=1e-5, rtol=1e-4)
    assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


ASKS: st.SearchStrategy[list[Ask]] = st.lists(
    st.tuples(st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join), st.integers(0, 20)), min_size=1, max_size=4
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(ASKS)
def test_a_batch_of_any_lengths_answers_as_each_alone(asks: list[Ask]) -> None:
    for together, ask in zip(answers(asks), asks, strict=True):
        assert_equal(together, answers([ask])[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own, on its import
@settings(max_examples=6, deadline=None, derandomize=True)
@given(ASKS)
def test_a_cache_of_fixed_length_answers_as_a_growing_one(asks: list[Ask]) -> None:
    with torch.compiler.set_stance("force_eager"):  # the cache alone; the compiler is tested below
        fixed = answers(asks, compiled=True)
    for one, other in zip(fixed, answers(asks), strict=True):
        assert_equal(one, other)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_a_compiled_step_answers_as_a_plain_one() -> None:
    asks = [("a red cube", 0), ("", 1)]
    for one, other in zip(answers(asks, compiled=True), answers(asks), strict=True):
        assert_equal(one, other)


def test_the_best_logit_wins_when_probabilities_are_equal_in_their_last_digit() -> None:
    flat = copy.deepcopy(tiny()[0])
    flat.llm.lm_head.weight.data *= 1e-8  # every probability rounds to 1 / vocabulary
    for seed in range(3):
        (one,), (other,) = answers([("a cube", seed)], flat), answers([("a cube", seed)])
        assert one.ids == other.ids


def test_an_answer_ends_where_the_context_does() -> None:
    _, processor = tiny()
    length = len(processor.prompt_ids("")) - 1 + 16
    small = copy.deepcopy(tiny()[0])
    small.config.llama_config.max_position_embeddings = length + 3
    (short,), (free,) = answers([("", 5)], small), answers([("", 5)])
    assert short.ids == free.ids[:3] and len(free.ids) > 3
    small.config.llama_config.max_position_embeddings = length
    with pytest.raises(InputError, match=f"takes {length} positions .* has {length}"):
        answers([("", 5)], small)


@pytest.mark.parametrize("index", [-3, -2, -1, 1])
@torch.inference_mode()
def test_image_features_are_the_hidden_state_of_the_library(index: int) -> None:
    sizes = config()
    sizes.vision_layer = index
    model = LegionModel(sizes).eval()
    pixels = tiny()[1].clip_pixels([picture(0), picture(1)])
    hidden = model.clip(pixels, output_hidden_states=True).hidden_states[index]
    patches, cls = model.image_features(pixels)
    torch.testing.assert_close(cls, hidden[:, 0])
    torch.testing.assert_close(patches, perceive(model.mm_projector, hidden[:, 1:]))


def test_clip_and_sam_look_once_at_each_picture() -> None:
    model, processor = tiny()
    looks = {"clip": 0, "sam": 0}

    def count(name: str, images: int) -> None:
        looks[name] += images

    hooks = [
        model.clip.embeddings.register_forward_hook(lambda _, inputs, __: count("clip", len(inputs[0]))),
        model.sam.vision_encoder.register_forward_hook(lambda _, inputs, __: count("sam", len(inputs[0]))),
    ]
    try:
        controller = LegionController(model, processor, max_new_tokens=24, batch_size=2)
        found = controller.look([picture(k) for k in (0, 1, 2, 1)])
        controller.inspect([picture(2), picture(0)])
    finally:
        for hook in hooks:
            hook.remove()
    masked = sum("[SEG]" in look.answer for look in found[:3])
    assert masked and looks == {"clip": 3, "sam": masked}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model, processor = tiny()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


def test_attention_is_a_choice_that_changes_nothing(saved: Path) -> None:
    eager = load(saved, attention="eager")[0]
    assert eager.llm.config._attn_implementation == "eager" and tiny()[0].llm.config._attn_implementation == "sdpa"
    assert_equal(answers([("a cube", 0)], eager)[0], answers([("a cube", 0)])[0])
    with pytest.raises(UnknownName, match=r"Unknown attention 'flash_attention'\. Did you mean 'flash_attention_2'"):
        load(saved, attention="flash_attention")


def test_settings_that_cannot_work_are_all_named() -> None:
    model, processor = tiny()
    with pytest.raises(ConfigError, match=r"(?s)max_new_tokens is 0.*batch_size is -1"):
        LegionController(model, processor, max_new_tokens=0, batch_size=-1)


def test_unknown_quantization_is_named(saved: Path) -> None:
    with pytest.raises(UnknownName, match="Unknown quantization '3bit'"):
        load(saved, quantize="3bit")


def test_packages_that_are_missing_are_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refine.controllers.legion.loading.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"legion-refine\[quant\]"):
        load(saved, quantize="4bit")
    with pytest.raises(MissingDependency, match="pip install flash-attn"):
        load(saved, attention="flash_attention_2")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "kind"), [("8bit", "Linear8bitLt"), ("4bit", "Linear4bit")])
def test_only_the_layers_of_the_language_model_are_quantized(tmp_path: Path, name: str, kind: str) -> None:
    pytest.importorskip("bitsandbytes")
    for part in golden()[:2]:  # its language model is 64 wide, the least that four bits can be packed in
        part.save_pretrained(tmp_path)
    model = load(tmp_path, quantize=name, dtype=torch.bfloat16)[0]
    linear = {path: type(module).__name__ for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert {path for path, made in linear.items() if made == kind} == {path for path in linear if path.startswith("llm.model.layers.")}
    with torch.inference_mode():
        states = model.llm.model(inputs_embeds=torch.randn(1, 3, 64, dtype=torch.bfloat16)).last_hidden_state
    assert states.shape == (1, 3, 64) and bool(states.isfinite().all())
