"""Checkpoints in the published layouts: names at full size, what is missing, foreign, unsafe or shaped wrongly."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from legion_parts import GOLDEN, golden, load_original, read_weights
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamVisionConfig

from refine.controllers.legion.census import Census
from refine.controllers.legion.configuration import LegionConfig
from refine.controllers.legion.files import locate
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.names import rename
from refine.controllers.legion.sizes import sam_config
from refine.errors import CheckpointError

Shapes = dict[str, tuple[int, ...]]


def sam_shapes() -> Shapes:
    """The tensors of SAM ViT-H under their original names: 594."""
    encoder, decoder = "image_encoder.", "mask_decoder."
    out: Shapes = {encoder + "pos_embed": (1, 64, 64, 1280), encoder + "patch_embed.proj.weight": (1280, 3, 16, 16)}
    out |= {encoder + "patch_embed.proj.bias": (1280,)}
    for i in range(32):
        rows = 127 if i in (7, 15, 23, 31) else 27
        block = f"{encoder}blocks.{i}."
        out |= both(block + "norm1", 1280) | both(block + "norm2", 1280)
        out |= {block + "attn.rel_pos_h": (rows, 80), block + "attn.rel_pos_w": (rows, 80)}
        out |= linear(block + "attn.qkv", 3840, 1280) | linear(block + "attn.proj", 1280, 1280)
        out |= linear(block + "mlp.lin1", 5120, 1280) | linear(block + "mlp.lin2", 1280, 5120)
    out |= {encoder + "neck.0.weight": (256, 1280, 1, 1), encoder + "neck.2.weight": (256, 256, 3, 3)}
    out |= both(encoder + "neck.1", 256) | both(encoder + "neck.3", 256)
    prompt = "prompt_encoder."
    out |= {prompt + "pe_layer.positional_encoding_gaussian_matrix": (2, 128)}
    out |= {prompt + f"{n}.weight": (1, 256) for n in ("not_a_point_embed", "no_mask_embed", *(f"point_embeddings.{k}" for k in range(4)))}
    for k, shape in ((0, (4, 1, 2, 2)), (3, (16, 4, 2, 2)), (6, (256, 16, 1, 1))):
        out |= {f"{prompt}mask_downscaling.{k}.weight": shape, f"{prompt}mask_downscaling.{k}.bias": (shape[0],)}
    out |= both(prompt + "mask_downscaling.1", 4) | both(prompt + "mask_downscaling.4", 16)
    out |= {decoder + "iou_token.weight": (1, 256), decoder + "mask_tokens.weight": (4, 256)}
    for j in range(2):
        layer = f"{decoder}transformer.layers.{j}."
        for n in range(1, 5):
            out |= both(f"{layer}norm{n}", 256)
        out |= linear(layer + "mlp.lin1", 2048, 256) | linear(layer + "mlp.lin2", 256, 2048) | attention(layer + "self_attn", 256)
        out |= attention(layer + "cross_attn_token_to_image", 128) | attention(layer + "cross_attn_image_to_token", 128)
    out |= attention(decoder + "transformer.final_attn_token_to_image", 128) | both(decoder + "transformer.norm_final_attn", 256)
    out |= {decoder + "output_upscaling.0.weight": (256, 64, 2, 2), decoder + "output_upscaling.0.bias": (64,)}
    out |= {decoder + "output_upscaling.3.weight": (64, 32, 2, 2), decoder + "output_upscaling.3.bias": (32,)}
    out |= both(decoder + "output_upscaling.1", 64)
    for name, last in [*((f"output_hypernetworks_mlps.{k}", 32) for k in range(4)), ("iou_prediction_head", 4)]:
        for k, width in enumerate((256, 256, last)):
            out |= linear(f"{decoder}{name}.layers.{k}", width, 256)
    return out


def linear(name: str, rows: int, columns: int) -> Shapes:
    return {name + ".weight": (rows, columns), name + ".bias": (rows,)}


def both(name: str, width: int) -> Shapes:
    return {name + ".weight": (width,), name + ".bias": (width,)}


def attention(name: str, inner: int) -> Shapes:
    return linear(name + ".q_proj", inner, 256) | linear(name + ".k_proj", inner, 256) | linear(name + ".v_proj", inner, 256) | linear(
        name + ".out_proj", 256, inner
    )


def llm_shapes() -> Shapes:
    """LLaMA-2 7B with LEGION's seven added tokens: 291 tensors."""
    out: Shapes = {"model.embed_tokens.weight": (32007, 4096), "lm_head.weight": (32007, 4096), "model.norm.weight": (4096,)}
    for i in range(32):
        layer = f"model.layers.{i}."
        out |= {f"{layer}self_attn.{n}_proj.weight": (4096, 4096) for n in "qkvo"}
        out |= {layer + "mlp.gate_proj.weight": (11008, 4096), layer + "mlp.up_proj.weight": (11008, 4096)}
        out |= {layer + "mlp.down_proj.weight": (4096, 11008)}
        out |= {layer + "input_layernorm.weight": (4096,), layer + "post_attention_layernorm.weight": (4096,)}
    return out


