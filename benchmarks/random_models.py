"""Every model of a loop with random weights: the published sizes, or tiny ones of the same classes.

A network is built where it works and in its precision: no float32 copy, nothing through the processor's memory. What it makes is noise, so
two things are arranged: LEGION says a planted answer with one [SEG], and what it points at is a box in the middle. The work is that of real
weights: the same tensors are read and multiplied.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import diffusers
import numpy as np
import torch
import transformers
from torch import nn
from transformers import BertTokenizer, T5Tokenizer

from benchmarks import architectures
from benchmarks.architectures import Make
from refine.controllers.legion.controller import LegionController
from refine.controllers.legion.mini import SIDE, WORD, mini_config
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import INSTRUCTION, TEMPLATE, LegionProcessor
from refine.controllers.legion.tokens import ADDED, LegionTokenizer
from refine.evals.clip_text import openai_tokenizer
from refine.evals.hps import HPSv2
from refine.evals.imagereward import ImageReward, ImageRewardModel
from refine.evals.reward_models import bert_vocabulary
from refine.generators.adapter import DiffusersGenerator
from refine.types import Critique, Image, Region, Reward

Build = Callable[[str], Any]  # a network by its name in benchmarks.architectures
WORDS_OF_LLAMA = 32000  # LEGION's added tokens follow them
NARROW = 32


def build(makers: Mapping[str, Make], name: str, device: str, dtype: torch.dtype, home: str) -> Any:
    """A network made on ``device`` with weights from a seed that is its name, then sent to ``home``."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            network = makers[name]()
    finally:
        torch.set_default_dtype(usual)
    fill(network, zlib.crc32(name.encode()))
    return network.eval().requires_grad_(False).to(home)


@torch.no_grad()
def fill(network: nn.Module, seed: int) -> None:
    """Draw every matrix again, in place, with the deviation that keeps the size of what passes through it: one over the root of its
    inputs. Vectors (norms, biases) stay as they were made."""
    random = torch.Generator(next(network.parameters()).device).manual_seed(seed)
    for weight in network.parameters():
        if weight.dim() > 1:
            weight.normal_(0, weight[0].numel() ** -0.5, generator=random)


# Generators


def sdxl(make: Build) -> Any:
    return diffusers.StableDiffusionXLPipeline(
        vae=make("sd-vae"), unet=make("sdxl-unet"), text_encoder=make("clip-l"), text_encoder_2=make("clip-g"),
        tokenizer=openai_tokenizer(), tokenizer_2=openai_tokenizer(), add_watermarker=False,
        scheduler=diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
        ),
    )  # fmt: skip


def flux(make: Build) -> Any:
    letters = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz")]
    return diffusers.FluxPipeline(
        vae=make("flat-vae"), transformer=make("flux"), text_encoder=make("clip-l"), text_encoder_2=make("t5-xxl"),
        tokenizer=openai_tokenizer(), tokenizer_2=T5Tokenizer(vocab=letters, extra_ids=0, model_max_length=512),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )  # fmt: skip


PIPELINES: Mapping[str, Callable[[Build], Any]] = {"sdxl": sdxl, "flux": flux}


def generator(pipe: Any, node: Mapping[str, Any]) -> DiffusersGenerator:
    """With the numbers of a preset's node."""
    return DiffusersGenerator.from_pipe(pipe, **_chosen(node, "steps", "guidance_scale", "true_cfg_scale", "batch_size", "size"))


# The controller


@dataclass(frozen=True, slots=True, eq=False)
class Pointed:
    """A controller that looks and answers, and then finds one box in the middle, a ninth of the image, whatever it saw."""

    controller: LegionController

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [self._centred(critique) for critique in self.controller.inspect(images)]

    def _centred(self, critique: Critique) -> Critique:
        width, height = critique.size
        mask = np.zeros((height, width), np.bool_)
        mask[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] = True
        return Critique(critique.size, (Region(mask, "hand", "Random weights point at nothing.", "structure"),), critique.summary)


def legion(make: Build, node: Mapping[str, Any], tokens: int, tiny: bool) -> LegionController:
    """With the numbers of a preset's node; its answers are ``tokens`` long."""
    model, processor = make("legion"), reader(tiny)
    plant(model, answer(processor.tokenizer, tokens, processor.prompt_ids()[-1]), processor.prompt_ids()[-1])
    return LegionController(model, processor, **_chosen(node, "max_new_tokens", "mask_threshold", "batch_size", "sam_batch", "compiled"))


def reader(tiny: bool) -> LegionProcessor:
    """The published prompt, read by a tokenizer that knows its words; the added tokens have their published ids."""
    words = LegionTokenizer.from_words(WORD.findall(TEMPLATE + INSTRUCTION))
    tokenizer = LegionTokenizer(words.pieces, {tag: WORDS_OF_LLAMA + k for k, tag in enumerate(ADDED)}, collapse_spaces=True)
    return LegionProcessor(tokenizer, SIDE, SIDE, SIDE) if tiny else LegionProcessor(tokenizer)


