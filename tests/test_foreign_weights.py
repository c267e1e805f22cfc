"""Weights that were cut short on their way, or do not fit: every loader says so in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import legion_parts
import pytest
import tiny_chats
import tiny_pipelines
import torch
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, SamConfig, SamModel
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from refine.chats.local import LocalChat
from refine.controllers.graders import ClipGrader
from refine.controllers.legion.controller import LegionController
from refine.controllers.sam import SamSegmenter
from refine.errors import CheckpointError, MissingDependency, loading
from refine.evals.sentences import MeanPooling
from refine.generators.adapter import DiffusersGenerator

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def sam(folder: Path) -> None:
    vision = {**SIZES, "mlp_dim": 16, "image_size": 32, "patch_size": 8, "output_channels": 16, "global_attn_indexes": [0]}
    prompt = {"hidden_size": 16, "image_size": 32, "patch_size": 8, "image_embedding_size": 4}
    SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=SIZES)).save_pretrained(folder)
    SamImageProcessorPil().save_pretrained(folder)


def clip(folder: Path) -> None:
    tower = CLIPConfig(text_config=SIZES, vision_config={**SIZES, "image_size": 32, "patch_size": 16}, projection_dim=16)
    CLIPModel(tower).save_pretrained(folder)
    tiny_pipelines.clip_tokenizer().save_pretrained(folder)


def bert(folder: Path) -> None:
    BertModel(BertConfig(**SIZES, vocab_size=32)).save_pretrained(folder)


def legion(folder: Path) -> None:
    for part in legion_parts.tiny():
        part.save_pretrained(folder)


def diffusion(folder: Path) -> None:
    tiny_pipelines.build("sd").save_pretrained(folder)


def chat(folder: Path) -> None:
    tiny_chats.reader(folder)


LOADERS: list[tuple[Callable[[Path], None], Any]] = [
    (sam, SamSegmenter), (clip, ClipGrader), (bert, MeanPooling), (legion, LegionController), (diffusion, DiffusersGenerator),
    (chat, LocalChat),
]  # fmt: skip


@pytest.mark.parametrize(("save", "kind"), LOADERS, ids=lambda one: one.__name__)
def test_a_file_that_is_cut_short_is_a_checkpoint_error(save: Callable[[Path], None], kind: Any, tmp_path: Path) -> None:
    save(tmp_path)
    weights = sorted(tmp_path.rglob("*.safetensors"))
    assert weights
    for file in weights:
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(CheckpointError, match=f"^Cannot load .*{tmp_path.name}.*(Give|Fetch|Name)"):
            kind.from_pretrained(tmp_path, device="cpu")
        file.write_bytes(whole)


def test_only_others_errors_are_put_into_words() -> None:
    for other in (MissingDependency("that", "this"), torch.OutOfMemoryError("full"), KeyboardInterrupt()):
        with pytest.raises(type(other)), loading("a model"):
            raise other
    with pytest.raises(CheckpointError, match=r"^Cannot load a model: RuntimeError Give a folder, or a hub name\.$"), loading("a model"):
        raise RuntimeError
