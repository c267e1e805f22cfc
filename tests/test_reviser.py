"""Repair prompts name what should be there; defects go to the negative prompt."""

import numpy as np
import pytest

from refine.reviser import DEFECT_WORDS, TemplateReviser, positive
from refine.types import Critique, Region

MASK = np.ones((3, 5), bool)
HAND = Region(MASK, "distorted left hand", "The fingers are fused and the thumb is missing.", "structure")
CRITIQUE = Critique((5, 3), (HAND, Region(MASK, "the shadow", "It falls towards the light.")))


@pytest.mark.parametrize(
    ("phrase", "clean"),
    [
        ("distorted left hand", "left hand"),
        ("missing", ""),
        ("the warped", ""),
        ("the red cube's shadow", "the red cube's shadow"),
        ("", ""),
    ],
)
def test_defect_words_leave_the_phrase(phrase: str, clean: str) -> None:
    assert positive(phrase) == clean


def test_a_region_is_named_and_its_defects_are_negated() -> None:
    revision = TemplateReviser(quality="").revise("a woman waving", CRITIQUE, HAND)
    assert revision.prompt == "left hand, a woman waving"
    assert revision.negative_prompt == "distorted fused missing left hand"
    assert not DEFECT_WORDS & set(revision.prompt.split())


def test_a_redraw_keeps_the_prompt() -> None:
    assert TemplateReviser().revise("a woman waving", CRITIQUE, None).prompt.startswith("a woman waving, ")


def test_a_closed_vocabulary_gets_the_prompt_alone() -> None:
    revision = TemplateReviser(phrase=False, negative=False, quality="").revise("a red cube", CRITIQUE, HAND)
    assert (revision.prompt, revision.negative_prompt) == ("a red cube", "")
