"""Load a LEGION in the precision and with the attention that the machine has room for."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from refine.controllers.legion.checkpoint import Parts, build, plan
from refine.controllers.legion.configuration import LegionConfig
from refine.controllers.legion.files import locate, settings
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import LegionProcessor
from refine.errors import CheckpointError, ConfigError, MissingDependency, UnknownName, loading

QUANTIZED = ("8bit", "4bit")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
# Everything but LLaMA's layers keeps its precision: the towers and the mask decoder are small beside them and turn rounding into moved
# masks, the projections and heads read states whose last digits decide, and quantizers do not know them.
KEPT = ["clip", "sam", "mm_projector", "text_hidden_fcs", "detector", "llm.lm_head"]


def load(
    source: str | Path,
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    quantize: str | None = None,
    attention: str = "sdpa",
    clip: str | Path | None = None,
    sam_side: int | None = None,
) -> tuple[LegionModel, LegionProcessor]:
    """Model and processor from our own layout or a published checkpoint.

    dtype None: as stored. quantize: the language model's layers in "8bit" or "4bit" (NF4), by bitsandbytes; the rest stays in ``dtype``.
    attention: of the language model; "flash_attention_2" needs its package, a GPU and half precision. clip: only of a published checkpoint.
    """
    if attention == "xformers":
        raise ConfigError(
            "controller.attention=xformers: transformers, which runs LEGION's language model, offers no xformers kernels. sdpa (the "
            "default) picks PyTorch's own memory-efficient ones; flash_attention_2 needs the package flash-attn."
        )
    if attention not in ATTENTIONS:
        raise UnknownName("attention", attention, ATTENTIONS)
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise MissingDependency("flash-attn", "attention='flash_attention_2'")
    where = device or torch.device("cpu")
    how = {"dtype": dtype, **(_quantization(quantize, dtype, where) if quantize else {})}
    folder = locate(source)
    if settings(folder if folder.is_dir() else folder.parent).get("model_type") == LegionConfig.model_type:
        model, processor = _own(folder, how)
        processor = processor.with_sam_side(sam_side) if sam_side else processor
    else:
        parts: Parts = {"clip": clip, "sam_side": sam_side}
        made = plan(folder, **parts)
        model, processor = build(made, **how), made.processor
    if attention != "sdpa":
        model.llm.set_attn_implementation(attention)
    return (model if quantize else model.to(where)), processor


def _own(folder: Path, how: dict[str, Any]) -> tuple[LegionModel, LegionProcessor]:
    processor = LegionProcessor.from_pretrained(folder)
    given = {**how, "dtype": how["dtype"] or "auto"}
    with loading(f"the LEGION weights in {folder}", "Fetch or convert them again."):
        model, found = LegionModel.from_pretrained(folder, output_loading_info=True, **given)
    missing = sorted(found["missing_keys"])
    if missing:  # the library fills them with random numbers
        raise CheckpointError(f"The LEGION weights in {folder} lack {len(missing)} tensors, such as {missing[0]}. Fetch them again.")
    return model.eval(), processor


def _quantization(name: str, dtype: torch.dtype | None, device: torch.device) -> dict[str, Any]:
    if name not in QUANTIZED:
        raise UnknownName("quantization", name, QUANTIZED)
    if find_spec("bitsandbytes") is None:
        raise MissingDependency("bitsandbytes", f"quantize={name!r}", "quant")
    from transformers import BitsAndBytesConfig

    settings_4bit = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": dtype or torch.bfloat16}
    chosen = {"load_in_8bit": True} if name == "8bit" else settings_4bit
    return {"quantization_config": BitsAndBytesConfig(llm_int8_skip_modules=KEPT, **chosen), "device_map": {"": device}}


def precision(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype | None:
    """The type a name means; None: bfloat16 on an accelerator, float32 elsewhere; "auto": None, as stored."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if isinstance(dtype, torch.dtype):
        return dtype
    named = getattr(torch, dtype, None)
    if dtype != "auto" and not isinstance(named, torch.dtype):
        raise CheckpointError(f"Unknown dtype {dtype!r}. Use float32, bfloat16, float16 or auto.")
    return named if isinstance(named, torch.dtype) else None
