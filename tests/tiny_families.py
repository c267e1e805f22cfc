"""More families with real classes and random weights: those with language models as text encoders, or with VAEs of their own."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxFillPipeline,
    FluxKontextPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImageEditPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    StableDiffusionInpaintPipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tiny_pipelines import WIDTH, clip, clip_tokenizer, ddim, flux_parts, t5, t5_tokenizer, unet, vae
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BatchFeature,
    CLIPTextModel,
    Gemma2Config,
    Gemma2Model,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHAT = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
MARKS = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>", "<|video_pad|>")


def language_tokenizer() -> PreTrainedTokenizerFast:
    """A token per character, with a chat template."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.:;'-_<>|()/ \n"
    pieces = ["<pad>", "<unk>", "<bos>", "<eos>", *MARKS, *letters]
    core = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>", eos_token="<eos>",
        additional_special_tokens=list(MARKS), chat_template=CHAT, model_max_length=2048, padding_side="right",
    )  # fmt: skip


def language_sizes(tokenizer: Any, layers: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 37, "num_hidden_layers": layers, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip


def qwen3(tokenizer: Any) -> Qwen3ForCausalLM:
    return Qwen3ForCausalLM(Qwen3Config(**language_sizes(tokenizer, 3))).eval()


def qwen_vl(tokenizer: Any) -> Qwen2_5_VLForConditionalGeneration:
    ids = {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in zip(("vision_start", "image", "vision_end"), MARKS, strict=False)}
    text = language_sizes(tokenizer, 2) | {"rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e4}}
    vision = {
        "depth": 1, "hidden_size": 16, "intermediate_size": 20, "num_heads": 2, "out_hidden_size": WIDTH, "patch_size": 14,
        "fullatt_block_indexes": [0], "window_size": 28,
    }  # fmt: skip
    config = Qwen2_5_VLConfig(
        text_config=text, vision_config=vision, image_token_id=ids["image"], vision_start_token_id=ids["vision_start"],
        vision_end_token_id=ids["vision_end"], video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
    )  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(config).eval()


class QwenReader:
    """Qwen2VLProcessor without its reader of videos, which only exists where torchvision does."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.image_processor = Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56)

    def __call__(self, text: list[str], images: Any = None, **more: Any) -> BatchFeature:
        pictures = self.image_processor(images=images, return_tensors="pt") if images is not None else {}
        grids = list(pictures.get("image_grid_thw", []))
        longer = []
        for one in text:
            for grid in [grids.pop(0) for _ in range(one.count("<|image_pad|>"))]:
                one = one.replace("<|image_pad|>", "<|video_pad|>" * int(grid.prod() // 4), 1)
            longer.append(one.replace("<|video_pad|>", "<|image_pad|>"))
        return BatchFeature({**self.tokenizer(longer, padding=True, return_tensors="pt"), **pictures})


def sd_fill() -> StableDiffusionInpaintPipeline:
    tokenizer = clip_tokenizer()
    return StableDiffusionInpaintPipeline(
        vae=vae(4), unet=unet(in_channels=9, cross_attention_dim=WIDTH), text_encoder=clip(tokenizer, CLIPTextModel), tokenizer=tokenizer,
        scheduler=ddim(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def flux_schnell() -> Any:
    from diffusers import FluxPipeline

    return FluxPipeline(**flux_parts(guidance_embeds=False))


def flux_fill() -> FluxFillPipeline:
    return FluxFillPipeline(**flux_parts(in_channels=2 * 16 + 16, out_channels=16))


def flux_kontext() -> FluxKontextPipeline:
    return FluxKontextPipeline(**flux_parts())


def flux2_klein() -> Flux2KleinPipeline:
    tokenizer = language_tokenizer()
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
    ).eval()  # fmt: skip
    coder = AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 16),
        layers_per_block=1, latent_channels=4, norm_num_groups=4, sample_size=32,
    ).eval()  # fmt: skip
    return Flux2KleinPipeline(FlowMatchEulerDiscreteScheduler(), coder, qwen3(tokenizer), tokenizer, transformer)


def chroma() -> ChromaPipeline:
    transformer = ChromaTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=WIDTH, axes_dims_rope=(4, 4, 8), approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1,
    ).eval()  # fmt: skip
    coder = vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5)
    return ChromaPipeline(FlowMatchEulerDiscreteScheduler(), coder, t5(), t5_tokenizer(), transformer)


def qwen_parts(halvings: int = 1) -> dict[str, Any]:
    """halvings: how often the VAE halves a side."""
    tokenizer = language_tokenizer()
    coder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1] * (halvings + 1), num_res_blocks=1, temperal_downsample=[False] * halvings,
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    ).eval()  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    ).eval()  # fmt: skip
    return {
        "scheduler": FlowMatchEulerDiscreteScheduler(), "vae": coder, "text_encoder": qwen_vl(tokenizer), "tokenizer": tokenizer,
        "transformer": transformer,
    }  # fmt: skip


def qwen_image() -> QwenImagePipeline:
    return QwenImagePipeline(**qwen_parts())


def qwen_image_edit() -> QwenImageEditPipeline:
    parts = qwen_parts(halvings=3)  # it works at 1,024 px whatever is asked, so that fewer cells are quicker
    return QwenImageEditPipeline(**parts, processor=QwenReader(parts["tokenizer"]))


def z_image() -> ZImagePipeline:
    tokenizer = language_tokenizer()
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH, axes_dims=[4, 6, 6],
        axes_lens=[256, 32, 32],
    ).eval()  # fmt: skip
    for name, table in transformer.named_parameters():
        if "pad_token" in name:
            torch.nn.init.normal_(table, std=0.02)  # torch.empty: whatever lay in memory
    coder = vae(4, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5)
    return ZImagePipeline(FlowMatchEulerDiscreteScheduler(), coder, qwen3(tokenizer), tokenizer, transformer)


def pixart() -> PixArtSigmaPipeline:
    transformer = PixArtTransformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, out_channels=8, num_layers=1, attention_head_dim=8, num_attention_heads=2,
        cross_attention_dim=16, caption_channels=WIDTH, norm_num_groups=4, use_additional_conditions=False,
    ).eval()  # fmt: skip
    return PixArtSigmaPipeline(t5_tokenizer(), t5(), vae(4), transformer, DPMSolverMultistepScheduler())


def sana() -> SanaPipeline:
    tokenizer = language_tokenizer()
    reader = Gemma2Model(Gemma2Config(**language_sizes(tokenizer, 1), query_pre_attn_scalar=16, sliding_window=64)).eval()
    transformer = SanaTransformer2DModel(
        sample_size=16, patch_size=1, in_channels=4, out_channels=4, num_layers=1, num_attention_heads=2, attention_head_dim=8,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=WIDTH,
    ).eval()  # fmt: skip
    coder = AutoencoderDC(
        in_channels=3, latent_channels=4, attention_head_dim=2, encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"), encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_qkv_multiscales=((), (5,)), decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1), downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm",
        decoder_act_fns="silu", scaling_factor=0.41,
    ).eval()  # fmt: skip
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return SanaPipeline(tokenizer, reader, coder, transformer, scheduler)


FAMILIES = {
    "sd-fill": sd_fill, "flux-schnell": flux_schnell, "flux-fill": flux_fill, "flux-kontext": flux_kontext, "flux2-klein": flux2_klein,
    "chroma": chroma, "qwen-image": qwen_image, "qwen-image-edit": qwen_image_edit, "z-image": z_image, "pixart-sigma": pixart,
    "sana": sana,
}  # fmt: skip

# Calls of the real families read layers that these do not have.
EXTRA: dict[str, dict[str, Any]] = {"flux2-klein": {"text_encoder_out_layers": (1, 2, 3), "max_sequence_length": 64}}


def build(family: str) -> Any:
    """A fresh pipeline, equal on every call."""
    torch.manual_seed(0)
    return FAMILIES[family]()



