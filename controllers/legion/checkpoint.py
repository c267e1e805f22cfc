"""Read LEGION and GLaMM checkpoints in the layouts that are published, and say what was in them.

Layouts: a merged folder (sharded ``.bin`` or safetensors), a training export with LoRA inserts, a stage-2 export with the detector head,
SAM's own file beside a base. Pickles are read with ``weights_only=True`` only: a file that carries code is refused.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from refine.controllers.legion.configuration import LegionConfig
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.names import rename
from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.tokens import LegionTokenizer
from refine.errors import CheckpointError, OutputError

State = dict[str, Tensor]
LORA_SCALE = 2.0  # alpha / r = 16 / 8 in the original's training script
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLES = ("model.safetensors", "pytorch_model.bin")
_WANTED = ["*.json", "*.safetensors", "pytorch_model*.bin", "tokenizer.model"]  # of a repository that also holds other frameworks' copies
# The box, point and mask prompts of SAM, which LEGION never uses
_OPTIONAL = ("sam.prompt_encoder.point_embed", "sam.prompt_encoder.not_a_point_embed", "sam.prompt_encoder.mask_embed")
_TIED = "sam.prompt_encoder.shared_embedding.positional_embedding"


@dataclass(frozen=True)
class Report:
    """What a checkpoint held: tensors and bytes per module, keys left out per module, keys that were missing per module."""

    tensors: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    unused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{m}: {n} tensors, {self.bytes[m] / 1e6:.1f} MB" for m, n in sorted(self.tensors.items())]
        lines += [f"{m}: {len(keys)} tensors not used, such as {keys[0]}" for m, keys in sorted(self.unused.items()) if keys]
        lines += [f"{m}: {len(keys)} tensors missing, such as {keys[0]}" for m, keys in sorted(self.missing.items()) if keys]
        return "\n".join(lines)


# Files


def read_weights(path: Path) -> State:
    """Every tensor of a weight file, or of a folder with one file or an index of shards. Raises CheckpointError."""
    if path.is_file():
        return _read_file(path)
    for name in _INDEXES:
        if (path / name).exists():
            shards = sorted(set(json.loads((path / name).read_text("utf-8"))["weight_map"].values()))
            return {key: value for shard in shards for key, value in _read_file(path / Path(shard).name).items()}
    for name in _SINGLES:
        if (path / name).exists():
            return _read_file(path / name)
    raise CheckpointError(f"No weights in {path}: expected one of {', '.join((*_SINGLES, *_INDEXES))}.")


def _read_file(path: Path) -> State:
    if not path.exists():
        raise CheckpointError(f"The checkpoint's shard {path} is missing. Fetch it again.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} is no plain weight file: it holds code or objects, and is not opened. Use safetensors.") from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({type(error).__name__}): it is cut short or foreign. Fetch it again.") from error
    state = loaded.get("module", loaded.get("state_dict", loaded)) if isinstance(loaded, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} is no table of tensors. Give a file that torch.save wrote from a state_dict.")
    return dict(state)


def merge_lora(state: Mapping[str, Tensor], scale: float = LORA_SCALE) -> State:
    """Fold LoRA inserts into their weights: W + scale · B A. A state without inserts comes back as it is."""
    merged = {_plain(key): value for key, value in state.items() if ".lora_" not in key}
    for key, down in state.items():
        if ".lora_A." not in key:
            continue
        up = state.get(key.replace(".lora_A.", ".lora_B."))
        target = _plain(key.split(".lora_A.")[0] + ".weight")
        if up is None or target not in merged:
            lack = "second half" if up is None else "weight to merge into"
            raise CheckpointError(f"The LoRA insert {key} has no {lack}: the export is incomplete. Export it again.")
        weight = merged[target]
        merged[target] = (weight.float() + scale * (up.float() @ down.float())).to(weight.dtype)
    return merged


def _plain(key: str) -> str:
    return key.removeprefix("base_model.model.").removeprefix("module.").replace(".base_layer.", ".")


def convert_names(state: Mapping[str, Tensor]) -> tuple[State, Report]:
    """A checkpoint's tensors under ``LegionModel``'s names, and the census of what was there."""
    out: State = {}
    tensors: dict[str, int] = {}
    sizes: dict[str, int] = {}
    unused: dict[str, tuple[str, ...]] = {}
    for key, value in state.items():
        module, name = rename(key)
        tensors[module] = tensors.get(module, 0) + 1
        sizes[module] = sizes.get(module, 0) + value.numel() * value.element_size()
        if name is None:
            unused[module] = (*unused.get(module, ()), key)
        else:
            out[name] = value
    return out, Report(tensors, sizes, unused)


# Sizes from shapes


def sam_config(state: Mapping[str, Tensor], decoder_heads: int = 8) -> SamConfig:
    """SAM's sizes from its tensors (under ``LegionModel``'s names). The decoder's head count leaves no trace in them."""
    shape = {key.removeprefix("sam."): tuple(value.shape) for key, value in state.items() if key.startswith("sam.")}
    try:
        vision = _vision_config(shape)
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
    masks = shape.get("prompt_encoder.mask_embed.conv2.weight", (16,))[0]
    prompt = SamPromptEncoderConfig(
        hidden_size=width, image_size=vision.image_size, patch_size=vision.patch_size, mask_input_channels=masks
    )
    return SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def _vision_config(shape: Mapping[str, tuple[int, ...]]) -> SamVisionConfig:
    _, grid, _, width = shape["vision_encoder.pos_embed"]
    patch = shape["vision_encoder.patch_embed.projection.weight"][-1]
    depth = _count(shape, "vision_encoder.layers.")
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


