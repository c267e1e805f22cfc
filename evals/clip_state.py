"""CLIP weights in the open_clip layout (HPSv2's) to transformers' ``CLIPModel``: names, shapes, sizes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from refine.errors import CheckpointError
from refine.evals.checkpoints import count_layers, load_strict, need, require_heads, unfilled

WHAT = "a CLIP of the open_clip layout"

_PLACES = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.proj": "visual_projection.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text_projection": "text_projection.weight",
    "logit_scale": "logit_scale",
}
_PREFIXES = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "ln_final.": "text_model.final_layer_norm.",
}
_PARTS = {
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".attn.out_proj.": ".self_attn.out_proj.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}


def clip_from_state(state: Mapping[str, Tensor], vision_heads: int, text_heads: int, what: str = WHAT) -> CLIPModel:
    """A float32 ``CLIPModel`` of the sizes found in an open_clip state dict."""
    if any(key.startswith("vision_model.") for key in state):
        raise CheckpointError(f"These weights are not {what}: they have transformers' names. Give their folder, with its config.json.")
    config = clip_config(state, vision_heads, text_heads, what)
    model = unfilled(lambda: CLIPModel(config))
    load_strict(model, {key: value.float() for key, value in rename(state).items()}, what)
    return model


def clip_config(state: Mapping[str, Tensor], vision_heads: int, text_heads: int, what: str = WHAT) -> CLIPConfig:
    """Sizes from tensor shapes; the settings that no tensor shows (exact GELU, epsilon) as open_clip has them."""
    width, _, patch, _ = need(state, "visual.conv1.weight", what, 4).shape
    tokens = need(state, "visual.positional_embedding", what, 2).shape[0]
    vocabulary, text_width = need(state, "token_embedding.weight", what, 2).shape
    dimension = need(state, "text_projection", what, 2).shape[1]
    require_heads(width, vision_heads, "a vision tower", "vision_heads")
    require_heads(text_width, text_heads, "a text tower", "text_heads")
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=need(state, "visual.transformer.resblocks.0.mlp.c_fc.weight", what, 2).shape[0],
        num_hidden_layers=count_layers(state, "visual.transformer.resblocks."),
        num_attention_heads=vision_heads,
        image_size=round((tokens - 1) ** 0.5) * patch,
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        projection_dim=dimension,
    )
    text = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=text_width,
        intermediate_size=need(state, "transformer.resblocks.0.mlp.c_fc.weight", what, 2).shape[0],
        num_hidden_layers=count_layers(state, "transformer.resblocks."),
        num_attention_heads=text_heads,
        max_position_embeddings=need(state, "positional_embedding", what, 2).shape[0],
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=0,
        hidden_act="gelu",
        layer_norm_eps=1e-5,
        projection_dim=dimension,
    )
    return CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=dimension)


def rename(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip names to ``CLIPModel`` names: fused query, key, value rows are split, the two projections transposed."""
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        new = _place(key)
        if ".attn.in_proj_" in key:
            stem, kind = new.split(".attn.in_proj_")
            parts = zip("qkv", value.tensor_split(3), strict=True)
            renamed |= {f"{stem}.self_attn.{letter}_proj.{kind}": part for letter, part in parts}
        else:
            renamed[new] = value.T.contiguous() if key in ("visual.proj", "text_projection") else value
    return renamed


def _place(key: str) -> str:
    """The new name of one tensor; an unknown name stays, and is reported when loading."""
    if key in _PLACES:
        return _PLACES[key]
    for old, new in _PREFIXES.items():
        if key.startswith(old):
            key = new + key.removeprefix(old)
            break
    for old, new in _PARTS.items():
        key = key.replace(old, new)
    return key
