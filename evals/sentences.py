"""CSS: how alike two texts are in meaning, as the cosine of their sentence embeddings (LEGION, arXiv 2503.15264, table 3).

The paper follows FakeShield with ``sentence-transformers/paraphrase-MiniLM-L6-v2``: a BERT whose last states are averaged over the
tokens. It reads 128 word pieces and no more, so the end of a long explanation does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from refine.errors import loading

PUBLISHED = "sentence-transformers/paraphrase-MiniLM-L6-v2"
PIECES = 128
Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Turns texts into vectors."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(N, D) float32, one row per text; the length of a row does not matter."""


class MeanPooling:
    """An ``Encoder``: a transformers model whose last hidden states are averaged over the text's tokens."""

    def __init__(self, model: Any, tokenizer: Any, pieces: int = PIECES) -> None:
        self._model, self._tokenizer, self._pieces = model.eval(), tokenizer, pieces

    @classmethod
    def from_pretrained(cls, source: str | Path = PUBLISHED, *, device: str = "cpu", pieces: int = PIECES) -> MeanPooling:
        """From a folder or a hub repository. Raises CheckpointError where that cannot be loaded."""
        from transformers import AutoModel, AutoTokenizer

        with loading(f"a sentence encoder from {str(source)!r}", f"Name a folder with the files of {PUBLISHED}."):
            model = AutoModel.from_pretrained(source)
            tokenizer = AutoTokenizer.from_pretrained(source)
        return cls(model.to(device), tokenizer, pieces)

    def encode(self, texts: Sequence[str]) -> Vectors:
        import torch

        given = self._tokenizer(list(texts), padding=True, truncation=True, max_length=self._pieces, return_tensors="pt")
        given = given.to(self._model.device)
        with torch.inference_mode():
            states = self._model(**given).last_hidden_state  # (N, T, D)
        weight = given["attention_mask"][..., None].to(states.dtype)
        pooled: Vectors = ((states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)).float().cpu().numpy()
        return pooled


def similarities(encoder: Encoder, ours: Sequence[str], theirs: Sequence[str]) -> list[float]:
    """Cosine in [-1, 1] of each pair of texts; an empty text is like nothing (0)."""
    if not ours:
        return []
    both = encoder.encode([*ours, *theirs]).astype(np.float64)
    length = np.linalg.norm(both, axis=1, keepdims=True)
    unit = both / np.where(length == 0, 1, length)
    cosines = (unit[: len(ours)] * unit[len(ours) :]).sum(1)
    return [float(cosine) if a.strip() and b.strip() else 0.0 for cosine, a, b in zip(cosines, ours, theirs, strict=True)]
