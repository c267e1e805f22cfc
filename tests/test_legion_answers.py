"""Answers taken apart on their token stream."""

from __future__ import annotations

import pytest
from legion_parts import tokenizer

from refine.controllers.legion.answers import category_of, compose, read_answer

WORDS = tokenizer()


def read(text: str) -> tuple[str, list[tuple[str, str]]]:
    reading = read_answer([*WORDS.encode(text, bos=False), WORDS.eos_id], WORDS)
    return reading.summary, [(f.phrase, f.explanation) for f in reading.findings]


def test_findings_keep_their_order_and_their_words() -> None:
    text = "found a shadow. <p> the shadow </p> [SEG]:points the wrong way.<p> red cube </p> [SEG]:structure"
    assert read(text) == ("found a shadow.", [("the shadow", "points the wrong way."), ("red cube", "structure")])


def test_compose_is_the_inverse() -> None:
    findings = [("the shadow", "physics: points the wrong way."), ("cube", "structure.")]
    assert read(compose("found artifacts.", findings)) == ("found artifacts.", findings)


def test_no_seg_no_finding() -> None:
    assert read("no artifacts found.") == ("no artifacts found.", [])
    assert read("no <p> cube </p> found") == ("no found", [])


def test_equal_phrases_are_not_merged() -> None:
    assert read("<p> cube </p> [SEG]:red<p> cube </p> [SEG]:wrong")[1] == [("cube", "red"), ("cube", "wrong")]


def test_phrase_inside_another_explanation_does_not_confuse() -> None:
    assert read("<p> the shadow </p> [SEG]:cube: wrong<p> cube </p> [SEG]:red")[1] == [("the shadow", "cube: wrong"), ("cube", "red")]


def test_two_masks_of_one_phrase() -> None:
    assert read("<p> cube </p> [SEG] [SEG]:red")[1] == [("cube", ""), ("cube", "red")]


def test_broken_answers_are_read_as_far_as_they_go() -> None:
    assert read("[SEG]:red") == ("", [("", "red")])
    assert read("</p> [SEG] cube")[1] == [("", "cube")]
    assert read("<p> the <p> cube </p> [SEG]")[1] == [("cube", "")]
    assert read("<p> cube") == ("", [])
    assert read("") == ("", [])


def test_likelihoods_belong_to_their_tokens() -> None:
    ids = WORDS.encode("a <p> red cube </p> [SEG]", bos=False)
    (finding,) = read_answer(ids, WORDS, [-1.0, -2.0, -4.0, -6.0, -8.0, -0.5]).findings
    assert finding.seg_logprob == -0.5
    assert finding.phrase_logprob == -4.0  # the tag that opens it and its two words


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("Physical artifact: no shadow", "physics"),
        ("it violates physics", "physics"),
        ("Structural artifact", "structure"),
        ("distorted, not structural", "distortion"),
        ("a metaphysical cube", None),
        ("", None),
    ],
)
def test_category_is_the_first_one_named(text: str, category: str | None) -> None:
    assert category_of(text) == category
