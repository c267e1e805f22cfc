"""``refine convert``: every published layout becomes the same model as the golden one, or a sentence that says why not."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from legion_parts import GOLDEN, golden, load_original, read_weights, tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from refine import cli
from refine.controllers.legion.checkpoint import plan
from refine.controllers.legion.conversion import convert
from refine.controllers.legion.generation import left_pad, respond
from refine.controllers.legion.loading import load
from refine.controllers.legion.lora import gather
from refine.errors import CheckpointError, OutputError

SAM = "model.grounding_encoder."
HEADS = {"sam_decoder_heads": 2}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for folder in ("ckpt", "clip"):
        shutil.copytree(GOLDEN / folder, tmp_path / folder)
    shutil.copy(GOLDEN / "prediction_head.bin", tmp_path)
    return tmp_path


def weights(folder: Path) -> dict[str, Tensor]:
    return read_weights(folder / "ckpt")


def store(folder: Path, state: dict[str, Tensor], how: str = "safetensors", shards: int = 1) -> None:
    """Replace the weights of a copied checkpoint, in one of the formats people publish."""
    for old in [*folder.glob("pytorch_model*"), *folder.glob("*.safetensors*")]:
        old.unlink()
    keys = list(state)
    stem, ending = ("model", ".safetensors") if how == "safetensors" else ("pytorch_model", ".bin")
    table = {}
    for k in range(shards):
        name = f"{stem}{ending}" if shards == 1 else f"{stem}-{k + 1:05d}-of-{shards:05d}{ending}"
        part = {key: state[key].contiguous() for key in keys[k::shards]}  # keys that belong together lie apart
        table |= dict.fromkeys(part, name)
        if how == "safetensors":
            save_file(part, folder / name)
        else:
            torch.save(part, folder / name, _use_new_zipfile_serialization=how != "old bin")
    if shards > 1:
        (folder / f"{stem}{ending}.index.json").write_text(json.dumps({"weight_map": table}))


def same(folder: Path, wanted: dict[str, Tensor] | None = None, tolerance: float = 0, **parts: Any) -> None:
    """Convert, load what was written, and compare with the golden model."""
    convert(folder / "ckpt", folder / "out", **({"clip": folder / "clip"} | HEADS | parts))
    found, wanted = load(folder / "out")[0].state_dict(), wanted or golden()[0].state_dict()
    assert set(found) in (set(wanted), {key for key in wanted if not key.startswith("detector.")})
    for key, value in found.items():
        torch.testing.assert_close(value, wanted[key], atol=tolerance, rtol=0, msg=key)


def unmerged(state: dict[str, Tensor], r: int, alpha: float, prefix: str = "", base: str = "") -> dict[str, Tensor]:
    """A training export that merges to ``state``: inserts on q_proj and v_proj whose product is taken off the weights."""
    torch.manual_seed(0)
    out = dict(state)
    for key in [key for key in state if key.endswith(("q_proj.weight", "v_proj.weight")) and key.startswith("model.layers.")]:
        rows, columns = state[key].shape
        down, up = torch.randn(r, columns) / 8, torch.randn(rows, r) / 8
        stem = key.removesuffix(".weight")
        del out[key]
        out |= {f"{stem}.lora_A.default.weight": down, f"{stem}.lora_B.default.weight": up}
        out[f"{stem}{base}.weight"] = state[key] - alpha / r * up @ down
    return {prefix + key: value for key, value in out.items()}


@pytest.mark.parametrize("how", ["safetensors", "bin", "old bin"])
@pytest.mark.parametrize("shards", [1, 3])
def test_formats_and_shards(copy: Path, how: str, shards: int) -> None:
    store(copy / "ckpt", weights(copy), how, shards)
    same(copy)


@pytest.mark.parametrize(("prefix", "base"), [("", ""), ("base_model.model.", ""), ("module.base_model.model.", ".base_layer")])
def test_lora_is_folded_in_wherever_its_halves_lie(copy: Path, prefix: str, base: str) -> None:
    store(copy / "ckpt", unmerged(weights(copy), 8, 16, prefix, base), "bin", shards=3)
    same(copy, tolerance=1e-6)


def test_rank_is_read_and_alpha_is_given_or_found(copy: Path) -> None:
    store(copy / "ckpt", unmerged(weights(copy), r=4, alpha=32))
    same(copy, tolerance=2e-6, lora_alpha=32.0)
    shutil.rmtree(copy / "out")
    (copy / "ckpt" / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 32}')
    report = plan(copy / "ckpt", clip=copy / "clip", sam_decoder_heads=2).report
    assert report.lora == "4 inserts folded in (r 4, alpha 32)"
    same(copy, tolerance=2e-6)


def test_an_export_without_settings_stands_on_its_base(copy: Path) -> None:
    """What the original's script saves: the trained tensors alone, next to the folder training began with."""
    trained = unmerged(weights(copy), 8, 16)
    kept = {k: v for k, v in trained.items() if "q_proj.weight" not in k and "v_proj.weight" not in k and "image_encoder" not in k}
    store(copy / "ckpt", {k: v for k, v in trained.items() if ".lora_" not in k} | {"lm_head.weight": torch.zeros(487, 64)})
    shutil.move(copy / "ckpt", copy / "base")
    (copy / "ckpt").mkdir()
    store(copy / "ckpt", kept, "bin")
    same(copy, tolerance=1e-6, base=copy / "base")


