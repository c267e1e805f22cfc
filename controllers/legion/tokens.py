"""The tokens of a LEGION checkpoint, exactly as its training saw them (LLaMA's SentencePiece, transformers 4.28, slow, legacy).

Rules: text is cut at the added tokens, whitespace on both sides of an added token is dropped, and every remaining piece is encoded by
itself with a leading space. Later versions of transformers cut differently and shift every id after the first tag. Needs neither
``sentencepiece`` nor ``protobuf``: the model file is read here.
"""

from __future__ import annotations

import json
import re
import string
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from refine.errors import CheckpointError, InputError

ADDED = ("<im_start>", "<im_end>", "<bbox>", "<point>", "[SEG]", "<p>", "</p>")  # in the order of their ids
SPACE = "▁"
NORMAL, UNKNOWN, CONTROL, WHOLE, UNUSED, BYTE = range(1, 7)  # SentencePiece's piece types; WHOLE is its "user defined"
FILE = "legion_tokenizer.json"
CHARACTERS = string.ascii_letters + string.digits + ".,:;!?'()-/"

Piece = tuple[str, float, int]  # text, log score, type


class LegionTokenizer:
    """Text to ids and back. ``pieces`` in id order; ``added`` maps tags to the ids that follow them."""

    def __init__(self, pieces: Sequence[Piece], added: Mapping[str, int], collapse_spaces: bool = False) -> None:
        self.pieces, self.added, self.collapse_spaces = list(pieces), dict(added), collapse_spaces
        self._ids = {text: i for i, (text, _, _) in enumerate(pieces)}
        self._names = {i: tag for tag, i in self.added.items()}
        self._controls = {text: i for i, (text, _, kind) in enumerate(pieces) if kind in (CONTROL, UNKNOWN)}
        tags = sorted((*self.added, *self._controls), key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(map(re.escape, tags)) + ")")
        whole = sorted((text for text, _, kind in pieces if kind == WHOLE), key=len, reverse=True)
        self._whole = re.compile("(" + "|".join(map(re.escape, whole)) + ")") if whole else None
        inner = any(SPACE in text.lstrip(SPACE) for text, _, kind in pieces if kind == NORMAL)
        self._word = re.compile(r"(?s).+" if inner else f"{SPACE}*[^{SPACE}]+|{SPACE}+")
        self._bytes = [self._ids.get(f"<0x{b:02X}>") for b in range(256)]
        self.unk_id = next((i for i, (_, _, kind) in enumerate(pieces) if kind == UNKNOWN), 0)
        self.bos_id, self.eos_id, self.pad_id = self._ids["<s>"], self._ids["</s>"], self.unk_id
        self._encode_word = lru_cache(maxsize=65536)(self._merge_word)

    def __len__(self) -> int:
        """The vocabulary's size, added tokens included."""
        return max(len(self.pieces), *(i + 1 for i in self.added.values()))

    def id(self, tag: str) -> int:
        """The id of an added token such as ``[SEG]``."""
        if tag not in self.added:
            raise CheckpointError(f"The tokenizer has no token {tag!r}, only {', '.join(self.added)}. Give a LEGION or GLaMM checkpoint.")
        return self.added[tag]

    def encode(self, text: str, bos: bool = True) -> list[int]:
        """Ids of one side of a prompt, or of an answer (``bos=False``)."""
        parts = self._cut.split(text)  # text, tag, text, tag, ..., text
        ids = [self.bos_id] if bos else []
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self.added[part] if part in self.added else self._controls[part])
                continue
            part = part.lstrip() if i and parts[i - 1] in self.added else part
            part = part.rstrip() if i + 1 < len(parts) and parts[i + 1] in self.added else part
            ids.extend(self._encode_text(part))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text. Tags are spelled out with a space on both sides, control tokens are left out."""
        return re.sub(" +", " ", "".join(self._spans(ids))).strip()

    def _spans(self, ids: Iterable[int]) -> Iterator[str]:
        held = b""
        for i in ids:
            text, kind = (self.pieces[i][0], self.pieces[i][2]) if i < len(self.pieces) else (self._names.get(i, ""), WHOLE)
            if kind == BYTE:
                held += bytes([int(text[3:5], 16)])
                continue
            if held:
                yield held.decode("utf-8", "replace")
                held = b""
            if i in self._names:
                yield f" {text} "
            elif kind not in (CONTROL, UNKNOWN):
                yield text.replace(SPACE, " ")
        yield held.decode("utf-8", "replace")

    def _encode_text(self, text: str) -> list[int]:
        if self.collapse_spaces:
            text = re.sub(" +", " ", text).strip(" ")
        if not text:
            return []
        words = self._word.findall(SPACE + text.replace(" ", SPACE))
        return [i for word in words for i in self._encode_word(word)]

    def _merge_word(self, word: str) -> tuple[int, ...]:
        """Byte-pair merging by score: the best neighbouring pair first, the leftmost of equals; unknown characters become bytes."""
        parts, fixed = self._start(word)
        while True:
            best, where = float("-inf"), -1
            for k in range(len(parts) - 1):
                index = None if fixed[k] or fixed[k + 1] else self._ids.get(parts[k] + parts[k + 1])
                if index is not None and self.pieces[index][2] == NORMAL and self.pieces[index][1] > best:
                    best, where = self.pieces[index][1], k
            if where < 0:
                return tuple(i for part in parts for i in self._ids_of(part))
            parts[where : where + 2] = [parts[where] + parts[where + 1]]
            fixed[where : where + 2] = [False]

    def _start(self, word: str) -> tuple[list[str], list[bool]]:
        """Characters, with whole-word pieces already cut out and fixed."""
        if self._whole is None:
            return list(word), [False] * len(word)
        parts: list[str] = []
        fixed: list[bool] = []
        for i, span in enumerate(self._whole.split(word)):
            parts.extend([span] if i % 2 else span)
            fixed.extend([True] if i % 2 else [False] * len(span))
        return parts, fixed

    def _ids_of(self, part: str) -> list[int]:
        if part in self._ids:
            return [self._ids[part]]
        spelled = [self._bytes[b] for b in part.encode()]
        return [i for i in spelled if i is not None] if None not in spelled else [self.unk_id]

    # Files

    @classmethod
    def from_words(cls, words: Iterable[str], characters: str = CHARACTERS) -> LegionTokenizer:
        """One id for each given word (as it follows a space), single characters for the rest: for small worlds and tests."""
        pieces: list[Piece] = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), (SPACE, 0.0, NORMAL)]
        pieces += [(character, 0.0, NORMAL) for character in characters]
        pieces += [(SPACE + word, 0.0, WHOLE) for word in sorted(set(words))]
        return cls(pieces, {tag: len(pieces) + k for k, tag in enumerate(ADDED)}, collapse_spaces=True)

    @classmethod
    def from_pretrained(cls, folder: Path) -> LegionTokenizer:
        """Our own file, or ``tokenizer.model`` with ``added_tokens.json`` as the published checkpoints have them."""
        own, foreign = folder / FILE, folder / "tokenizer.model"
        try:
            if own.exists():
                saved = json.loads(own.read_text("utf-8"))
                return cls([(t, s, k) for t, s, k in saved["pieces"]], saved["added"], saved["collapse_spaces"])
            if foreign.exists():
                pieces, collapse = read_sentencepiece(foreign.read_bytes())
                path = folder / "added_tokens.json"
                added = json.loads(path.read_text("utf-8")) if path.exists() else {t: len(pieces) + k for k, t in enumerate(ADDED)}
                return cls(pieces, dict(sorted(added.items(), key=lambda item: item[1])), collapse)
        except (ValueError, KeyError, IndexError, struct.error) as error:
            raise CheckpointError(f"The tokenizer in {folder} cannot be read ({error}). Fetch {FILE} or tokenizer.model again.") from error
        raise CheckpointError(f"No tokenizer in {folder}: expected {FILE} or tokenizer.model. Point to the whole checkpoint folder.")

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        saved = {"collapse_spaces": self.collapse_spaces, "added": self.added, "pieces": self.pieces}
        (folder / FILE).write_text(json.dumps(saved, ensure_ascii=False), "utf-8")


def check_text(text: str, what: str) -> str:
    """Refuse the image placeholder inside a text of the user's: it would be read as a second image."""
    if "<image>" in text:
        raise InputError(f"The {what} holds the reserved word '<image>': {text[:60]!r}. Take it out.")
    return text