def region_shapes() -> Shapes:
    """The region encoder that LEGION never runs: 43 tensors."""
    fuse, roi = "model.region_encoder.mlvl_fuse.", "model.region_encoder.roi_align."
    out: Shapes = {}
    for k in range(4):
        out |= {f"{fuse}input_conv.{k}.weight": (1024, 1026, 1, 1), f"{fuse}input_conv.{k}.bias": (1024,)}
        out |= {f"{roi}pconvs.{k}.weight": (1024, 1024, 3, 3), f"{roi}pconvs.{k}.bias": (1024,)}
    for k in range(5):
        out |= {f"{fuse}fuse_convs.{k}.conv.weight": (1024, 1024, 3, 3)} | both(f"{fuse}fuse_convs.{k}.gn", 1024)
    out |= linear(roi + "pos_embedd.0", 256, 4) | both(roi + "pos_embedd.2", 256)
    out |= linear(roi + "pos_embedd.3", 1024, 256) | both(roi + "pos_embedd.5", 1024)
    return out | linear(roi + "updims", 4096, 1024) | linear(roi + "flatten_linear", 1024, 200704)


def full_checkpoint() -> dict[str, Tensor]:
    """The public checkpoint on the meta device: SAM, [SEG] projection and rotary buffers in fp32, the rest in bf16."""
    fp32 = {"model.grounding_encoder." + name: shape for name, shape in sam_shapes().items()}
    fp32 |= linear("model.text_hidden_fcs.0.0", 4096, 4096) | linear("model.text_hidden_fcs.0.2", 256, 4096)
    fp32 |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": (64,) for i in range(32)}
    bf16 = llm_shapes() | region_shapes() | linear("model.mm_projector.0", 4096, 1024) | linear("model.mm_projector.2", 4096, 4096)
    state = {name: torch.empty(shape, device="meta") for name, shape in fp32.items()}
    return state | {name: torch.empty(shape, device="meta", dtype=torch.bfloat16) for name, shape in bf16.items()}


def full_config() -> LegionConfig:
    vision = SamVisionConfig(hidden_size=1280, num_hidden_layers=32, num_attention_heads=16, global_attn_indexes=[7, 15, 23, 31])
    return LegionConfig(
        clip_config=CLIPVisionConfig(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336, patch_size=14
        ),
        llama_config=LlamaConfig(vocab_size=32007, rms_norm_eps=1e-5),
        sam_config=SamConfig(vision_config=vision, mask_decoder_config=SamMaskDecoderConfig(layer_norm_eps=1e-5)),
        detector_hidden=2048,
    )


def census(state: Mapping[str, Tensor]) -> Census:
    seen = Census()
    for key, value in state.items():
        seen.add(Path(), key, value)
    return seen


def test_census_of_the_public_checkpoint() -> None:
    seen = census(full_checkpoint())
    state, report = seen.state, seen.report()
    assert sum(report.tensors.values()) == 968
    assert sum(report.bytes.values()) == 16_752_883_392
    assert (report.tensors["sam"], report.tensors["region_encoder"], len(report.unused["llm"])) == (594, 43, 32)
    assert "unknown" not in report.tensors and len(state) == 968 - 43 - 32


def test_names_and_shapes_cover_the_full_model() -> None:
    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in LegionModel(full_config()).state_dict().items()}
    state = census(full_checkpoint()).state
    apart = ("clip.", "detector.", "sam.prompt_encoder.shared_embedding.")  # other files, and the tied copy
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        name: shape for name, shape in wanted.items() if not name.startswith(apart)
    }


def test_sam_sizes_are_read_from_shapes() -> None:
    found = sam_config(census(full_checkpoint()).state)
    wanted = full_config().sam_config
    for part in ("vision_config", "prompt_encoder_config", "mask_decoder_config"):
        a, b = getattr(found, part).to_dict(), getattr(wanted, part).to_dict()
        assert {k: (tuple(v) if isinstance(v, list) else v) for k, v in a.items()} == {
            k: (tuple(v) if isinstance(v, list) else v) for k, v in b.items()
        }


def test_other_layouts_of_the_same_names() -> None:
    assert rename("mask_decoder.iou_token.weight") == ("sam", "sam.mask_decoder.iou_token.weight")
    assert rename("model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias") == ("clip", "clip.pre_layrnorm.bias")
    assert rename("prediction_head.2.bias") == ("detector", "detector.2.bias")
    assert rename("text_model.final_layer_norm.bias") == ("clip text", None)
    assert rename("optimizer.step") == ("unknown", None)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("ckpt", "clip"):
        shutil.copytree(GOLDEN / folder, tmp_path / folder)
    return tmp_path