def test_stage_two_with_its_own_clip_and_detector(copy: Path) -> None:
    clip = {f"model.vision_tower.vision_tower.{k}": v for k, v in read_weights(copy / "clip").items()}
    head = read_weights(copy / "prediction_head.bin")
    store(copy / "ckpt", weights(copy) | clip | head, "bin", shards=2)
    (copy / "clip" / "pytorch_model.bin").unlink()  # only its sizes are needed
    torch.save({"something.else": torch.zeros(1)}, copy / "clip" / "pytorch_model.bin")
    same(copy)
    assert load(copy / "out")[0].detector is not None


def test_clip_as_transformers_5_stores_it(copy: Path) -> None:
    state = {k.removeprefix("vision_model."): v for k, v in read_weights(copy / "clip").items()}
    (copy / "clip" / "pytorch_model.bin").unlink()
    save_file(state, copy / "clip" / "model.safetensors")
    same(copy)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_sam_beside_a_base_that_has_none(copy: Path, suffix: str) -> None:
    state = weights(copy)
    sam = {k.removeprefix(SAM): v.contiguous() for k, v in state.items() if k.startswith(SAM)}
    file = copy / f"sam_vit_h_4b8939{suffix}"
    torch.save(sam, file) if suffix == ".pth" else save_file(sam, file)
    store(copy / "ckpt", {k: v for k, v in state.items() if not k.startswith(SAM)})
    with pytest.raises(CheckpointError, match=r"for: sam \(give --sam sam_vit_h_4b8939.pth"):
        load_original(copy / "ckpt", clip=copy / "clip")
    same(copy, sam=file)


def test_the_checkpoints_own_mask_decoder_counts_before_sams(copy: Path) -> None:
    raw = {k.removeprefix(SAM): torch.zeros_like(v) for k, v in weights(copy).items() if k.startswith(SAM)}
    torch.save(raw, copy / "sam.pth")
    same(copy, sam=copy / "sam.pth")
    assert plan(copy / "ckpt", clip=copy / "clip", sam=copy / "sam.pth", **HEADS).report.replaced == {"sam": 202}


