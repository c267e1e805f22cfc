"""Tiny real LEGION models for tests: built in code with random weights, or read from the golden checkpoint."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Unpack

import numpy as np
import PIL.Image
import torch
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from refine.controllers.legion.census import Report
from refine.controllers.legion.checkpoint import Parts, build, plan
from refine.controllers.legion.configuration import LegionConfig
from refine.controllers.legion.files import tensors, weight_files
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.tokens import LegionTokenizer

GOLDEN = Path(__file__).parent / "data" / "legion_tiny"
WORDS = ("a", "the", "red", "cube", "shadow", "points", "wrong", "way", "physics", "structure", "found", "no", "artifacts")


def tokenizer() -> LegionTokenizer:
    return LegionTokenizer.from_words(WORDS)


def config(detector: int = 16) -> LegionConfig:
    """About 60 thousand weights: CLIP at 32 px, SAM at 64 px."""
    words = tokenizer()
    sam = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=8, window_size=4,
            global_attn_indexes=[1], output_channels=16, num_pos_feats=8, initializer_range=0.02,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16, layer_norm_eps=1e-5
        ),
    )  # fmt: skip
    clip = CLIPVisionConfig(
        hidden_size=24, intermediate_size=48, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
    )
    llama = LlamaConfig(
        vocab_size=len(words), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, initializer_range=0.3
    )
    return LegionConfig(
        clip_config=clip, llama_config=llama, sam_config=sam, seg_token_id=words.id("[SEG]"), detector_hidden=detector
    )


@cache
def tiny() -> tuple[LegionModel, LegionProcessor]:
    """A random model that likes tags: some of its answers hold [SEG], some end early, some hold nothing."""
    torch.manual_seed(4)
    model = LegionModel(config()).eval()
    model.llm.lm_head.weight.data[[tokenizer().id(tag) for tag in ("<p>", "</p>", "[SEG]")]] *= 3
    template = "the <im_start><image><im_end> {instruction} found"
    return model, LegionProcessor(tokenizer(), clip_side=32, sam_side=64, sam_canvas=64, template=template, instruction="no artifacts")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a weight file, or of a folder of them."""
    return {key: value for file in weight_files(path) for key, value in tensors(file)}


def load_original(source: Path, **parts: Unpack[Parts]) -> tuple[LegionModel, LegionProcessor, Report]:
    """A published checkpoint as a model and its processor, with a report of what was read."""
    made = plan(source, **parts)
    return build(made), made.processor, made.report


@cache
def golden() -> tuple[LegionModel, LegionProcessor, Report]:
    """The golden checkpoint through the reader of published checkpoints, SAM at 1024."""
    return load_original(
        GOLDEN / "ckpt", clip=GOLDEN / "clip", detector=GOLDEN / "prediction_head.bin", sam_side=1024, sam_decoder_heads=2
    )


def picture(seed: int, width: int = 80, height: int = 48) -> PIL.Image.Image:
    """Random blocks, so that no two seeds look alike."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 10, 3), np.uint8)
    return PIL.Image.fromarray(blocks).resize((width, height), PIL.Image.Resampling.NEAREST)
