"""Pipelines of every family with real classes and random weights of a few hundred kilobytes, built in under a second each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from refine.generators.mini import build_tokenizer
from refine.stilllife.captions import VOCABULARY

WIDTH = 32
TOKENS = 24
T5_TOKENS = 160


def build(family: str) -> Any:
    """A fresh pipeline, equal on every call. ``family``: sd, sdxl, sd3 or flux."""
    torch.manual_seed(0)
    return FAMILIES[family]()


def clip_tokenizer() -> CLIPTokenizer:
    return build_tokenizer(VOCABULARY, TOKENS)


def t5_tokenizer() -> T5Tokenizer:
    """Letters and blanks: a token per character."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0), *((letter, -2.0) for letter in "abcdefghijklmnopqrstuvwxyz,")]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=T5_TOKENS)


def clip(tokenizer: CLIPTokenizer, kind: Any) -> Any:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=37, projection_dim=WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=TOKENS, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, hidden_act="gelu",
    )  # fmt: skip
    return kind(config).eval()


def t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=40, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4)).eval()


def vae(channels: int, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=channels, norm_num_groups=4, sample_size=32, **more,
    ).eval()  # fmt: skip


def unet(**more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16, out_channels=4, layers_per_block=1, block_out_channels=(8, 16), norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=2, **{"in_channels": 4} | more,
    ).eval()  # fmt: skip


def ddim() -> DDIMScheduler:
    return DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)


def _sd() -> StableDiffusionPipeline:
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae(4), unet=unet(cross_attention_dim=WIDTH), text_encoder=clip(tokenizer, CLIPTextModel), tokenizer=tokenizer,
        scheduler=ddim(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sdxl() -> StableDiffusionXLPipeline:
    tokenizer = clip_tokenizer()
    network = unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8, use_linear_projection=True,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH, transformer_layers_per_block=(1, 1),
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=vae(4), unet=network, scheduler=ddim(), tokenizer=tokenizer, tokenizer_2=clip_tokenizer(),
        text_encoder=clip(tokenizer, CLIPTextModel), text_encoder_2=clip(tokenizer, CLIPTextModelWithProjection),
        add_watermarker=False,
    )  # fmt: skip


def _sd3() -> StableDiffusion3Pipeline:
    tokenizer = clip_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=WIDTH, joint_attention_dim=WIDTH, pooled_projection_dim=2 * WIDTH, pos_embed_max_size=32,
    ).eval()  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=vae(16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        text_encoder=clip(tokenizer, CLIPTextModelWithProjection), tokenizer=tokenizer,
        text_encoder_2=clip(tokenizer, CLIPTextModelWithProjection), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip


def flux_parts(**more: Any) -> dict[str, Any]:
    """What the pipelines of FLUX.1 are made of. more: of the transformer."""
    tokenizer = clip_tokenizer()
    sizes = {
        "patch_size": 1, "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "pooled_projection_dim": WIDTH, "axes_dims_rope": (4, 4, 8), "guidance_embeds": True,
    }  # fmt: skip
    return {
        "transformer": FluxTransformer2DModel(**sizes | more).eval(), "scheduler": FlowMatchEulerDiscreteScheduler(),
        "vae": vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5),
        "text_encoder": clip(tokenizer, CLIPTextModel), "tokenizer": tokenizer, "text_encoder_2": t5(), "tokenizer_2": t5_tokenizer(),
    }  # fmt: skip


def _flux() -> FluxPipeline:
    return FluxPipeline(**flux_parts())


FAMILIES: dict[str, Callable[[], Any]] = {"sd": _sd, "sdxl": _sdxl, "sd3": _sd3, "flux": _flux}