def test_bfloat16_stays_and_mixed_precision_is_kept(copy: Path) -> None:
    """The public files: SAM and the [SEG] projection in float32, the rest in bfloat16."""
    state = {k: v if k.startswith((SAM, "model.text_hidden_fcs")) else v.bfloat16() for k, v in weights(copy).items()}
    store(copy / "ckpt", state)
    convert(copy / "ckpt", copy / "out", clip=copy / "clip", **HEADS)
    found = load_file(copy / "out" / "model.safetensors")
    assert {found[k].dtype for k in found if k.startswith("sam.")} == {torch.float32}
    assert {found[k].dtype for k in found if k.startswith("llm.")} == {torch.bfloat16}
    assert load(copy / "out")[0].dtype == torch.bfloat16  # "as stored" of a model is its language model's type
    convert(copy / "ckpt", copy / "small", clip=copy / "clip", dtype=torch.bfloat16, **HEADS)
    assert {value.dtype for value in load_file(copy / "small" / "model.safetensors").values()} == {torch.bfloat16}


def test_extra_tensors_are_reported_by_module(copy: Path) -> None:
    extra = {f"model.region_encoder.mlvl_fuse.input_conv.{k}.bias": torch.zeros(4) for k in range(4)} | {"optimizer.step": torch.zeros(1)}
    store(copy / "ckpt", weights(copy) | extra)
    report = convert(copy / "ckpt", copy / "out", clip=copy / "clip", **HEADS)
    assert len(report.unused["region_encoder"]) == 6 and report.unused["unknown"] == ("optimizer.step",)
    assert "unknown: 1 tensors not used, such as optimizer.step" in str(report)


def test_round_trip_gives_the_original_answers(copy: Path) -> None:
    parts = {"clip": copy / "clip", "detector": copy / "prediction_head.bin", "sam_side": 1024} | HEADS
    convert(copy / "ckpt", copy / "out", shard=300_000, **parts)
    model, processor = load(copy / "out")
    image = PIL.Image.open(GOLDEN / "input.png").convert("RGB")
    with np.load(GOLDEN / "expected.npz") as expected, torch.inference_mode():
        tokens, cls = model.image_features(processor.clip_pixels([image]))
        ids, mask = left_pad([processor.prompt_ids()], processor.tokenizer.pad_id)
        (answer,) = respond(model, ids, mask, tokens, eos_id=processor.tokenizer.eos_id, max_new_tokens=48)
        assert [*ids[0].tolist(), *answer.ids] == expected["output_ids"][0].tolist()
        pixels, (size,) = processor.sam_pixels([image])
        logits = model.decode_masks(answer.seg_states, model.sam_features(pixels), size, (image.height, image.width))
        np.testing.assert_allclose(logits.numpy(), expected["mask_logits"], atol=2e-4, rtol=0)
        np.testing.assert_allclose(model.detect(cls).numpy(), expected["cls_logits"], atol=1e-4, rtol=0)


def test_shards_are_small_and_indexed(copy: Path) -> None:
    steps: list[tuple[int, int]] = []
    convert(copy / "ckpt", copy / "out", clip=copy / "clip", shard=300_000, progress=lambda *step: steps.append(step), **HEADS)
    index = json.loads((copy / "out" / "model.safetensors.index.json").read_text())
    held = {file.name: contents(file) for file in (copy / "out").glob("*.safetensors")}
    assert {name: set(keys) for name, keys in held.items()} == {
        name: {key for key, where in index["weight_map"].items() if where == name} for name in held
    }
    assert all(sum(keys.values()) <= 300_000 or len(keys) == 1 for keys in held.values())
    assert steps[0] == (0, index["metadata"]["total_size"]) and steps[-1] == (index["metadata"]["total_size"],) * 2
    assert [done for done, _ in steps] == sorted(done for done, _ in steps) and len(steps) == len(held) + 1


def contents(file: Path) -> dict[str, int]:
    with safe_open(file, "pt") as opened:
        return {key: (value := opened.get_tensor(key)).numel() * value.element_size() for key in opened.keys()}  # noqa: SIM118


