"""The published architectures at full size, without their weights: what refine.sizes counts, and what benchmarks.gpu runs.

    python -m benchmarks.architectures          count all on the meta device, beside the figures of refine.sizes
    python -m benchmarks.architectures sdxl     one model

Sizes are those of the authors' config.json files; where the class's own defaults are the published sizes, nothing is written here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffusers
import torch
import transformers
from torch import nn

from refine.errors import spoken

Make = Callable[[], nn.Module]
SD_BLOCKS: Mapping[str, Any] = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}


def vae(channels: int, **more: Any) -> nn.Module:
    return diffusers.AutoencoderKL(  # type: ignore[no-any-return]
        **SD_BLOCKS,
        latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        **more,
    )


def flat_vae() -> nn.Module:
    """Of SD3 and FLUX.1: 16 channels, no quant convolutions."""
    return vae(16, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.3611, shift_factor=0.1159)


def clip_l() -> nn.Module:
    config = transformers.CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    return transformers.CLIPTextModel(config)  # type: ignore[no-any-return]


def clip_l_projected() -> nn.Module:
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, projection_dim=768
    )
    return transformers.CLIPTextModelWithProjection(config)  # type: ignore[no-any-return]


def clip_g() -> nn.Module:
    config = transformers.CLIPTextConfig(
        hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280, hidden_act="gelu"
    )
    return transformers.CLIPTextModelWithProjection(config)  # type: ignore[no-any-return]


def t5_xxl() -> nn.Module:
    config = transformers.T5Config(
        d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, vocab_size=32128, feed_forward_proj="gated-gelu"
    )
    return transformers.T5EncoderModel(config)  # type: ignore[no-any-return]


def sd15_unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)  # type: ignore[no-any-return]


def sdxl_unet() -> nn.Module:
    return diffusers.UNet2DConditionModel(  # type: ignore[no-any-return]
        sample_size=128, block_out_channels=(320, 640, 1280), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D",
        "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20), cross_attention_dim=2048, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
    )  # fmt: skip


def sd35_medium() -> nn.Module:
    return diffusers.SD3Transformer2DModel(  # type: ignore[no-any-return]
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=24, attention_head_dim=64, num_attention_heads=24,
        joint_attention_dim=4096, caption_projection_dim=1536, pooled_projection_dim=2048, pos_embed_max_size=384,
        dual_attention_layers=tuple(range(13)), qk_norm="rms_norm",
    )  # fmt: skip


def flux() -> nn.Module:
    return diffusers.FluxTransformer2DModel(guidance_embeds=True)  # type: ignore[no-any-return]


def flux_schnell() -> nn.Module:
    return diffusers.FluxTransformer2DModel(guidance_embeds=False)  # type: ignore[no-any-return]


def flux_fill() -> nn.Module:
    return diffusers.FluxTransformer2DModel(guidance_embeds=True, in_channels=384, out_channels=64)  # type: ignore[no-any-return]


def qwen_image() -> nn.Module:
    return diffusers.QwenImageTransformer2DModel()  # type: ignore[no-any-return]


def qwen_vae() -> nn.Module:
    return diffusers.AutoencoderKLQwenImage()  # type: ignore[no-any-return]


def qwen_vl_7b() -> nn.Module:
    text = {
        "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "tie_word_embeddings": False,
    }  # fmt: skip
    vision = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584}
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    return transformers.Qwen2_5_VLForConditionalGeneration(config)  # type: ignore[no-any-return]


def safety_checker() -> nn.Module:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    config = transformers.CLIPConfig(vision_config=vision, projection_dim=768)
    return StableDiffusionSafetyChecker(config)  # type: ignore[no-any-return]


def clip_vision_l(side: int) -> nn.Module:
    """OpenAI's CLIP ViT-L/14, at 224 or 336 px."""
    vision = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14,
        "image_size": side,
    }  # fmt: skip
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)
    return transformers.CLIPModel(config)  # type: ignore[no-any-return]


