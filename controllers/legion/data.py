"""SynthScars samples as LEGION's training conversations.

An answer is, in the published format: one sentence on the whole image, then one group per artifact,
``<p> phrase </p> [SEG]:explanation``. Where a fault's category is known, the explanation opens with it ("Structural artifact. It
leans …"): that fits the published form, and the controller reads the category from it; SynthScars itself has none.

Two deliberate differences from the original loader: the groups are put together from the regions themselves (the original searches
each phrase in the caption and tags the wrong place, or none, when phrases repeat), and an image without artifacts has an answer too
(the published model never saw one and reports artifacts on every photograph).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refine.controllers.legion.answers import compose
from refine.controllers.legion.configuration import IGNORE
from refine.controllers.legion.processing import LegionProcessor
from refine.stilllife.dataset import HEADER, LEAD
from refine.types import CATEGORIES, Category, Region

CLEAN_ANSWER = HEADER + "no artifacts."
ADJECTIVES: dict[Category, str] = {"physics": "physical", "structure": "structural", "distortion": "distortion"}  # as the prompt says
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Conversations of B images, padded on the right: ids, attention mask and labels, each (B, T), and per image masks (N, H, W)."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    masks: tuple[Tensor, ...]


def answer_text(regions: Sequence[Region], summary: str | None = None) -> str:
    """What the model should say about an image with these faults. ``summary`` None: one is made from their categories."""
    if not regions:
        return CLEAN_ANSWER
    return compose(f"{HEADER}{summary or summarise(regions)}\n{LEAD.strip()}", _groups(regions))


def told(regions: Sequence[Region]) -> list[tuple[str, str]]:
    """(phrase, explanation) of each fault as an answer tells them: from left to right, the category in front where it is known."""
    return _groups(in_reading_order(regions))


def _groups(regions: Sequence[Region]) -> list[tuple[str, str]]:
    return [(region.phrase, _opening(region) + region.explanation) for region in regions]


def _opening(region: Region) -> str:
    return f"{ADJECTIVES[region.category].capitalize()} artifact. " if region.category else ""


def summarise(regions: Sequence[Region]) -> str:
    """How many artifacts of which category, such as "one physical artifact and two structural artifacts."."""
    counts = [(sum(region.category == category for region in regions), ADJECTIVES[category]) for category in CATEGORIES]
    counts.append((sum(region.category is None for region in regions), "other"))
    parts = [f"{_number(n)} {name} artifact{'s' * (n > 1)}" for n, name in counts if n]
    return " and ".join(parts) + "."


def summary_of(caption: str) -> str | None:
    """The sentence on the whole image in a SynthScars caption; None where the caption has another form."""
    match = re.match(rf"{re.escape(HEADER)}(.*?)\s*{re.escape(LEAD.strip())}", caption.strip("\"' "), re.DOTALL)
    return match.group(1) if match else None


def _number(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def in_reading_order(regions: Sequence[Region]) -> tuple[Region, ...]:
    """Faults from left to right, by the centre of their masks, so that there is one right answer."""
    return tuple(sorted(regions, key=lambda region: float(np.flatnonzero(region.mask.any(0)).mean()) if region.mask.any() else 0.0))


def collate(processor: LegionProcessor, answers: Sequence[str], masks: Sequence[Tensor], longest: int = 961) -> Batch:
    """Tokenise and pad. Conversations are cut at ``longest`` ids (the original's 1536 positions minus 575 for the image)."""
    pairs = [processor.training_ids(answer) for answer in answers]
    width = min(longest, max(len(ids) for ids, _ in pairs))
    seg = processor.tokenizer.id("[SEG]")
    ids = torch.full((len(pairs), width), processor.tokenizer.pad_id)
    labels, mask = torch.full_like(ids, IGNORE), torch.zeros_like(ids)
    for row, (tokens, targets) in enumerate(pairs):
        length = min(width, len(tokens))
        ids[row, :length], labels[row, :length], mask[row, :length] = torch.tensor(tokens[:length]), torch.tensor(targets[:length]), 1
    kept = [truth[: int((row == seg).sum())] for truth, row in zip(masks, ids, strict=True)]
    return Batch(ids, mask, labels, tuple(kept))