def read(folder: Path) -> LegionModel:
    return load_original(folder / "ckpt", clip=folder / "clip", sam_decoder_heads=2)[0]


def edit(folder: Path, change: dict[str, Tensor | None]) -> None:
    """Replace (or, with None, drop) tensors of a copied checkpoint and store it as one safetensors file."""
    state: dict[str, Tensor | None] = {**read_weights(folder / "ckpt"), **change}
    for old in folder.glob("ckpt/pytorch_model*"):
        old.unlink()
    save_file({k: v.contiguous() for k, v in state.items() if v is not None}, folder / "ckpt" / "model.safetensors")


def test_safetensors_give_the_same_model(copy: Path) -> None:
    edit(copy, {})
    found, wanted = read(copy).state_dict(), golden()[0].state_dict()
    assert all(torch.equal(found[name], wanted[name]) for name in found)
    assert {name for name in wanted if name not in found} == {f"detector.{k}.{p}" for k in (0, 2) for p in ("weight", "bias")}


@pytest.mark.parametrize("key", ["model.text_hidden_fcs.0.2.weight", "lm_head.weight", "model.mm_projector.0.bias"])
def test_missing_module_is_named(copy: Path, key: str) -> None:
    edit(copy, {key: None})
    with pytest.raises(CheckpointError, match=rename(key)[0]):
        read(copy)


def test_unneeded_prompts_of_sam_may_be_missing(copy: Path) -> None:
    edit(copy, {"model.grounding_encoder.prompt_encoder.point_embeddings.0.weight": None})
    _, _, report = load_original(copy / "ckpt", clip=copy / "clip", sam_decoder_heads=2)
    assert report.missing == {"sam": ("sam.prompt_encoder.point_embed.0.weight",)}


def test_wrong_shape_is_named(copy: Path) -> None:
    edit(copy, {"model.mm_projector.0.weight": torch.zeros(64, 31)})
    with pytest.raises(CheckpointError, match=r"mm_projector does not fit.*\(64, 31\).*\(64, 32\)"):
        read(copy)


def test_incomplete_sam_is_named(copy: Path) -> None:
    edit(copy, {"model.grounding_encoder.image_encoder.pos_embed": None})
    with pytest.raises(CheckpointError, match="SAM part"):
        read(copy)


class Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("never",)


def spoil(shard: Path, how: str) -> None:
    whole = shard.read_bytes()
    if how == "code":
        torch.save({"weight": Code()}, shard)
    elif how == "old code":
        torch.save({"weight": Code()}, shard, _use_new_zipfile_serialization=False)
    elif how == "cut":
        shard.write_bytes(whole[: len(whole) // 2])
    elif how == "page":
        shard.write_bytes(b"<html>not found</html>")
    elif how == "pointer":
        shard.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    elif how == "numbers":
        torch.save({"weight": 3}, shard)
    elif how == "other":
        torch.save({"model.of.something.else": torch.zeros(3)}, shard)
    else:
        shard.unlink()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("code", r"holds code or objects \(posix.mkdir\).*safetensors"),
        ("old code", r"holds code or objects \(posix.mkdir\)"),
        ("cut", "bytes.*cut short or foreign.*Fetch it again"),
        ("page", "22 bytes.*cut short or foreign"),
        ("pointer", "Git LFS pointer.*git lfs pull"),
        ("numbers", "no table of tensors"),
        ("other", "00002-of-00002.bin lacks .* tensors of its index.*Fetch the shard again"),
        ("gone", "1 of 2 shards .* are missing: pytorch_model-00002-of-00002.bin"),
    ],
)
def test_bad_files_are_refused(copy: Path, how: str, message: str) -> None:
    spoil(copy / "ckpt" / "pytorch_model-00002-of-00002.bin", how)
    with pytest.raises(CheckpointError, match=message):
        read(copy)
    assert not Path("never").exists()


def test_cut_safetensors_are_refused(copy: Path) -> None:
    edit(copy, {})
    file = copy / "ckpt" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut short or foreign"):
        read(copy)


def test_folder_without_weights(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No weights"):
        read_weights(tmp_path)


def test_broken_settings(copy: Path) -> None:
    (copy / "ckpt" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="no JSON"):
        read(copy)


def test_name_that_is_neither_folder_nor_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="neither a folder here nor a repository"):
        locate("nobody/nothing-of-that-name")
    with pytest.raises(CheckpointError, match="neither a folder here nor a repository"):
        locate("/no such folder/at all/here")


def test_index_points_inside_the_folder_only(copy: Path) -> None:
    index = copy / "ckpt" / "pytorch_model.bin.index.json"
    table = json.loads(index.read_text())
    table["weight_map"] = {name: "../../" + shard for name, shard in table["weight_map"].items()}
    index.write_text(json.dumps(table))
    assert len(read_weights(copy / "ckpt")) == 235
