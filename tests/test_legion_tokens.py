"""The tokenizer: rules of the original, files, and the words of small worlds."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest
from legion_parts import GOLDEN, tokenizer

from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.tokens import ADDED, LegionTokenizer, read_sentencepiece
from refine.errors import CheckpointError, InputError


def golden() -> LegionTokenizer:
    return LegionTokenizer.from_pretrained(GOLDEN / "ckpt")


def test_added_tokens_follow_the_pieces_in_order() -> None:
    assert [golden().id(tag) for tag in ADDED] == list(range(480, 487))
    assert len(golden()) == 487


def test_whitespace_around_a_tag_is_dropped() -> None:
    words = golden()
    assert words.encode("in <p> the \n</p>  [SEG] :a") == words.encode("in<p>the</p>[SEG]:a")


def test_text_after_a_tag_starts_like_a_word() -> None:
    words = golden()
    the = words.encode("the", bos=False)
    assert words.encode("<p>the", bos=False) == [words.id("<p>"), *the]
    assert words.encode("</s>the", bos=False) == [2, *the]


def test_unknown_characters_become_bytes_and_come_back() -> None:
    words = golden()
    assert words.decode(words.encode("漢 é\n the")) == "漢 é\n the"


def test_empty_texts() -> None:
    assert golden().encode("") == [1]
    assert golden().encode("  ", bos=False) == []
    assert golden().decode([]) == ""


def test_words_are_one_token_and_the_rest_is_spelled() -> None:
    words = tokenizer()
    assert len(words.encode("<p> the red cube </p> [SEG]", bos=False)) == 6
    assert words.decode(words.encode("the cubes point 3 ways.")) == "the cubes point 3 ways."


def test_saved_tokenizer_comes_back(tmp_path: Path) -> None:
    golden().save_pretrained(tmp_path)
    again = LegionTokenizer.from_pretrained(tmp_path)
    text = "<p> the division of </p> [SEG]: é and  more"
    assert again.encode(text) == golden().encode(text)


def test_missing_tag_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"no token '\[SEG\]'"):
        LegionTokenizer(tokenizer().pieces, {"<p>": 99}).id("[SEG]")


def test_folder_without_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No tokenizer"):
        LegionTokenizer.from_pretrained(tmp_path)


@pytest.mark.parametrize("cut", [1, 100, 5000])
def test_truncated_model_file(tmp_path: Path, cut: int) -> None:
    data = (GOLDEN / "ckpt" / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer.model").write_bytes(data[:cut])
    try:
        LegionTokenizer.from_pretrained(tmp_path)
    except CheckpointError as error:
        assert "cannot be read" in str(error)
    else:  # cut exactly between two pieces
        pytest.fail("a truncated tokenizer was read")


def test_foreign_file_is_refused() -> None:
    with pytest.raises((ValueError, IndexError, KeyError)):
        read_sentencepiece(b"\x89PNG\r\n\x1a\n")


def test_normalizer_that_rewrites_is_refused() -> None:
    piece = b"\x0a\x05\x0a\x03<s>"
    normalizer = bytes([0x1A, 4, 0x12, 2]) + b"xy"
    with pytest.raises(ValueError, match="rewrites"):
        read_sentencepiece(piece + normalizer)


def test_merges_take_the_best_score_then_the_leftmost() -> None:
    texts = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("▁", -9.0, 1), ("a", -9.0, 1), ("aa", -1.0, 1), ("▁a", -2.0, 1)]
    words = LegionTokenizer(texts, {"[SEG]": 7})
    assert words.encode("aaa", bos=False) == [3, 5, 4]


def test_scores_survive_the_file() -> None:
    data = b"".join(_piece(t, s, k) for t, s, k in [("<unk>", 0.0, 2), ("ab", -1.5, 1)])
    assert read_sentencepiece(data) == ([("<unk>", 0.0, 2), ("ab", -1.5, 1)], True)


def _piece(text: str, score: float, kind: int) -> bytes:
    body = bytes([0x0A, len(text)]) + text.encode() + b"\x15" + struct.pack("<f", score) + bytes([0x18, kind])
    return bytes([0x0A, len(body)]) + body


def test_placeholder_in_the_users_text_is_refused() -> None:
    processor = LegionProcessor(golden())
    with pytest.raises(InputError, match="reserved word"):
        processor.prompt_ids("what is <image> here?")


def test_processor_wants_one_image_and_a_side_that_fits() -> None:
    with pytest.raises(CheckpointError, match="exactly once"):
        LegionProcessor(golden(), template="no image")
    with pytest.raises(CheckpointError, match="sam_side is 2048"):
        LegionProcessor(golden(), sam_side=2048)


def test_added_tokens_file_may_be_absent(tmp_path: Path) -> None:
    shutil.copy(GOLDEN / "ckpt" / "tokenizer.model", tmp_path)
    assert LegionTokenizer.from_pretrained(tmp_path).added == golden().added
