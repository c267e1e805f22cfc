"""The sizes of a published checkpoint's parts, read from the shapes of its tensors (under ``LegionModel``'s names).

Head counts leave no trace in shapes: LLaMA's come from config.json or from the stored rotary frequencies, CLIP's from its own config.json
or the 64 columns per head that every published CLIP has, those of SAM's decoder are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from refine.controllers.legion.files import settings
from refine.errors import CheckpointError

Shape = tuple[int, ...]
CLIP_HEAD, LLAMA_HEAD = 64, 128  # columns per head in the published models
_SAM_DEPTHS = {768: 12, 1024: 24, 1280: 32}  # ViT-B, L, H: a checkpoint that lost its last blocks is not taken for a smaller one


def sam_config(state: Mapping[str, Tensor], decoder_heads: int = 8) -> SamConfig:
    """SAM's sizes. Raises CheckpointError when a tensor that tells them is missing or has another layout."""
    shape = _under("sam.", state)
    try:
        vision = _sam_vision(shape)
        width = shape["mask_decoder.iou_token.weight"][1]
        cross = shape["mask_decoder.transformer.final_attn_token_to_image.q_proj.weight"][0]
        decoder = SamMaskDecoderConfig(
            hidden_size=width,
            mlp_dim=shape["mask_decoder.transformer.layers.0.mlp.lin1.weight"][0],
            num_hidden_layers=_count(shape, "mask_decoder.transformer.layers."),
            num_attention_heads=decoder_heads,
            attention_downsample_rate=width // cross,
            num_multimask_outputs=shape["mask_decoder.mask_tokens.weight"][0] - 1,
            iou_head_depth=2 + _count(shape, "mask_decoder.iou_prediction_head.layers."),
            iou_head_hidden_dim=shape["mask_decoder.iou_prediction_head.proj_in.weight"][0],
            layer_norm_eps=1e-5,  # the original's; the library's default of 1e-6 moves the logits by 1e-4
        )
    except KeyError as error:
        raise CheckpointError(f"The SAM part of the checkpoint is incomplete: {error.args[0]} is missing. Fetch it again.") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"The SAM part of the checkpoint has shapes that no SAM has ({error}). Fetch it again.") from error
    if cross % decoder_heads or width % decoder_heads:
        raise CheckpointError(f"{decoder_heads} heads do not divide SAM's decoder, {width} wide ({cross} in its cross attention).")
    masks = shape.get("prompt_encoder.mask_embed.conv2.weight", (16,))[0]
    prompt = SamPromptEncoderConfig(
        hidden_size=width, image_size=vision.image_size, patch_size=vision.patch_size, mask_input_channels=masks
    )
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def _sam_vision(shape: Mapping[str, Shape]) -> SamVisionConfig:
    _, grid, _, width = shape["vision_encoder.pos_embed"]
    patch = shape["vision_encoder.patch_embed.projection.weight"][-1]
    depth = _count(shape, "vision_encoder.layers.")
    if depth < _SAM_DEPTHS.get(width, depth):
        raise KeyError(f"sam.vision_encoder.layers.{depth}")
    rows = [shape[f"vision_encoder.layers.{i}.attn.rel_pos_h"] for i in range(depth)]
    everywhere = [i for i, (length, _) in enumerate(rows) if length == 2 * grid - 1]
    windows = {(length + 1) // 2 for length, _ in rows if length != 2 * grid - 1}
    return SamVisionConfig(
        hidden_size=width,
        num_hidden_layers=depth,
        num_attention_heads=width // rows[0][1],
        global_attn_indexes=everywhere,
        window_size=min(windows, default=14),
        image_size=grid * patch,
        patch_size=patch,
        mlp_dim=shape["vision_encoder.layers.0.mlp.lin1.weight"][0],
        output_channels=shape["vision_encoder.neck.conv1.weight"][0],
        num_pos_feats=shape["shared_image_embedding.positional_embedding"][1],
    )


def llama_config(stated: Mapping[str, Any], state: Mapping[str, Tensor], rotary: int | None = None) -> LlamaConfig:
    """LLaMA's sizes: what config.json states, else what the shapes tell; the vocabulary always from the embedding table.

    rotary: length of a stored ``rotary_emb.inv_freq``, half a head's columns.
    """
    shape = _under("llm.model.", state)
    try:
        vocabulary, width = shape["embed_tokens.weight"]
        keys, inner = shape["layers.0.self_attn.k_proj.weight"][0], shape["layers.0.mlp.gate_proj.weight"][0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The language model of the checkpoint is incomplete ({error}). Fetch it again.") from error
    heads = stated.get("num_attention_heads") or width // (2 * rotary if rotary else LLAMA_HEAD)
    if not heads or width % heads:
        raise CheckpointError(f"{heads} heads do not divide the language model's width {width}. Check config.json's num_attention_heads.")
    sizes = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": _count(shape, "layers."),
        "num_attention_heads": heads,
        "num_key_value_heads": keys // (width // heads),
        "rms_norm_eps": 1e-5,  # LLaMA-2's; the library's default is LLaMA-1's
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    names = (*sizes, "hidden_act", "rope_theta", "rope_scaling")
    told = {name: stated[name] for name in names if stated.get(name) is not None}
    return LlamaConfig(**(sizes | told), vocab_size=vocabulary, tie_word_embeddings=False)


def clip_config(folder: Path) -> CLIPVisionConfig:
    """The vision half of a CLIP folder's config.json."""
    stated = settings(folder)
    return CLIPVisionConfig(**{k: v for k, v in stated.get("vision_config", stated).items() if k != "model_type"})


def clip_config_of(state: Mapping[str, Tensor]) -> CLIPVisionConfig:
    """OpenAI's CLIP vision tower from the shapes of a copy inside a checkpoint. Raises CheckpointError where they do not tell its heads."""
    shape = _under("clip.", state)
    try:
        width, _, _, patch = shape["embeddings.patch_embedding.weight"]
        places = shape["embeddings.position_embedding.weight"][0]
        inner = shape["encoder.layers.0.mlp.fc1.weight"][0]
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"The CLIP tower in the checkpoint is incomplete ({error}). Give one with --clip.") from error
    if width % CLIP_HEAD:
        raise CheckpointError(f"The CLIP tower in the checkpoint is {width} wide: its heads are not known. Give --clip.")
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=_count(shape, "encoder.layers."),
        num_attention_heads=width // CLIP_HEAD,
        image_size=round((places - 1) ** 0.5) * patch,
        patch_size=patch,
    )


def _under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Shape]:
    return {key.removeprefix(prefix): tuple(value.shape) for key, value in state.items() if key.startswith(prefix)}


def _count(keys: Iterable[str], prefix: str) -> int:
    """How many numbered children ``prefix`` has."""
    return len({key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix)})
