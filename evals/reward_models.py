"""The embedded reward models before training: real classes, small sizes, their own vocabularies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from transformers import (
    BertTokenizer,
    BlipTextConfig,
    BlipVisionConfig,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from refine.evals.clip_text import bpe_tokenizer, byte_letters
from refine.evals.imagereward import ImageRewardModel
from refine.evals.reward_data import PATCH, SIDE
from refine.stilllife.captions import VOCABULARY

TEXT_LENGTH = 56
WIDTH = 128
# The vision towers have the sizes of the trunk that they begin with.
VISION: Mapping[str, Any] = {
    "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 6, "num_attention_heads": 4, "image_size": SIDE,
    "patch_size": PATCH // 2,
}  # fmt: skip
TEXT: Mapping[str, Any] = {
    "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": TEXT_LENGTH
}


def make_clip(seed: int) -> tuple[CLIPModel, CLIPTokenizer]:
    """A CLIP of 2.1 M parameters for 128 × 128 pixels, with random weights."""
    tokenizer = bpe_tokenizer(word_merges(VOCABULARY), TEXT_LENGTH)
    text = CLIPTextConfig(
        **TEXT,
        vocab_size=len(tokenizer),
        hidden_act="gelu",
        projection_dim=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    vision = CLIPVisionConfig(**VISION, hidden_act="gelu", projection_dim=128)
    torch.manual_seed(seed)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)), tokenizer


def make_blip(seed: int) -> tuple[ImageRewardModel, BertTokenizer]:
    """An ImageReward of 2.5 M parameters for 128 × 128 pixels, with random weights."""
    vocabulary = bert_vocabulary(VOCABULARY)
    vision = BlipVisionConfig(**VISION, layer_norm_eps=1e-6, initializer_range=0.02)
    text = BlipTextConfig(
        **TEXT,
        vocab_size=len(vocabulary),
        encoder_hidden_size=WIDTH,
        bos_token_id=2,
        eos_token_id=3,
        sep_token_id=3,
        is_decoder=True,
    )
    torch.manual_seed(seed)
    model = ImageRewardModel(vision, text)
    for layer in model.mlp["layers"].modules():
        if isinstance(layer, nn.Linear):  # five default layers in a row would shrink the signal, and its gradient, to a hundredth
            nn.init.orthogonal_(layer.weight)
    return model, BertTokenizer(vocab={word: k for k, word in enumerate(vocabulary)})


def word_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, in order, after which every word is one token (Sennrich et al. 2016, without a stopping rule).

    The most frequent pair goes first; of equals, the first in the alphabet.
    """
    parts = [[*word[:-1], word[-1] + "</w>"] for word in sorted(set(words)) if all(letter in byte_letters() for letter in word)]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for part in parts for pair in pairwise(part)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        parts = [_merged(part, best) for part in parts]
    return merges


def _merged(part: list[str], pair: tuple[str, str]) -> list[str]:
    """The pair's occurrences in one word become one token, from left to right."""
    out: list[str] = []
    for token in part:
        if out and (out[-1], token) == pair:
            out[-1] += token
        else:
            out.append(token)
    return out


def bert_vocabulary(words: Sequence[str]) -> list[str]:
    """WordPiece entries: special tokens, the words, then single characters for everything else."""
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,'-!?"
    plain = [*words, *(c for c in characters if c not in words)]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *plain, *(f"##{c}" for c in characters)]
