"""The embedded reward models before training: real classes, small sizes, their own vocabularies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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
WHITEN_FLOOR, WHITEN_SCALE = 0.01, 0.3


def make_clip(seed: int) -> tuple[CLIPModel, CLIPTokenizer]:
    """A CLIP of 2.1 M parameters for 128 × 128 pixels, with random weights."""
    tokenizer = bpe_tokenizer(word_merges(VOCABULARY), TEXT_LENGTH)
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        hidden_act="gelu",
        projection_dim=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=0,
    )
    vision = CLIPVisionConfig(
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=5,
        image_size=SIDE,
        patch_size=PATCH,
        hidden_act="gelu",
        projection_dim=128,
    )
    torch.manual_seed(seed)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)), tokenizer


def make_blip(seed: int) -> tuple[ImageRewardModel, BertTokenizer]:
    """An ImageReward of 2.5 M parameters for 128 × 128 pixels, with random weights."""
    vocabulary = bert_vocabulary(VOCABULARY)
    vision = BlipVisionConfig(
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=5,
        image_size=SIDE,
        patch_size=PATCH,
        layer_norm_eps=1e-6,
        initializer_range=0.02,
    )
    text = BlipTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=128,
        encoder_hidden_size=160,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
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


@torch.no_grad()
def whiten(embeddings: nn.Module, pixels: Tensor) -> None:
    """Start the patch embedding as PCA whitening of the patches of (N, 3, H, W) normalised pictures.

    Every token then starts with the same share of fine detail as of flat colour; from random filters, detail is a hundred times
    weaker, and damage is detail. The mean patch is taken off in the position embedding, which works with and without a bias.
    """
    filters, positions = _parameter(embeddings, "patch_embedding.weight"), _positions(embeddings)
    patches = F.unfold(pixels, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    count = len(filters)
    whitening = (vectors[:, -count:] / (values[-count:] + WHITEN_FLOOR).sqrt()).T
    spread = torch.linalg.qr(torch.randn(count, count))[0]  # no token dimension stands for one frequency alone
    filters.copy_((spread @ whitening * WHITEN_SCALE).view_as(filters))
    positions[1:] -= filters.flatten(1) @ mean


def _positions(embeddings: nn.Module) -> Tensor:
    """(1 + P, width) view of the position embedding: CLIP keeps an embedding layer, BLIP a parameter (1, 1 + P, width)."""
    names = dict(embeddings.named_parameters())
    return names["position_embedding.weight"] if "position_embedding.weight" in names else names["position_embedding"][0]


def _parameter(module: nn.Module, name: str) -> Tensor:
    return dict(module.named_parameters())[name]


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
