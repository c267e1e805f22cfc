"""What one training step of LEGION's two published stages is: inputs, losses, which weights learn.

Stage 1 (localisation and explanation): 1.0 · cross entropy of the text + 0.4 · binary cross entropy + 0.2 · Dice of the masks, with LoRA
on the language model and the mask decoder, the [SEG] projection and the embeddings trained in full. Stage 2 (detector): cross entropy
on the frozen CLIP class token, real = 1, fake = 0. Source: arXiv 2503.15264 and its training script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from refine.controllers.legion.cache import Cache
from refine.controllers.legion.data import Batch, answer_text, collate, in_reading_order, summary_of
from refine.controllers.legion.modeling import LegionModel, to_frame
from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.towers import clip_states, pixels, sam_embeddings
from refine.errors import InputError, MissingDependency
from refine.types import Image, Region

if TYPE_CHECKING:
    from refine.stilllife.dataset import SynthScarsItem

CE_WEIGHT, BCE_WEIGHT, DICE_WEIGHT = 1.0, 0.4, 0.2
CLEAN = 0.15  # few: the model leans towards finding something, as the published one does, and a calibration tells what is real
DICE_SCALE, DICE_GUARD = 1000.0, 1e-6
LORA = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.05, "bias": "none", "target_modules": ["q_proj", "v_proj"]}


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """One batch of stage 1. patches (B, P, D_clip) and embeddings (B, C, h, h) come from the frozen towers; ``frames`` holds, per
    image, the (height, width) it takes of SAM's canvas and its own (H, W)."""

    batch: Batch
    patches: Tensor
    embeddings: Tensor
    frames: tuple[tuple[tuple[int, int], tuple[int, int]], ...]


Source = Callable[[np.random.Generator], Lesson]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What the frozen towers see in N images, float16: CLIP's states (N, 1 + P, D) and SAM's embeddings (N, C, h, h)."""

    states: Tensor
    embeddings: Tensor


@torch.inference_mode()
def extract(model: LegionModel, cache: Cache, size: int = 64) -> Features:
    """Run the towers over a cache once."""
    states, embeddings = [], []
    for start in range(0, len(cache), size):
        images = pixels(cache, np.arange(start, min(start + size, len(cache)))).to(model.device)
        with torch.autocast(images.device.type, torch.bfloat16):
            states.append(clip_states(model, images).half().cpu())
            embeddings.append(sam_embeddings(model, images).half().cpu())
    return Features(torch.cat(states), torch.cat(embeddings))


def cached_source(cache: Cache, features: Features, processor: LegionProcessor, size: int) -> Source:
    """Random batches of a cache, with the towers' work done beforehand; ``CLEAN`` of the pictures are undamaged."""
    frame = ((cache.side, cache.side), (cache.side, cache.side))
    truth = [in_reading_order(cache.regions(i)) for i in range(len(cache))]
    answers = [answer_text(regions) for regions in truth]
    by_image = [np.stack([np.packbits(r.mask) for r in regions]) if regions else None for regions in truth]
    kinds = [np.flatnonzero([bool(regions) == faulty for regions in truth]) for faulty in (False, True)]
    kinds = [rows if len(rows) else np.arange(len(cache)) for rows in kinds]

    def masks(index: int) -> Tensor:
        packed = by_image[index]
        if packed is None:
            return torch.zeros(0, cache.side, cache.side)
        return torch.from_numpy(np.unpackbits(packed, axis=-1).reshape(-1, cache.side, cache.side)).float()

    def source(rng: np.random.Generator) -> Lesson:
        rows = np.where(rng.random(size) < CLEAN, rng.choice(kinds[0], size), rng.choice(kinds[1], size))
        batch = collate(processor, [answers[i] for i in rows], [masks(int(i)) for i in rows])
        return Lesson(batch, features.states[rows, 1:].float(), features.embeddings[rows].float(), (frame,) * size)

    return source


def synthscars_source(model: LegionModel, processor: LegionProcessor, items: Sequence[SynthScarsItem], size: int) -> Source:
    """Random batches of a SynthScars folder; images of any size, masks in their own frames."""
    if not items:
        raise InputError("The SynthScars folder has no annotated image; check its path and its split.")

    def source(rng: np.random.Generator) -> Lesson:
        chosen = [items[i] for i in rng.integers(len(items), size=size)]
        regions = [in_reading_order(item.regions) for item in chosen]
        answers = [answer_text(found, summary_of(item.caption)) for found, item in zip(regions, chosen, strict=True)]
        return image_lesson(model, processor, [_open(item.image) for item in chosen], regions, answers)

    return source


def _open(path: Path) -> Image:
    with PIL.Image.open(path) as image:
        return image.convert("RGB")