def nothing_left(folder: Path, names: Iterable[str] = ("out",)) -> None:
    left = {entry.name for entry in folder.iterdir()}
    assert not left & set(names) and not any("partial" in name for name in left)


def test_a_source_that_fails_midway_leaves_nothing(copy: Path) -> None:
    made = plan(copy / "ckpt", clip=copy / "clip", **HEADS)
    assert made.wanted
    shard = copy / "ckpt" / "pytorch_model-00002-of-00002.bin"

    def break_it(done: int, total: int) -> None:
        if not done:
            shard.write_bytes(shard.read_bytes()[:1000])

    with pytest.raises(CheckpointError, match="cut short"):
        convert(copy / "ckpt", copy / "out", clip=copy / "clip", shard=300_000, progress=break_it, **HEADS)
    nothing_left(copy)


def test_an_interrupt_leaves_nothing(copy: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(copy / "ckpt", copy / "out", clip=copy / "clip", shard=300_000, progress=stop, **HEADS)
    nothing_left(copy)


def test_a_disk_without_room_is_said_before_anything_is_written(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(copy)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(OutputError, match=r"needs 0\.0 GB.*Free space or choose another folder"):
        convert(copy / "ckpt", copy / "out", clip=copy / "clip", **HEADS)
    nothing_left(copy)


def test_a_disk_that_fills_up_leaves_nothing(copy: Path) -> None:
    arguments = ["convert", "legion", str(copy / "ckpt"), str(copy / "out"), "--clip", str(copy / "clip"), "--sam-decoder-heads", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "refine", *arguments], cwd=Path(__file__).parent.parent, capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )  # fmt: skip
    assert done.returncode == OutputError.exit_code, done.stderr
    assert "cannot be written" in done.stderr and "Free space" in done.stderr and "Traceback" not in done.stderr
    nothing_left(copy)


def test_what_exists_is_not_overwritten(copy: Path) -> None:
    with pytest.raises(OutputError, match="exists already"):
        convert(copy / "ckpt", copy / "clip", clip=copy / "clip", **HEADS)
    (copy / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        convert(copy / "ckpt", copy / "file" / "out", clip=copy / "clip", **HEADS)
    (copy / "out").mkdir()
    same(copy)  # an empty folder is as good as none


def test_command_says_what_it_found(copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["convert", "legion", str(copy / "ckpt"), str(copy / "out"), "--clip", str(copy / "clip"), "--sam-decoder-heads", "2"]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "sam: 202 tensors" in out and "region_encoder: 2 tensors not used" in out and f"written: {copy / 'out'}" in out
    assert cli.main(["convert", "legion", str(copy / "out"), str(copy / "again")]) == CheckpointError.exit_code
    assert "own layout already" in capsys.readouterr().err
    assert cli.main(["convert", "legion", "x", "y", "--sam-side", "0", "--lora-alpha", "-1"]) == 2
    err = capsys.readouterr().err
    assert "sam-side is 0" in err and "lora-alpha is -1" in err


def test_own_layout_that_lacks_a_tensor_is_refused(tmp_path: Path) -> None:
    model, processor = tiny()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["llm.model.layers.1.mlp.up_proj.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 tensors, such as llm\.model\.layers\.1\.mlp\.up_proj\.weight"):
        load(tmp_path)


def test_foreign_checkpoint_is_named(copy: Path) -> None:
    store(copy / "ckpt", {k: v for k, v in weights(copy).items() if k.startswith(("model.layers", "model.embed", "lm_head", "model.norm"))})
    with pytest.raises(CheckpointError, match=r"mm_projector \(.*text_hidden_fcs \(.*sam \("):
        load_original(copy / "ckpt", clip=copy / "clip")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mm_vision_select_feature": "cls_patch"}, "reads CLIP's patches only"),
        ({"num_attention_heads": 5}, "5 heads do not divide"),
        ({"num_hidden_layers": 3}, r"lacks what LEGION needs: llm \(9 tensors"),
        ({"intermediate_size": 100}, r"llm does not fit.*\(128, 64\).*\(100, 64\)"),
    ],
)
def test_settings_that_contradict_the_tensors(copy: Path, settings: dict[str, Any], message: str) -> None:
    path = copy / "ckpt" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(CheckpointError, match=message):
        plan(copy / "ckpt", clip=copy / "clip", **HEADS)


def test_sizes_are_read_from_tensors_where_settings_say_nothing(copy: Path) -> None:
    wanted = plan(copy / "ckpt", clip=copy / "clip", **HEADS).config.llama_config
    (copy / "ckpt" / "config.json").write_text("{}")
    found = plan(copy / "ckpt", clip=copy / "clip", **HEADS).config.llama_config
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size"):
        assert getattr(found, name) == getattr(wanted, name), name
    assert found.rms_norm_eps == wanted.rms_norm_eps == 1e-5


def test_tokenizer_of_another_model_is_refused(copy: Path) -> None:
    (copy / "ckpt" / "added_tokens.json").write_text(json.dumps({"[SEG]": 600}))
    with pytest.raises(CheckpointError, match="601 tokens, the embeddings 487 rows"):
        plan(copy / "ckpt", clip=copy / "clip", **HEADS)


def test_heads_that_do_not_divide_are_named(copy: Path) -> None:
    with pytest.raises(CheckpointError, match="5 heads do not divide SAM's decoder"):
        plan(copy / "ckpt", clip=copy / "clip", sam_decoder_heads=5)


def test_paths_of_another_machine_are_not_looked_for(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = copy / "ckpt" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"mm_vision_tower": "/mnt/cluster/clip-vit-large-patch14-336"}))
    with pytest.raises(CheckpointError, match="'openai/clip-vit-large-patch14-336' is neither"):
        plan(copy / "ckpt", **HEADS)


