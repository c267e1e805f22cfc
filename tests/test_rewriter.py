"""A chat model writes the repair prompt: what of it is taken, and what is done where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from refine import config, loop, record, runner
from refine.chats.local import LocalChat
from refine.errors import AnswerError, ConfigError
from refine.loop import Models
from refine.policy import Budget
from refine.rewriter import TEMPLATE, Rewriter, description, objection
from refine.types import Chat, Critique, Inpaint, Question, Region
from tests import tiny_chats
from tests.chat_server import raw, says, serving
from tests.toys import Painter, Smoothness, Spotter, picture

PROMPT = "A woman waving at the sea, 35mm photo."
HAND = Region(np.ones((3, 5), bool), "distorted left hand", "The fingers are fused.", "structure")
CRITIQUE = Critique((5, 3), (HAND, Region(np.ones((3, 5), bool), "boat", "It floats above the water.")))
GOOD = "a left hand with five slender fingers, palm open"


@dataclass
class Says:
    """A chat model that says one thing, or fails."""

    answer: str | Exception
    asked: list[Question] = field(default_factory=list)

    def ask(self, questions: Sequence[Question]) -> list[str]:
        self.asked += questions
        if isinstance(self.answer, Exception):
            raise self.answer
        return [self.answer for _ in questions]


def wrapped(words: object) -> str:
    return json.dumps({"prompt": words})


@pytest.mark.parametrize("answer", [wrapped(GOOD), f"```json\n{wrapped(GOOD + '.')}\n```", f"Sure! {wrapped(GOOD)}", wrapped(f'"{GOOD}"')])
def test_a_good_description_goes_before_the_users_words(answer: str) -> None:
    chat = Says(answer)
    revision = Rewriter(chat).revise(PROMPT, CRITIQUE, HAND)
    assert revision.prompt == f"{GOOD}, {PROMPT}"
    assert revision.negative_prompt == "distorted left hand, fused fingers"
    assert revision.note == ""
    [question] = chat.asked
    for told in (PROMPT, "distorted left hand", "The fingers are fused."):
        assert told in question.text
    assert "boat" not in question.text
    assert "at most 30 words" in question.system


def test_a_whole_image_is_asked_about_with_all_its_faults() -> None:
    chat = Says(wrapped("a woman at the sea, a boat on calm water"))
    revision = Rewriter(chat).revise(PROMPT, CRITIQUE, None)
    assert revision.prompt == f"a woman at the sea, a boat on calm water, {PROMPT}"
    assert "It floats above the water." in chat.asked[0].text
    assert "The fingers are fused." in chat.asked[0].text


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "holds no description"),
        (wrapped(""), "holds no description"),
        (wrapped(" .,; "), "holds no description"),
        (wrapped(3), "holds no description"),
        (wrapped(None), "holds no description"),
        ("a lovely hand", "holds no description"),
        (wrapped("a hand " + "very " * 40 + "fine"), "has 43 words, 30 are allowed"),
        (wrapped("a left hand without fused fingers"), "negates ('without')"),
        (wrapped("a hand that isn't distorted"), "negates (\"isn't\")"),
        (wrapped("a hand that isn\N{RIGHT SINGLE QUOTATION MARK}t distorted"), "negates (\"isn't\")"),
        (wrapped("a bowl of ripe fruit on a table"), "leaves the subject: none of hand, left is in it"),
        (wrapped("I'm sorry, I can only talk about something else"), "leaves the subject"),
        (AnswerError("The model server at host (m) refuses (HTTP 500)."), "refuses (HTTP 500)"),
    ],
)
def test_what_cannot_be_taken_is_noted_and_the_template_answers(answer: str | Exception, reason: str) -> None:
    revision = Rewriter(Says(answer)).revise(PROMPT, CRITIQUE, HAND)
    template = TEMPLATE.revise(PROMPT, CRITIQUE, HAND)
    assert (revision.prompt, revision.negative_prompt) == (template.prompt, template.negative_prompt)
    assert revision.note.startswith("Template used: ")
    assert reason in revision.note


def test_a_bug_of_ours_is_not_swallowed() -> None:
    with pytest.raises(KeyError):
        Rewriter(Says(KeyError("bug"))).revise(PROMPT, CRITIQUE, HAND)


def test_a_plural_keeps_the_subject_and_a_phrase_without_content_asks_the_prompt() -> None:
    assert objection("two hands waving", PROMPT, HAND, 30) == ""
    nameless = Region(HAND.mask, "artifact")
    assert objection("calm waves of the sea", PROMPT, nameless, 30) == ""
    assert "leaves the subject" in objection("a tower", PROMPT, nameless, 30)


def test_the_first_object_with_words_counts() -> None:
    assert description('{"note": 1} {"prompt": "  a \n hand, "} {"prompt": "b"}') == "a hand"


def test_too_few_words_are_refused() -> None:
    with pytest.raises(ConfigError, match="most_words is 2"):
        Rewriter(Says(""), most_words=2)


def test_a_local_model_plays_through_a_configuration(tmp_path: Path) -> None:
    """Real classes all the way: a random model babbles, so the template answers and says why."""
    folder = tiny_chats.reader(tmp_path)
    sets = ["reviser=llm", "reviser.chat=local", f"reviser.chat.source={folder}", "reviser.chat.max_tokens=8", "device=cpu"]
    tree = config.load(["painter"], sets).tree
    made = runner.make("reviser", tree["reviser"])
    assert isinstance(made.chat, LocalChat)
    assert made.revise(PROMPT, CRITIQUE, HAND).note == "Template used: the answer holds no description."


def test_a_server_plays_through_a_configuration() -> None:
    with serving(says(wrapped(GOOD)), raw(500, "no")) as story:
        sets = ["reviser=endpoint", f"reviser.url={story.url}", "reviser.model=tiny", "reviser.retries=0", "reviser.extra={seed: 1}"]
        made = runner.make("reviser", config.load(["painter"], sets).tree["reviser"])
        assert made.revise(PROMPT, CRITIQUE, HAND).prompt == f"{GOOD}, {PROMPT}"
        assert "HTTP 500" in made.revise(PROMPT, CRITIQUE, HAND).note
    assert story.bodies[0]["seed"] == 1


def test_nodes_within_the_reviser_are_checked() -> None:
    with pytest.raises(ConfigError) as raised:
        config.load(["painter"], ["reviser=llm", "reviser.chat={use: endpoint, url: 3, modle: x}", "reviser.most_words=few"])
    text = "\n".join(raised.value.faults)
    for hint in ("Did you mean 'reviser.chat.model'", "reviser.chat.model is required", "reviser.most_words is 'few'"):
        assert hint in text


@pytest.mark.parametrize("chat", [Says(wrapped("a black box made whole")), Says(AnswerError("no server"))])
def test_the_note_is_in_the_record_and_in_its_file(chat: Chat, tmp_path: Path) -> None:
    target = picture(4)
    models = Models(Painter(target, [(8, 8, 24, 24)]), Spotter(target), (Smoothness(),), Rewriter(chat))
    [story] = loop.run(["a smooth picture"], [1], models=models, budget=Budget(rounds=1))
    action = story.rounds[0].attempts[0].action
    assert isinstance(action, Inpaint)
    failed = isinstance(chat, Says) and isinstance(chat.answer, Exception)
    assert action.note == ("Template used: no server" if failed else "")
    assert record.action_json(action)["note"] == action.note


def test_a_negative_prompt_beyond_the_budget_is_noted() -> None:
    target = picture(4)
    long = Region(np.ones((48, 80), bool), "box", ". ".join(f"The part{n} is fused" for n in range(15)))

    class Talks:
        def inspect(self, images: Sequence[object]) -> list[Critique]:
            return [Critique((80, 48), (long,)) for _ in images]

    models = Models(Painter(target, [(8, 8, 24, 24)]), Talks(), (Smoothness(),), TEMPLATE)
    [story] = loop.run(["a smooth picture"], [1], models=models, budget=Budget(rounds=1))
    action = story.rounds[0].attempts[0].action
    assert len(action.negative_prompt.split()) == 20  # type: ignore[union-attr]
    assert action.note.startswith("the negative prompt's end is not read: 'fused part10")  # type: ignore[union-attr]
