"""A prompt reviser that lets a chat model say what should be there, and does not trust it: its words are checked, and added to the user's.

Without an answer that passes, the template's revision is taken and the reason noted in the record.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from refine.errors import AnswerError, ConfigError
from refine.replies import first_text, objects
from refine.reviser import TemplateReviser, content_words, joined, positive
from refine.types import Chat, Critique, Question, Region, Revision

NEGATIONS = frozenset("no not never none nothing without neither nor cannot avoid avoids avoiding lacks lacking".split())
TEMPLATE = TemplateReviser()

SYSTEM = (
    "You help to repair generated images. You are told what an image should show and what is wrong with one part of it. Say what that "
    "part looks like once it is right, as a photographer's caption would: visible facts, positive words, no 'no', 'not' or 'without', no "
    "mention of faults or repairs. Keep to the subject, the style and the light of the image's prompt. Answer with JSON and nothing else: "
    '{{"prompt": "at most {words} words"}}.'
)


@dataclass(frozen=True, slots=True)
class Rewriter:
    """A ``Reviser``: the chat model's description of the healthy part, then the user's prompt, word for word.

    chat: who is asked. most_words: longest description that is taken. The negative prompt is the template's.
    """

    chat: Chat
    most_words: int = 30

    def __post_init__(self) -> None:
        if self.most_words < 3:
            raise ConfigError(f"most_words is {self.most_words}; it must be at least 3.")

    def revise(self, prompt: str, critique: Critique, region: Region | None) -> Revision:
        """Repair prompt for a region, or for a whole new image. A chat model that fails costs a note, not the run."""
        plain = TEMPLATE.revise(prompt, critique, region)
        try:
            said = self.chat.ask([Question(question(prompt, critique, region), system=SYSTEM.format(words=self.most_words))])[0]
            words = description(said)
            fault = objection(words, prompt, region, self.most_words)
        except AnswerError as error:
            words, fault = "", str(error)
        if fault:
            return Revision(plain.prompt, plain.negative_prompt, f"Template used: {fault}")
        return Revision(joined(words, prompt), plain.negative_prompt)


def question(prompt: str, critique: Critique, region: Region | None) -> str:
    """What the chat model is asked: the user's prompt, the part and its fault, or all faults of an image that is drawn anew."""
    regions = (region,) if region is not None else critique.regions
    faults = [f"- {one.phrase}: {one.explanation or 'something is wrong with it'}" for one in regions]
    part = "The part and what is wrong with it" if region is not None else "The whole image is drawn again. What was wrong with it"
    return f"The image's prompt: {prompt}\n{part}:\n" + "\n".join(faults or [critique.summary or "- nothing in particular"])


def description(said: str) -> str:
    """The words under "prompt" of the first JSON object; empty where there are none."""
    return next((text for one in objects(said, ("prompt",)) or [] if (text := first_text(one, "prompt"))), "").strip(" .,;\"'")


def objection(words: str, prompt: str, region: Region | None, most: int) -> str:
    """Why a description cannot be taken; empty where it can."""
    listed = re.findall(r"[\w'-]+", words.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    if not listed:
        return "the answer holds no description."
    if len(listed) > most:
        return f"the description has {len(listed)} words, {most} are allowed."
    if negated := [word for word in listed if word in NEGATIONS or word.endswith("n't")]:
        return f"the description negates ({negated[0]!r}), which an image model reads as a wish."
    subject = content_words(positive(region.phrase) if region is not None else "") or content_words(prompt)
    if subject and not subject & content_words(words):
        return f"the description leaves the subject: none of {', '.join(sorted(subject))} is in it."
    return ""


def through_endpoint(
    url: str,
    model: str,
    *,
    key_env: str | None = None,
    most_words: int = 30,
    max_tokens: int = 256,
    connect_timeout: float = 5.0,
    timeout: float = 60.0,
    retries: int = 4,
    extra: Mapping[str, Any] | None = None,
) -> Rewriter:
    """A rewriter that asks a server (see ``refine.chats.endpoint.Endpoint`` for the arguments)."""
    from refine.chats.endpoint import Endpoint

    chat = Endpoint(
        url,
        model,
        key_env=key_env,
        max_tokens=max_tokens,
        connect_timeout=connect_timeout,
        timeout=timeout,
        retries=retries,
        extra=extra or {},
    )
    return Rewriter(chat, most_words)