def test_halves_and_misfits_of_lora_are_named() -> None:
    down, up = torch.zeros(8, 4), torch.zeros(6, 8)
    a, b = "model.q.lora_A.default.weight", "model.q.lora_B.default.weight"
    assert gather([(a, down), (b, up)], {"model.q.weight": (6, 4)})["model.q.weight"].scale == 2
    with pytest.raises(CheckpointError, match="no second half"):
        gather([(a, down)], {"model.q.weight": (6, 4)})
    with pytest.raises(CheckpointError, match="no second half"):
        gather([(b, up)], {"model.q.weight": (6, 4)})
    with pytest.raises(CheckpointError, match=r"no weight to merge into.*--base"):
        gather([(a, down), (b, up)], {})
    with pytest.raises(CheckpointError, match=r"does not fit: A \(8, 4\), B \(6, 8\), the weight \(6, 5\)"):
        gather([(a, down), (b, up)], {"model.q.weight": (6, 5)})
    with pytest.raises(CheckpointError, match="of a kind"):
        gather([("model.q.lora_magnitude_vector", up)], {})


def test_folding_is_the_paper_formula() -> None:
    torch.manual_seed(0)
    weight, down, up = torch.randn(6, 4), torch.randn(8, 4), torch.randn(6, 8)
    (insert,) = gather([("q.lora_A.weight", down), ("q.lora_B.weight", up)], {"q.weight": (6, 4)}, alpha=16).values()
    torch.testing.assert_close(insert.folded(weight), weight + 2 * up @ down)
    half = insert.folded(weight.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), weight.bfloat16().float() + 2 * up @ down, atol=0.05, rtol=0.01)


def test_partial_folder_of_a_killed_conversion_is_swept(copy: Path) -> None:
    (copy / ".out.partial").mkdir()
    (copy / ".out.partial" / "junk").write_text("x")
    same(copy)
    assert not (copy / ".out.partial").exists() and not (copy / "out" / "junk").exists()
    assert os.access(copy / "out" / "config.json", os.R_OK)
