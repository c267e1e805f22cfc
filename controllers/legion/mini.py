"""A LEGION of about six million weights that trains from nothing on one processor core: sizes, tokenizer, first weights.

Every part is the real class. What is small: images of 128 px, patches of 8 px in CLIP (256 tokens) and SAM (a 16 × 16
embedding, masks of 64 × 64), a LLaMA of four layers, and a vocabulary of whole words with characters to fall back on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig

from refine.controllers.legion.configuration import LegionConfig
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import TEMPLATE, LegionProcessor
from refine.controllers.legion.tokens import LegionTokenizer

SIDE = 128  # pixels of the input, for both encoders
WIDTH = 160  # of LLaMA
TOWER_WIDTH = 128  # of CLIP and SAM
TOWER_LAYERS = 6  # of SAM; CLIP has one more, behind the state that LEGION reads
# The shorter of the original's two wordings: half the prompt, and half the time, of a model this small.
SHORT_INSTRUCTION = (
    "Could you provide a detailed analysis of artifacts in this photo? Please output with interleaved segmentation masks for the "
    "corresponding parts of the answer."
)
WORD = re.compile(r"[A-Za-z]+")
CHARACTERS = "".join(map(chr, range(33, 127))) + "\n"


def mini_config(vocabulary: int, seg_token_id: int) -> LegionConfig:
    """Sizes of the mini model for a tokenizer of ``vocabulary`` entries."""
    clip = CLIPVisionConfig(
        hidden_size=TOWER_WIDTH, intermediate_size=4 * TOWER_WIDTH, num_hidden_layers=TOWER_LAYERS + 1, num_attention_heads=4,
        image_size=SIDE, patch_size=8,
    )  # fmt: skip
    llama = LlamaConfig(
        vocab_size=vocabulary, hidden_size=WIDTH, intermediate_size=384, num_hidden_layers=4, num_attention_heads=5,
        num_key_value_heads=5, max_position_embeddings=1024, rms_norm_eps=1e-5, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return LegionConfig(
        clip_config=clip,
        llama_config=llama,
        sam_config=_sam_config(),
        seg_token_id=seg_token_id,
        detector_hidden=256,
        attn_implementation={"sam_config": "eager"},  # windows this small train a third faster than with the fused kernels
    )


def _sam_config() -> SamConfig:
    """SAM at 128 px. Windows of half the embedding; blocks 2 and 5 see all of it, as every third does in the original."""
    vision: dict[str, Any] = {
        "hidden_size": TOWER_WIDTH, "mlp_dim": 4 * TOWER_WIDTH, "num_hidden_layers": TOWER_LAYERS, "num_attention_heads": 4,
        "image_size": SIDE, "patch_size": 8, "window_size": 8, "global_attn_indexes": [2, 5], "output_channels": TOWER_WIDTH,
        "num_pos_feats": TOWER_WIDTH // 2, "use_rel_pos": False, "initializer_range": 0.02,
    }  # fmt: skip
    prompt: dict[str, Any] = {
        "hidden_size": TOWER_WIDTH, "image_size": SIDE, "patch_size": 8, "image_embedding_size": SIDE // 8, "mask_input_channels": 8
    }
    decoder: dict[str, Any] = {
        "hidden_size": TOWER_WIDTH, "mlp_dim": 256, "num_attention_heads": 4, "iou_head_hidden_dim": 64, "layer_norm_eps": 1e-5
    }
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder, initializer_range=0.02)


def build_mini(tokenizer: LegionTokenizer, seed: int = 0) -> LegionModel:
    """A fresh mini model with drawn weights, in training mode."""
    torch.manual_seed(seed)
    config = mini_config(len(tokenizer), tokenizer.id("[SEG]"))
    model = LegionModel(config)
    _draw(model)
    model.train()
    return model


@torch.no_grad()
def _draw(model: LegionModel) -> None:
    """Draw SAM's weights again: the library leaves its encoder near zero, because nobody trains it from nothing there."""
    for module in model.sam.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.trunc_normal_(module.weight, std=min(0.05, (module.weight[0].numel()) ** -0.5))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(model.sam.vision_encoder.pos_embed, std=0.1)


def mini_processor(texts: Iterable[str]) -> LegionProcessor:
    """The processor of a mini model whose answers are made of ``texts``: one id for each word, characters for everything else.

    An explanation stands right behind the colon of its tag, so the words that open a text are kept with a colon too.
    """
    texts = list(texts)
    words = {word for text in (*texts, TEMPLATE, SHORT_INSTRUCTION) for word in WORD.findall(text)}
    openings = {":" + match.group() for text in texts if (match := WORD.match(text))}
    tokenizer = LegionTokenizer.from_words(words | openings, CHARACTERS)
    return LegionProcessor(tokenizer, clip_side=SIDE, sam_side=SIDE, sam_canvas=SIDE, instruction=SHORT_INSTRUCTION)