def answer(tokenizer: LegionTokenizer, length: int, avoid: int) -> list[int]:
    """Different ids, so that each has one successor: ``<p> word </p> [SEG] word word ... </s>``."""
    tags = {tokenizer.id(tag) for tag in ADDED}
    others = [i for i in range(tokenizer.eos_id + 1, WORDS_OF_LLAMA) if i != avoid and i not in tags]
    phrase = [tokenizer.id("<p>"), others[0], tokenizer.id("</p>"), tokenizer.id("[SEG]")]
    return [*phrase, *others[1 : length - len(phrase)], tokenizer.eos_id]


@torch.no_grad()
def plant(model: LegionModel, ids: Sequence[int], before: int) -> None:
    """Make the model say ``ids`` after a prompt that ends in ``before``.

    Embeddings are large and what the layers add is small, so that a state is all but the embedding of the last token; the head's row of a
    token is the embedding of the one it follows.
    """
    embeddings = model.llm.get_input_embeddings().weight
    embeddings.normal_(generator=torch.Generator(embeddings.device).manual_seed(0))
    for layer in model.llm.model.layers:
        for last in (layer.self_attn.o_proj, layer.mlp.down_proj):
            last.weight.mul_(last.in_features**-0.5)
    model.llm.lm_head.weight[list(ids)] = embeddings[[before, *ids[:-1]]]


# Rewards


def rewards(make: Build, nodes: Mapping[str, Mapping[str, Any]], home: str) -> tuple[Reward, ...]:
    """HPSv2 and ImageReward with the numbers of a preset's nodes."""
    bert = BertTokenizer(vocab={word: k for k, word in enumerate(bert_vocabulary(["portrait", "violinist"]))})
    shared = [{"device": home, **_chosen(nodes[name], "batch_size", "dtype")} for name in ("hps", "imagereward")]
    return HPSv2(make("hps"), openai_tokenizer(), **shared[0]), ImageReward(make("imagereward"), bert, **shared[1])


def _chosen(node: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: node[name] for name in names}


# The same classes, tiny. Vocabularies stay whole, so that both sizes share their tokenizers.


def tiny_vae(channels: int, **more: Any) -> nn.Module:
    return diffusers.AutoencoderKL(  # type: ignore[no-any-return]
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels, norm_num_groups=4, sample_size=32, **more,
    )  # fmt: skip


def tiny_unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(  # type: ignore[no-any-return]
        sample_size=16, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4, attention_head_dim=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=2 * NARROW, addition_embed_type="text_time", addition_time_embed_dim=8, use_linear_projection=True,
        projection_class_embeddings_input_dim=6 * 8 + NARROW,
    )  # fmt: skip


def tiny_flux() -> nn.Module:
    return diffusers.FluxTransformer2DModel(  # type: ignore[no-any-return]
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=NARROW, pooled_projection_dim=NARROW, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip


def tiny_clip(kind: Any) -> nn.Module:
    sizes = {"hidden_size": NARROW, "intermediate_size": 2 * NARROW, "num_hidden_layers": 2, "num_attention_heads": 2}
    return kind(transformers.CLIPTextConfig(**sizes, projection_dim=NARROW))  # type: ignore[no-any-return]


def tiny_t5() -> nn.Module:
    return transformers.T5EncoderModel(  # type: ignore[no-any-return]
        transformers.T5Config(d_model=NARROW, d_kv=8, d_ff=2 * NARROW, num_layers=1, num_heads=4, feed_forward_proj="gated-gelu")
    )


def tiny_hps() -> nn.Module:
    sizes = {"hidden_size": NARROW, "intermediate_size": 2 * NARROW, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    return transformers.CLIPModel(transformers.CLIPConfig(vision_config=vision, text_config=sizes, projection_dim=NARROW))  # type: ignore[no-any-return]


def tiny_imagereward() -> nn.Module:
    sizes = {"hidden_size": NARROW, "intermediate_size": 2 * NARROW, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = transformers.BlipVisionConfig(**sizes, image_size=32, patch_size=8)
    return ImageRewardModel(vision, transformers.BlipTextConfig(**sizes, encoder_hidden_size=NARROW))


TINY: Mapping[str, Make] = {
    "sdxl-unet": tiny_unet, "flux": tiny_flux, "sd-vae": partial(tiny_vae, 4),
    "flat-vae": partial(tiny_vae, 4, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159),
    "clip-l": partial(tiny_clip, transformers.CLIPTextModel), "clip-g": partial(tiny_clip, transformers.CLIPTextModelWithProjection),
    "t5-xxl": tiny_t5, "legion": lambda: LegionModel(mini_config(WORDS_OF_LLAMA + len(ADDED), WORDS_OF_LLAMA + ADDED.index("[SEG]"))),
    "hps": tiny_hps, "imagereward": tiny_imagereward,
}  # fmt: skip


def makers(tiny: bool) -> Mapping[str, Make]:
    """Networks by name."""
    return TINY if tiny else architectures.MAKERS