def image_lesson(
    model: LegionModel, processor: LegionProcessor, images: Sequence[Image], truth: Sequence[Sequence[Region]], answers: Sequence[str]
) -> Lesson:
    """A batch from images, their true regions in the order in which they are told, and the answers; the towers have no gradient."""
    masks = [
        torch.from_numpy(np.stack([r.mask for r in found])).float() if found else torch.zeros(0, image.height, image.width)
        for found, image in zip(truth, images, strict=True)
    ]
    canvas, sizes = processor.sam_pixels(images)
    with torch.no_grad():
        seen = model.clip(processor.clip_pixels(images).to(model.device, model.dtype), output_hidden_states=True)
        embeddings = model.sam_features(canvas.to(model.device))
    patches = seen.hidden_states[model.config.vision_layer][:, 1:]
    frames = tuple((size, (image.height, image.width)) for size, image in zip(sizes, images, strict=True))
    return Lesson(collate(processor, answers, masks), patches, embeddings, frames)


def stage1_losses(model: LegionModel, lesson: Lesson) -> Mapping[str, Tensor]:
    """Cross entropy, binary cross entropy and Dice of one batch, not yet weighted."""
    batch, where = lesson.batch, model.device
    out = model(
        input_ids=batch.input_ids.to(where),
        attention_mask=batch.attention_mask.to(where),
        labels=batch.labels.to(where),
        image_tokens=model.mm_projector(lesson.patches.to(where, model.dtype)),
        sam_embeddings=lesson.embeddings.to(where, model.dtype),
    )
    canvas = model.config.sam_config.vision_config.image_size
    full = [to_frame(low, canvas, *frame) for low, frame in zip(out.mask_logits, lesson.frames, strict=True)]
    pairs = [(p, t.to(where)) for logits, truth in zip(full, batch.masks, strict=True) for p, t in zip(logits, truth, strict=False)]
    zero = out.logits.new_zeros((), dtype=torch.float32)
    return {
        "ce": out.loss,
        "bce": torch.stack([F.binary_cross_entropy_with_logits(p, t) for p, t in pairs]).mean() if pairs else zero,
        "dice": torch.stack([dice(p, t) for p, t in pairs]).mean() if pairs else zero,
    }


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """1 - Dice of one mask (H, W), with the original's scale of 1000 and guard of 1e-6."""
    probability = logits.sigmoid() / DICE_SCALE
    both = (probability * truth).sum()
    return 1 - (2 * both + DICE_GUARD) / (probability.sum() + truth.sum() / DICE_SCALE + DICE_GUARD)


def total(losses: Mapping[str, Tensor]) -> Tensor:
    """The published weighting."""
    return CE_WEIGHT * losses["ce"] + BCE_WEIGHT * losses["bce"] + DICE_WEIGHT * losses["dice"]


def stage2_loss(model: LegionModel, cls: Tensor, real: Tensor) -> Tensor:
    """Cross entropy of the detector on class tokens (B, D_clip); ``real`` (B,) bool."""
    return F.cross_entropy(model.detect(cls).float(), real.long())


def choose_stage1(model: LegionModel, lora: bool) -> list[nn.Parameter]:
    """Set which weights learn in stage 1, and return them.

    With LoRA: adapters on the language model's q and v, its head and embeddings, the mask decoder, the [SEG] projection. Without (a model
    whose language part starts from nothing): the whole language model and the projector too.
    """
    model.requires_grad_(False)
    if lora:
        _add_lora(model.llm)
        parts: list[nn.Module] = [model.llm.lm_head, model.llm.get_input_embeddings()]
    else:
        parts = [model.llm, model.mm_projector]
    for part in (*parts, model.text_hidden_fcs, model.sam.mask_decoder):
        part.requires_grad_(True)
    return [p for p in model.parameters() if p.requires_grad]


def _add_lora(llm: nn.Module) -> None:
    """Insert low-rank adapters in place; needs peft."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingDependency("peft", "Training with LoRA", "train") from error
    inject_adapter_in_model(LoraConfig(**LORA), llm)


def merge_lora(model: LegionModel) -> None:
    """Fold adapters into the weights they adapt, and take them out, so that the model saves as it was loaded."""
    for name, module in list(model.llm.named_modules()):
        if hasattr(module, "get_base_layer") and hasattr(module, "merge"):
            module.merge()
            parent = model.llm.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())


def choose_stage2(model: LegionModel) -> list[nn.Parameter]:
    """Only the detector learns in stage 2."""
    model.requires_grad_(False)
    if model.detector is None:
        raise InputError("This model has no detector; set detector_hidden in its config.json (2048 in the paper) and load it again.")
    model.detector.requires_grad_(True)
    return list(model.detector.parameters())