def qwen_7b() -> nn.Module:
    config = transformers.Qwen2Config(
        vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    return transformers.Qwen2ForCausalLM(config)  # type: ignore[no-any-return]


SAM_HUGE: Mapping[str, Any] = {
    "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "global_attn_indexes": [7, 15, 23, 31], "mlp_dim": 5120
}  # fmt: skip


def sam(**vision: Any) -> nn.Module:
    """The class's own sizes are ViT-B."""
    return transformers.SamModel(transformers.SamConfig(vision_config=vision))  # type: ignore[no-any-return]


def owlv2_base() -> nn.Module:
    """ViT-B/16; the class's own sizes but for the side of the picture."""
    config = transformers.Owlv2Config(vision_config={"image_size": 960})
    return transformers.Owlv2ForObjectDetection(config)  # type: ignore[no-any-return]


def legion() -> nn.Module:
    """CLIP ViT-L/14 at 336 px, LLaMA-2 7B with LEGION's added tokens, SAM ViT-H."""
    from refine.controllers.legion.configuration import LegionConfig
    from refine.controllers.legion.modeling import LegionModel

    clip = {
        "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        "patch_size": 14, "image_size": 336
    }  # fmt: skip
    config = LegionConfig(
        clip_config=transformers.CLIPVisionConfig(**clip),
        llama_config=transformers.LlamaConfig(vocab_size=32009, rms_norm_eps=1e-5, max_position_embeddings=4096, pad_token_id=0),
        sam_config=transformers.SamConfig(vision_config=SAM_HUGE),
        seg_token_id=32004,
        detector_hidden=0,
    )
    return LegionModel(config)


def hps() -> nn.Module:
    """CLIP ViT-H/14."""
    vision = {
        "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16,
        "patch_size": 14, "image_size": 224,
        "hidden_act": "gelu",
    }  # fmt: skip
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16, "hidden_act": "gelu"}
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=1024)
    return transformers.CLIPModel(config)  # type: ignore[no-any-return]


def imagereward() -> nn.Module:
    """BLIP: ViT-L/16 at 224 px, BERT base, and the head."""
    from refine.evals.imagereward import ImageRewardModel

    vision = transformers.BlipVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, patch_size=16, image_size=224
    )
    text = transformers.BlipTextConfig(
        vocab_size=30524, hidden_size=768, encoder_hidden_size=1024, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    return ImageRewardModel(vision, text)


def aesthetic_head() -> nn.Module:
    from refine.evals.clip_rewards import linear_probe

    return linear_probe(768)


MAKERS: Mapping[str, Make] = {
    "sd15-unet": sd15_unet, "sdxl-unet": sdxl_unet, "sd35-medium": sd35_medium, "flux": flux,
    "flux-schnell": flux_schnell, "flux-fill": flux_fill, "qwen-image": qwen_image,
    "sd-vae": lambda: vae(4), "flat-vae": flat_vae, "qwen-vae": qwen_vae, "clip-l": clip_l, "clip-l-projected": clip_l_projected,
    "clip-g": clip_g, "t5-xxl": t5_xxl, "qwen2.5-vl-7b": qwen_vl_7b, "safety-checker": safety_checker,
    "clip-l-224": lambda: clip_vision_l(224), "clip-l-336": lambda: clip_vision_l(336), "qwen2.5-7b": qwen_7b,
    "sam-huge": lambda: sam(**SAM_HUGE), "sam-base": sam, "owlv2-base": owlv2_base, "legion": legion, "hps": hps,
    "imagereward": imagereward, "aesthetic-head": aesthetic_head,
}  # fmt: skip


# Layers that no quantizer touches: heads, T5's widest (transformers keeps it exact), and of LEGION all but the language model's layers.
EXACT = ("lm_head", ".wo", "clip.", "sam.", "mm_projector", "text_hidden_fcs")


def bare(name: str) -> nn.Module:
    """A network on the meta device: no memory, no weights."""
    with torch.device("meta"):
        return MAKERS[name]()


def count(name: str) -> float:
    """Numbers in its state dict in millions (fixed tables count too: they are stored)."""
    shared = {id(tensor): tensor.numel() for tensor in bare(name).state_dict(keep_vars=True).values()}
    return sum(shared.values()) / 1e6


def linear(name: str) -> float:
    """Those of them, in millions, that bitsandbytes would quantize: the matrices of linear layers."""
    layers = [(path, layer) for path, layer in bare(name).named_modules() if isinstance(layer, nn.Linear)]
    return float(sum(layer.weight.numel() for path, layer in layers if not any(exact in path for exact in EXACT))) / 1e6


def main(argv: Sequence[str] | None = None) -> None:
    from refine import sizes

    stated, quantized = sizes.millions(), sizes.linear()
    for name in argv if argv is not None else sys.argv[1:] or MAKERS:
        counted = [count(name)] + ([linear(name)] if name in quantized else [])
        told = [stated.get(name), quantized.get(name)]
        wrong = [one for number, one in zip(counted, told, strict=False) if one is not None and abs(number - one) >= 0.01]
        agrees = f"  BUT refine.sizes says {wrong[0]}" if wrong else "  as stated" if name in stated else ""
        shrinks = f", {counted[1]:.2f} M of them linear" if len(counted) > 1 else ""
        print(f"{name:18s} {counted[0]:10.2f} M{shrinks}{agrees}", flush=True)


if __name__ == "__main__":
    spoken(main)
