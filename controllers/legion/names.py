"""From the names of a published LEGION, GLaMM or SAM checkpoint to those of ``LegionModel``."""

from __future__ import annotations

import re

SAM = "model.grounding_encoder."

# (pattern, replacement), first match wins; SAM's own names -> transformers' SamModel
_SAM_RULES: tuple[tuple[str, str], ...] = (
    (r"image_encoder\.patch_embed\.proj\.(.*)", r"vision_encoder.patch_embed.projection.\1"),
    (r"image_encoder\.pos_embed", r"vision_encoder.pos_embed"),
    (r"image_encoder\.blocks\.(\d+)\.norm([12])\.(.*)", r"vision_encoder.layers.\1.layer_norm\2.\3"),
    (r"image_encoder\.blocks\.(.*)", r"vision_encoder.layers.\1"),
    (r"image_encoder\.neck\.0\.(.*)", r"vision_encoder.neck.conv1.\1"),
    (r"image_encoder\.neck\.1\.(.*)", r"vision_encoder.neck.layer_norm1.\1"),
    (r"image_encoder\.neck\.2\.(.*)", r"vision_encoder.neck.conv2.\1"),
    (r"image_encoder\.neck\.3\.(.*)", r"vision_encoder.neck.layer_norm2.\1"),
    (r"prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix", r"shared_image_embedding.positional_embedding"),
    (r"prompt_encoder\.point_embeddings\.(.*)", r"prompt_encoder.point_embed.\1"),
    (r"prompt_encoder\.mask_downscaling\.0\.(.*)", r"prompt_encoder.mask_embed.conv1.\1"),
    (r"prompt_encoder\.mask_downscaling\.1\.(.*)", r"prompt_encoder.mask_embed.layer_norm1.\1"),
    (r"prompt_encoder\.mask_downscaling\.3\.(.*)", r"prompt_encoder.mask_embed.conv2.\1"),
    (r"prompt_encoder\.mask_downscaling\.4\.(.*)", r"prompt_encoder.mask_embed.layer_norm2.\1"),
    (r"prompt_encoder\.mask_downscaling\.6\.(.*)", r"prompt_encoder.mask_embed.conv3.\1"),
    (r"prompt_encoder\.(not_a_point_embed|no_mask_embed)\.weight", r"prompt_encoder.\1.weight"),
    (r"mask_decoder\.transformer\.layers\.(\d+)\.norm([1-4])\.(.*)", r"mask_decoder.transformer.layers.\1.layer_norm\2.\3"),
    (r"mask_decoder\.transformer\.norm_final_attn\.(.*)", r"mask_decoder.transformer.layer_norm_final_attn.\1"),
    (r"mask_decoder\.transformer\.(.*)", r"mask_decoder.transformer.\1"),
    (r"mask_decoder\.(iou_token|mask_tokens)\.weight", r"mask_decoder.\1.weight"),
    (r"mask_decoder\.output_upscaling\.0\.(.*)", r"mask_decoder.upscale_conv1.\1"),
    (r"mask_decoder\.output_upscaling\.1\.(.*)", r"mask_decoder.upscale_layer_norm.\1"),
    (r"mask_decoder\.output_upscaling\.3\.(.*)", r"mask_decoder.upscale_conv2.\1"),
    (r"mask_decoder\.(.*)\.layers\.0\.(weight|bias)", r"mask_decoder.\1.proj_in.\2"),
    (r"mask_decoder\.(.*)\.layers\.1\.(weight|bias)", r"mask_decoder.\1.layers.0.\2"),
    (r"mask_decoder\.(.*)\.layers\.2\.(weight|bias)", r"mask_decoder.\1.proj_out.\2"),
)
# (prefix in a checkpoint, module, prefix in LegionModel); None: left out on purpose
_FAMILIES: tuple[tuple[str, str, str | None], ...] = (
    (SAM, "sam", "sam."),
    ("image_encoder.", "sam", "sam."),
    ("prompt_encoder.", "sam", "sam."),
    ("mask_decoder.", "sam", "sam."),
    ("model.region_encoder.", "region_encoder", None),
    ("model.vision_tower.vision_tower.vision_model.", "clip", "clip."),
    ("model.vision_tower.vision_tower.", "clip", "clip."),
    ("vision_model.", "clip", "clip."),
    *((f"{part}.", "clip", f"clip.{part}.") for part in ("embeddings", "pre_layrnorm", "encoder", "post_layernorm")),  # transformers 5
    ("model.mm_projector.", "mm_projector", "mm_projector."),
    ("model.text_hidden_fcs.0.", "text_hidden_fcs", "text_hidden_fcs."),
    ("prediction_head.", "detector", "detector."),
    ("text_model.", "clip text", None),
    ("visual_projection.", "clip text", None),
    ("text_projection.", "clip text", None),
    ("logit_scale", "clip text", None),
    ("model.", "llm", "llm.model."),
    ("lm_head.", "llm", "llm.lm_head."),
)
_SILENT = re.compile(r".*(rotary_emb\.inv_freq|embeddings\.position_ids|pixel_mean|pixel_std)$")


def rename_sam(key: str) -> str | None:
    """SAM's own key (no prefix) -> transformers' key; None when there is no such thing in SamModel."""
    for pattern, replacement in _SAM_RULES:
        if match := re.fullmatch(pattern, key):
            return match.expand(replacement)
    return None


def rename(key: str) -> tuple[str, str | None]:
    """A checkpoint's key -> (module, key in ``LegionModel``); None where the tensor is not used."""
    for prefix, module, target in _FAMILIES:
        if not key.startswith(prefix):
            continue
        if target is None or _SILENT.match(key):
            return module, None
        rest = key[len(prefix) :]
        if module != "sam":
            return module, target + rest
        name = rename_sam(rest if prefix == SAM else key)
        return module, None if name is None else target + name
    return "unknown", None
