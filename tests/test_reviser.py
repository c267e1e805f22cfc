"""Repair prompts name what should be there; defects go to the negative prompt."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.reviser import CLAUSE_WORDS, DEFECT_WORDS, GENERAL_WORDS, TemplateReviser, blame, content_words, joined, positive
from refine.types import Category, Critique, Region

MASK = np.ones((3, 5), bool)
HAND = Region(MASK, "distorted left hand", "The fingers are fused and the thumb is missing.", "structure")
CRITIQUE = Critique((5, 3), (HAND, Region(MASK, "the shadow", "It falls towards the light.")))
WORDS = st.sampled_from(sorted({"hand", "red", "cube", "a", "the", "and", "of", "on", *DEFECT_WORDS, *CLAUSE_WORDS, *GENERAL_WORDS}))


@pytest.mark.parametrize(
    ("phrase", "clean"),
    [
        ("distorted left hand", "left hand"),
        ("missing", ""),
        ("the warped", ""),
        ("the red cube's shadow", "the red cube's shadow"),
        ("", ""),
        ("artifact", ""),
        ("a hand with six fingers", "a hand"),
        ("cup without a handle", "cup"),
        ("shadow that does not match the light", "shadow"),
        ("hand holding a fused and", "hand holding"),
        ("warped and text on the sign", "text on the sign"),
    ],
)
def test_the_fault_leaves_the_phrase(phrase: str, clean: str) -> None:
    assert positive(phrase) == clean


@pytest.mark.parametrize(
    ("phrase", "explanation", "category", "terms"),
    [
        (HAND.phrase, HAND.explanation, None, ["distorted left hand", "fused fingers", "missing thumb"]),
        ("sign", "The text is unreadable, and the letters look garbled.", None, ["unreadable text", "garbled letters"]),
        ("face", "Blurred and distorted facial features.", None, ["blurred facial features", "distorted facial features"]),
        ("hand", "It has an extra finger, unnaturally bent.", None, ["extra finger", "bent hand"]),
        ("left arm", "Structural artifact: an unnatural fused shape.", None, ["unnatural shape", "fused shape"]),
        ("a shadow", "It falls towards the light.", "physics", ["implausible shadow"]),
        ("a shadow", "It falls towards the light.", None, []),
        ("", "", "structure", []),
    ],
)
def test_the_fault_is_named_with_its_thing(phrase: str, explanation: str, category: Category | None, terms: list[str]) -> None:
    assert blame(Region(MASK, phrase, explanation, category)) == terms


@given(st.lists(WORDS, max_size=8).map(" ".join))
def test_no_fault_and_no_negation_reaches_the_positive_prompt(phrase: str) -> None:
    revision = TemplateReviser(quality="").revise("PROMPT", CRITIQUE, Region(MASK, phrase))
    told = set(re.findall(r"[\w'-]+", revision.prompt.lower()))
    assert not told & (DEFECT_WORDS | CLAUSE_WORDS | GENERAL_WORDS)


@given(st.text(alphabet="ab ,.!", min_size=1, max_size=20).filter(lambda text: text.strip(" .,;") != ""))
def test_the_users_words_are_kept(prompt: str) -> None:
    assert prompt.strip().rstrip(" .,;") in TemplateReviser().revise(prompt, CRITIQUE, HAND).prompt


def test_a_region_is_named_and_its_defects_are_negated() -> None:
    revision = TemplateReviser(quality="").revise("a woman waving", CRITIQUE, HAND)
    assert revision.prompt == "left hand, a woman waving"
    assert revision.negative_prompt == "distorted left hand, fused fingers, missing thumb"


def test_a_redraw_keeps_the_prompt_and_negates_every_fault() -> None:
    revision = TemplateReviser().revise("a woman waving.", CRITIQUE, None)
    assert revision.prompt == "a woman waving, natural, coherent, high detail"
    assert "fused fingers" in revision.negative_prompt


def test_a_closed_vocabulary_gets_the_prompt_alone() -> None:
    revision = TemplateReviser(phrase=False, negative=False, quality="").revise("a red cube", CRITIQUE, HAND)
    assert (revision.prompt, revision.negative_prompt) == ("a red cube", "")


def test_parts_are_joined_without_empty_ones() -> None:
    assert joined("", "A dog. ", " ", "at night.") == "A dog, at night."


def test_content_words_have_no_plural_and_nothing_little() -> None:
    assert content_words("The glass hands of an ox") == {"glass", "hand"}
