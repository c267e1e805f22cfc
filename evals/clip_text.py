"""Text to CLIP token ids, with the cleaning that the original tokenizer does and transformers' leaves out."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import ftfy
import torch
from tokenizers import normalizers
from torch import Tensor
from transformers import CLIPTokenizer

from refine.embedded import WEIGHTS

MERGES = WEIGHTS / "openai" / "clip_bpe" / "merges.txt"
OPENAI_SIZE = 49408
START, END = "<|startoftext|>", "<|endoftext|>"


def clean(prompt: str) -> str:
    """Mend mojibake, undo HTML escapes (twice, as the original does), collapse white space, lower the case."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return " ".join(text.split()).lower()


def as_written(prompt: str) -> str:
    """The prompt unchanged: transformers' tokenizer lowers the case and composes characters itself."""
    return prompt


def original(tokenizer: CLIPTokenizer) -> CLIPTokenizer:
    """A copy that takes a cleaned text as it is. Transformers' own composes characters first (NFC), which the original does not: it would
    join a letter and an accent that HTML escapes brought in one by one."""
    copied = deepcopy(tokenizer)
    copied.backend_tokenizer.normalizer = normalizers.Sequence([])
    return copied


def token_ids(tokenizer: CLIPTokenizer, cleaned: Sequence[str], length: int) -> Tensor:
    """(B, n) int64, n <= ``length``: start, text, end, then zeros; a text that is too long is cut and still closed by end.

    Columns that are padding in every row are left out: the text tower is causal, so they change nothing.
    """
    rows = [_ids(tokenizer, text)[: length - 2] for text in cleaned]
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    ids = torch.zeros(len(rows), max(map(len, rows)) + 2, dtype=torch.int64)
    for k, row in enumerate(rows):
        ids[k, : len(row) + 2] = torch.tensor([start, *row, end])
    return ids


def _ids(tokenizer: CLIPTokenizer, text: str) -> list[int]:
    """Ids of the text alone; a special token spelled out in a prompt is ordinary text."""
    ids: list[int] = tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    return ids


@cache
def openai_tokenizer() -> CLIPTokenizer:
    """CLIP's own 49,408-token vocabulary, from the merges that ship with the package."""
    merges = MERGES.read_text(encoding="utf-8").splitlines()
    return bpe_tokenizer([(left, right) for left, right in (line.split() for line in merges)])


def bpe_tokenizer(merges: Iterable[tuple[str, str]], length: int = 77) -> CLIPTokenizer:
    """CLIP's tokenizer over any ordered merges: 256 bytes, the same at a word's end, one entry per merge, start, end."""
    letters, merges = byte_letters(), list(merges)
    tokens = [*letters, *(letter + "</w>" for letter in letters), *(left + right for left, right in merges), START, END]
    ids = {token: k for k, token in enumerate(tokens)}
    spelled: Any = merges  # annotated as strings upstream, yet pairs are what the tokenizer takes
    return CLIPTokenizer(vocab=ids, merges=spelled, model_max_length=length)


def byte_letters() -> list[str]:
    """One printable character for each byte, in the order of CLIP's vocabulary (GPT-2's byte alphabet)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + k) for k in range(hidden)]
