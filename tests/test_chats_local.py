"""Chat models of transformers: real classes at a tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refine.chats.local import LocalChat
from refine.errors import CheckpointError, ConfigError, InputError
from refine.types import Question
from tests import tiny_chats
from tests.toys import picture


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> LocalChat:
    return LocalChat.from_pretrained(tiny_chats.reader(tmp_path_factory.mktemp("reader")), device="cpu", max_tokens=8)


@pytest.fixture(scope="module")
def seer(tmp_path_factory: pytest.TempPathFactory) -> LocalChat:
    return LocalChat.from_pretrained(tiny_chats.seer(tmp_path_factory.mktemp("seer")), device="cpu", max_tokens=8, batch_size=2)


def test_answers_are_greedy_and_do_not_depend_on_the_batch(reader: LocalChat) -> None:
    questions = [Question("Why?"), Question("What is wrong with this hand?", system="Be brief."), Question("")]
    together = reader.ask(questions)
    assert together == [reader.ask([question])[0] for question in questions]
    assert len(set(together)) > 1


def test_an_answer_is_what_the_model_itself_would_say_next(reader: LocalChat) -> None:
    words = reader.tokenizer
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    ids = words(prompt, return_tensors="pt").input_ids
    start = ids.shape[1]
    for _ in range(8):
        with torch.no_grad():
            ids = torch.cat([ids, reader.model(ids).logits[:, -1:].argmax(-1)], 1)
    said = ids[0, start:].tolist()
    end = said.index(words.eos_token_id) if words.eos_token_id in said else len(said)
    assert reader.ask([Question("Why?", system="Be brief.")]) == [words.decode(said[:end], skip_special_tokens=True)]


def test_an_image_changes_the_answer_and_the_order_is_kept(seer: LocalChat) -> None:
    a, b = picture(1, 84, 56), picture(2, 56, 140)
    questions = [Question("Where?", a), Question("Where?"), Question("Where?", b), Question("Where?", a)]
    answers = seer.ask(questions)
    assert answers[0] == answers[3]
    assert len({*answers}) == 3
    assert answers == [seer.ask([question])[0] for question in questions]


def test_a_reader_is_shown_no_image(reader: LocalChat) -> None:
    with pytest.raises(InputError, match="reads text only"):
        reader.ask([Question("Where?", picture(1))])


def test_a_model_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="instruction-tuned"):
        LocalChat.from_pretrained(tiny_chats.reader(tmp_path, template=None), device="cpu")


def test_a_tokenizer_without_padding_and_a_template_without_system_turns(tmp_path: Path) -> None:
    """As LLaMA 3 and Gemma 2 are published."""
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + tiny_chats.TEMPLATE
    chat = LocalChat.from_pretrained(tiny_chats.reader(tmp_path, template, pad=None), device="cpu", max_tokens=8)
    told = Question("Why?", system="Be brief.")
    short, long = Question("Be brief.\n\nWhy?"), Question("What is wrong with this hand?")
    assert chat.ask([told, long]) == [chat.ask([short])[0], chat.ask([long])[0]]


def test_no_thinking_aloud_is_asked_for(tmp_path: Path) -> None:
    template = "{{ 'quiet' if enable_thinking is false else 'aloud' }}" + tiny_chats.TEMPLATE
    chat = LocalChat.from_pretrained(tiny_chats.reader(tmp_path, template), device="cpu", max_tokens=1)
    assert chat._prompt(Question("Why?")).startswith("quiet")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        LocalChat.from_pretrained(tmp_path, device="cpu")


def test_bounds(reader: LocalChat) -> None:
    with pytest.raises(ConfigError, match="max_tokens is 0"):
        LocalChat(reader.model, reader.processor, max_tokens=0)