# SentencePiece's file is a protocol buffer. Fields: 1 piece {1 text, 2 score, 3 type}, 3 normalizer {1 name, 2 rewritings, 4 collapse}


def read_sentencepiece(data: bytes) -> tuple[list[Piece], bool]:
    """Pieces in id order, and whether runs of spaces are collapsed. Raises ValueError on a foreign file."""
    pieces: list[Piece] = []
    collapse = True
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            pieces.append(_piece(value))
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
            if normalizer.get(2):
                raise ValueError(f"its normalizer {normalizer.get(1)!r} rewrites characters, LLaMA's does not")
            collapse = bool(normalizer.get(4, 1))
    if not pieces:
        raise ValueError("it holds no pieces")
    return pieces, collapse


def _piece(data: bytes) -> Piece:
    fields = dict(_fields(data))
    text, score = fields[1], fields.get(2, b"\0\0\0\0")
    if not isinstance(text, bytes) or not isinstance(score, bytes):
        raise ValueError("a piece has a field of the wrong type")
    return text.decode("utf-8"), float(struct.unpack("<f", score)[0]), int(fields.get(3, NORMAL))


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of one protocol-buffer message: ints for varints, bytes for everything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"byte {at} is not a protocol buffer's")
        if at + size > len(data):
            raise ValueError("the file is cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
