"""Published LEGION and GLaMM checkpoints: what is in them, whether it is enough, and how it becomes a ``LegionModel``.

Layouts: a merged folder (sharded ``.bin`` or safetensors), a training export with LoRA inserts, a stage-2 export with the detector head,
SAM's own file beside a base. Everything is decided on shapes; the tensors are read once, one by one, when the plan is carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from refine.controllers.legion import lora
from refine.controllers.legion.census import Census, Report
from refine.controllers.legion.configuration import LegionConfig
from refine.controllers.legion.files import locate, settings, shapes, tensors
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.names import rename
from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.sizes import clip_config, clip_config_of, llama_config, sam_config
from refine.controllers.legion.tokens import LegionTokenizer
from refine.errors import CheckpointError

CLIP = "openai/clip-vit-large-patch14-336"
NEEDED = {
    "llm": "the checkpoint itself, or --base",
    "mm_projector": "the checkpoint itself, or --base",
    "text_hidden_fcs": "a LEGION or GLaMM checkpoint, or --base",
    "sam": "--sam sam_vit_h_4b8939.pth, or --base",
    "clip": f"--clip {CLIP}",
}
# The box, point and mask prompts of SAM, which LEGION never uses
_OPTIONAL = ("sam.prompt_encoder.point_embed", "sam.prompt_encoder.not_a_point_embed", "sam.prompt_encoder.mask_embed")
_TIED = "sam.prompt_encoder.shared_embedding.positional_embedding"


class Parts(TypedDict, total=False):
    """What may lie apart from a checkpoint, and what its tensors do not tell.

    base: folder or repository with the tensors, config.json and tokenizer that the checkpoint lacks. clip: folder or repository of the CLIP
    tower (default: the one that config.json names). sam, detector: files of SAM and of a prediction head. sam_side: the image's longer
    side on SAM's canvas (default 512). sam_decoder_heads: default 8. lora_alpha: default that of adapter_config.json, else 16.
    """

    base: str | Path | None
    clip: str | Path | None
    sam: str | Path | None
    detector: str | Path | None
    sam_side: int | None
    sam_decoder_heads: int
    lora_alpha: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A checkpoint that fits, before its tensors are read.

    wanted: shape and type (meta device) of every tensor the model takes from it, in the order they are read; files: where each lies.
    """

    config: LegionConfig
    processor: LegionProcessor
    wanted: Mapping[str, Tensor]
    files: Mapping[Path, Mapping[str, str]]  # weight file -> its key -> the model's name
    inserts: Mapping[str, lora.Insert]
    report: Report

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name in ``LegionModel``, tensor) in the order of ``wanted``, LoRA folded in."""
        for file, names in self.files.items():
            for key, value in tensors(file):
                if key in names:
                    insert = self.inserts.get(lora.plain(key))
                    yield names[key], value if insert is None else insert.folded(value)


def plan(source: str | Path, **parts: Unpack[Parts]) -> Plan:
    """Read the headers of a published checkpoint and decide what becomes of each tensor. Raises CheckpointError, naming the module."""
    place = locate(source)
    base = parts.get("base")
    folders = [place if place.is_dir() else place.parent, *([locate(base)] if base else [])]
    stated = next((settings(folder) for folder in folders if (folder / "config.json").exists()), {})
    if stated.get("model_type") == LegionConfig.model_type:
        raise CheckpointError(f"{source} is in refine's own layout already. Use it as it is: controller.source={source}.")
    seen = Census()
    for extra in (*(folders[1:]), parts.get("sam"), place, parts.get("detector")):
        if extra is None:
            continue
        for file, header in shapes(locate(extra)).items():
            for key, value in header.items():
                seen.add(file, key, value)
    tower = _tower(seen, stated, parts.get("clip"))
    state = seen.state
    _complete(state, seen)
    inserts = _inserts(seen, parts.get("lora_alpha") or lora.alpha_of(folders[0]))
    tokenizer = LegionTokenizer.from_pretrained(next((one for one in folders if _has_tokenizer(one)), folders[0]))
    head = state.get("detector.0.weight")
    config = LegionConfig(
        clip_config=clip_config(tower) if tower else clip_config_of(state),
        llama_config=llama_config(stated, state, seen.rotary),
        sam_config=sam_config(state, parts.get("sam_decoder_heads", 8)),
        vision_layer=stated.get("mm_vision_select_layer", -2),
        seg_token_id=tokenizer.id("[SEG]"),
        detector_hidden=0 if head is None else head.shape[0],
        dtype=state["llm.model.embed_tokens.weight"].dtype,
        architectures=[LegionModel.__name__],
    )
    _check_settings(stated, config, tokenizer)
    canvas = config.sam_config.vision_config.image_size
    processor = LegionProcessor(tokenizer, config.clip_config.image_size, min(parts.get("sam_side") or 512, canvas), canvas)
    return _fitted(config, processor, seen, inserts)


def build(made: Plan, **how: Any) -> LegionModel:
    """Carry a plan out in memory. how: ``dtype`` and what else ``PreTrainedModel.from_pretrained`` takes."""
    how["dtype"] = how.get("dtype") or made.config.dtype
    model: LegionModel = LegionModel.from_pretrained(None, config=made.config, state_dict=dict(made.tensors()), **how)
    model.eval()
    return model


def _tower(seen: Census, stated: Mapping[str, Any], given: str | Path | None) -> Path | None:
    """The CLIP folder: the given one, else the one that config.json names; None where the checkpoint holds a tower of its own."""
    if given is None and any(name.startswith("clip.") for name in seen.owner):
        return None
    named = str(given or stated.get("mm_vision_tower") or stated.get("vision_tower") or CLIP)
    # Published configs name paths of the machine they were trained on; the tower is always the same.
    tower = locate(CLIP if given is None and named.startswith(("/", ".")) and not Path(named).exists() else named)
    own = set(seen.owner)
    for file, header in shapes(tower).items():
        for key, value in header.items():
            if rename(lora.plain(key))[1] not in own:
                seen.add(file, key, value)
    return tower if tower.is_dir() else tower.parent


def _complete(state: Mapping[str, Tensor], seen: Census) -> None:
    lacking = [module for module in NEEDED if not any(name.startswith(f"{module}.") for name in state)]
    if lacking:
        wanted = "; ".join(f"{module} (give {NEEDED[module]})" for module in lacking)
        found = seen.report()
        raise CheckpointError(f"The checkpoint holds nothing of what LEGION needs for: {wanted}. Found:\n{found}")


def _inserts(seen: Census, alpha: float | None) -> dict[str, lora.Insert]:
    if not seen.inserts:
        return {}
    wanted = set(seen.inserts)
    found = [(k, v.clone()) for file in dict.fromkeys(f for f, _ in seen.inserts) for k, v in tensors(file) if (file, k) in wanted]
    weights = {lora.plain(key): tuple(value.shape) for _, key, value in seen.owner.values()}
    return lora.gather(found, weights, lora.ALPHA if alpha is None else alpha)


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.model").exists() or (folder / "legion_tokenizer.json").exists()


def _check_settings(stated: Mapping[str, Any], config: LegionConfig, tokenizer: LegionTokenizer) -> None:
    feature = stated.get("mm_vision_select_feature", "patch")
    if feature != "patch":
        raise CheckpointError(f"mm_vision_select_feature is {feature!r}; LEGION reads CLIP's patches only. Is this a LEGION checkpoint?")
    vocabulary = config.llama_config.vocab_size
    if len(tokenizer) > vocabulary:
        raise CheckpointError(f"The tokenizer has {len(tokenizer)} tokens, the embeddings {vocabulary} rows. Give the one it came with.")


def _fitted(config: LegionConfig, processor: LegionProcessor, seen: Census, inserts: Mapping[str, lora.Insert]) -> Plan:
    with torch.device("meta"):
        model = LegionModel(config).state_dict()
    state = seen.state
    missing = [key for key in model if key not in state and key != _TIED]
    report = seen.report()
    needed = [key for key in missing if not key.startswith(_OPTIONAL)]
    if needed:
        raise CheckpointError(_incomplete(needed, report))
    for key, value in state.items():
        if key in model and model[key].shape != value.shape:
            found = f"{tuple(value.shape)}, its configuration wants {tuple(model[key].shape)}"
            raise CheckpointError(f"The module {_module(key)} does not fit: {key} is {found}. Do weights and config.json belong together?")
    extra = {m: (*seen.unused.get(m, ()), *k) for m, k in _by_module(k for k in state if k not in model).items()}
    files: dict[Path, dict[str, str]] = {}
    for name, (file, key, _) in seen.owner.items():
        if name in model:
            files.setdefault(file, {})[key] = name
    folded = f"{len(inserts)} inserts folded in ({lora.ranks(inserts)})" if inserts else ""
    report = replace(report, unused={**seen.unused, **extra}, missing=_by_module(missing), lora=folded)
    wanted = {name: state[name] for names in files.values() for name in names.values()}
    return Plan(config, processor, wanted, files, inserts, report)


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