def _count(keys: Iterable[str], prefix: str) -> int:
    """How many numbered children ``prefix`` has."""
    return len({key[len(prefix) :].split(".")[0] for key in keys if key.startswith(prefix)})


def llama_config(settings: Mapping[str, Any], state: Mapping[str, Tensor]) -> LlamaConfig:
    """LLaMA's sizes from a checkpoint's config.json; the vocabulary from its embedding table."""
    known = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "rms_norm_eps")
    more = ("max_position_embeddings", "hidden_act", "rope_theta", "pad_token_id", "bos_token_id", "eos_token_id")
    vocabulary = state["llm.model.embed_tokens.weight"].shape[0] if "llm.model.embed_tokens.weight" in state else settings["vocab_size"]
    return LlamaConfig(**{k: settings[k] for k in (*known, *more) if settings.get(k) is not None}, vocab_size=vocabulary)


def clip_config(folder: Path) -> CLIPVisionConfig:
    """The vision half of a CLIP folder's config.json."""
    settings = _settings(folder)
    return CLIPVisionConfig(**{k: v for k, v in settings.get("vision_config", settings).items() if k != "model_type"})


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(f"No config.json in {folder}. Point to a whole checkpoint folder.")
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error}). Fetch it again.") from error


def stored_as(folder: Path) -> str:
    """The ``model_type`` of a checkpoint: "legion" is our own layout."""
    return str(_settings(folder).get("model_type", ""))


# The whole model


def locate(source: str | Path) -> Path:
    """A local folder as it is, anything else as a hub repository (its cache when offline)."""
    if Path(source).exists():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(source), allow_patterns=_WANTED))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(source)!r} is neither a folder here nor a repository that can be reached ({type(error).__name__}). "
            "Check the spelling, the network, or download it first and give the folder."
        ) from error


def load_original(
    source: str | Path,
    *,
    clip: str | Path | None = None,
    detector: str | Path | None = None,
    sam: str | Path | None = None,
    sam_side: int = 512,
    sam_decoder_heads: int = 8,
    dtype: torch.dtype | None = None,
) -> tuple[LegionModel, LegionProcessor, Report]:
    """A published checkpoint as ``LegionModel`` and its processor, with a report of what was read.

    source: folder or hub repository. clip: where the CLIP tower lies (default: the one that the checkpoint's config names). detector, sam:
    files that hold a prediction head or SAM apart from the rest. sam_side: longest image side on SAM's canvas. dtype None: as stored.
    Raises CheckpointError, naming the module, when a needed tensor is missing or has the wrong shape.
    """
    folder = locate(source)
    settings = _settings(folder)
    tower = locate(clip or settings.get("mm_vision_tower") or "openai/clip-vit-large-patch14-336")
    files = [tower, folder, *(Path(extra) for extra in (sam, detector) if extra)]
    raw = {key: value for file in files for key, value in merge_lora(read_weights(file)).items()}
    state, report = convert_names(raw)
    tokenizer = LegionTokenizer.from_pretrained(folder)
    head = state.get("detector.0.weight")
    config = LegionConfig(
        clip_config=clip_config(tower),
        llama_config=llama_config(settings, state),
        sam_config=sam_config(state, sam_decoder_heads),
        vision_layer=settings.get("mm_vision_select_layer", -2),
        seg_token_id=tokenizer.id("[SEG]"),
        detector_hidden=0 if head is None else head.shape[0],
    )
    model, report = _build(config, state, report, dtype)
    canvas = config.sam_config.vision_config.image_size
    return model, LegionProcessor(tokenizer, config.clip_config.image_size, min(sam_side, canvas), canvas), report


def convert(source: str | Path, out: str | Path, **how: Any) -> Report:
    """Write a published checkpoint (see ``load_original``) to the folder ``out`` in our own layout, and say what was in it."""
    model, processor, report = load_original(source, **how)
    try:
        model.save_pretrained(out)
        processor.save_pretrained(out)
    except OSError as error:
        raise OutputError(f"The converted checkpoint cannot be written to {out}: {error}. Free space or choose another folder.") from error
    return report


def _build(config: LegionConfig, state: State, report: Report, dtype: torch.dtype | None) -> tuple[LegionModel, Report]:
    with torch.device("meta"):
        wanted = LegionModel(config).state_dict()
    missing = [key for key in wanted if key not in state and key != _TIED]
    needed = [key for key in missing if not key.startswith(_OPTIONAL)]
    if needed:
        raise CheckpointError(_incomplete(needed, report))
    for key, value in state.items():
        if key in wanted and wanted[key].shape != value.shape:
            shapes = f"{tuple(value.shape)}, its configuration wants {tuple(wanted[key].shape)}"
            raise CheckpointError(f"The module {_module(key)} does not fit: {key} is {shapes}. Do weights and config.json belong together?")
    extra = {m: (*report.unused.get(m, ()), *k) for m, k in _by_module(k for k in state if k not in wanted).items()}
    kept = {key: value for key, value in state.items() if key in wanted}
    model = LegionModel.from_pretrained(None, config=config, state_dict=kept, dtype=dtype or "auto")
    return model.eval(), Report(report.tensors, report.bytes, {**report.unused, **extra}, _by_module(missing))


def _incomplete(needed: list[str], report: Report) -> str:
    parts = [f"{module} ({len(keys)} tensors, such as {keys[0]})" for module, keys in _by_module(needed).items()]
    return f"The checkpoint lacks what LEGION needs: {'; '.join(parts)}. Found:\n{report}"


def _module(key: str) -> str:
    return key.split(".")[0]


def _by_module(keys: Iterable[str]) -> dict[str, tuple[str, ...]]:
    out: dict[str, tuple[str, ...]] = {}
    for key in keys:
        out[_module(key)] = (*out.get(_module(key), ()), key)
    return out
