"""LEGION as a controller: images in, critiques out, batched."""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from refine.controllers.legion import calibration as calibrations
from refine.controllers.legion.answers import Finding, Reading, read_answer
from refine.controllers.legion.calibration import Calibration
from refine.controllers.legion.files import locate
from refine.controllers.legion.generation import Answer, left_pad, respond
from refine.controllers.legion.loading import load, precision
from refine.controllers.legion.modeling import FAKE, LegionModel
from refine.controllers.legion.processing import LegionProcessor
from refine.errors import ConfigError
from refine.types import Critique, Image, Region


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One finding with the numbers a calibration can weigh.

    mask_confidence: mean sigmoid of the mask logits inside the mask, in (0.5, 1] at threshold 0. area: fraction of the image.
    """

    finding: Finding
    mask_confidence: float
    area: float
    fake_probability: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """A critique, the answer it was read from, and the evidence behind each region (same order)."""

    critique: Critique
    answer: str
    evidence: tuple[Evidence, ...]


class LegionController:
    """Finds, explains and masks faults with a ``LegionModel``.

    max_new_tokens: longest answer. mask_threshold: logit above which a pixel is inside. batch_size: images answered together.
    sam_batch: images on SAM's canvas at once. remember: how many image versions' inspections are kept, by content, so that looking at
    the same picture again costs nothing. compiled: decode through torch.compile with a cache of fixed length. The first batch of each size
    waits for the compiler: for long runs on a GPU, where a step waits for Python; on a CPU it waits for memory, and nothing is won.

    A region's score is its calibrated probability to be a real fault; one that is more likely false is no region, only doubt. Without a
    ``calibration`` the score is the mean sigmoid inside its mask times the probability of its [SEG] token. A [SEG] with an empty mask
    gives no region; an answer without [SEG] gives a critique without regions.
    """

    def __init__(
        self,
        model: LegionModel,
        processor: LegionProcessor,
        *,
        max_new_tokens: int = 512,
        mask_threshold: float = 0.0,
        batch_size: int = 8,
        sam_batch: int = 4,
        compiled: bool = False,
        remember: int = 256,
        calibration: Calibration | None = None,
    ) -> None:
        _check(model, compiled, max_new_tokens=max_new_tokens, batch_size=batch_size, sam_batch=sam_batch)
        self.calibration = calibration
        self.model, self.processor = model.eval(), processor
        self.max_new_tokens, self.mask_threshold = max_new_tokens, mask_threshold
        self.batch_size, self.sam_batch, self.compiled, self.remember = batch_size, sam_batch, compiled, remember
        self._seen: OrderedDict[str, Inspection] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        quantize: str | None = None,
        attention: str = "sdpa",
        compiled: bool = False,
        clip: str | Path | None = None,
        sam_side: int | None = None,
        max_new_tokens: int = 512,
        mask_threshold: float = 0.0,
        batch_size: int = 8,
        sam_batch: int = 4,
        remember: int = 256,
        calibration: str | Path | None = None,
    ) -> LegionController:
        """Load our own layout or a published checkpoint, from a folder or a hub repository.

        dtype None: bfloat16 on an accelerator, float32 elsewhere; ``"auto"``: as stored. quantize: the language model in "8bit" or "4bit".
        attention: of the language model, "sdpa", "eager" or "flash_attention_2". sam_side None: as saved, or 512 (as trained).
        calibration: a file that ``refine calibrate`` wrote; None takes the one that lies beside the weights, where there is one.
        """
        where = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
        kind = precision(dtype, where)
        model, processor = load(
            source, device=where, dtype=kind, quantize=quantize, attention=attention, clip=clip, sam_side=sam_side
        )
        return cls(
            model,
            processor,
            compiled=compiled,
            max_new_tokens=max_new_tokens,
            mask_threshold=mask_threshold,
            batch_size=batch_size,
            sam_batch=sam_batch,
            remember=remember,
            calibration=_calibration(source, calibration),
        )

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        """One critique per image, in its own frame."""
        return [inspection.critique for inspection in self.look(images)]

    def look(self, images: Sequence[Image]) -> list[Inspection]:
        """Like ``inspect``, with the raw answer and the evidence. Equal images are looked at once."""
        keys = [fingerprint(image) for image in images]
        known = {key: self._seen[key] for key in keys if key in self._seen}
        new = {key: image.convert("RGB") for key, image in zip(keys, images, strict=True) if key not in known}
        order = list(new)
        for k in range(0, len(order), self.batch_size):
            chunk = order[k : k + self.batch_size]
            known.update(zip(chunk, self._look([new[key] for key in chunk]), strict=True))
        self._remember({key: known[key] for key in keys})
        return [known[key] for key in keys]

    def _remember(self, inspections: dict[str, Inspection]) -> None:
        for key, inspection in inspections.items():
            self._seen[key] = inspection
            self._seen.move_to_end(key)
        while len(self._seen) > self.remember:
            self._seen.popitem(last=False)

    @torch.inference_mode()
    def _look(self, images: Sequence[Image]) -> list[Inspection]:
        device = self.model.device
        image_tokens, cls = self.model.image_features(self.processor.clip_pixels(images).to(device))
        fake = self._fake(cls)
        ids, mask = left_pad([self.processor.prompt_ids()] * len(images), self.processor.tokenizer.pad_id)
        answers = respond(
            self.model,
            ids.to(device),
            mask.to(device),
            image_tokens,
            eos_id=self.processor.tokenizer.eos_id,
            max_new_tokens=self.max_new_tokens,
            compiled=self.compiled,
        )
        logits = self._masks(images, answers)
        return [self._inspection(*item) for item in zip(images, answers, logits, fake, strict=True)]

    def _fake(self, cls: Tensor) -> list[float | None]:
        """Probability that each image is generated, by the detector (None without one)."""
        if self.model.detector is None:
            return [None] * len(cls)
        return [float(p) for p in self.model.detect(cls).float().softmax(-1)[:, FAKE]]

    def _masks(self, images: Sequence[Image], answers: Sequence[Answer]) -> list[Tensor]:
        """Mask logits (N, H, W) of every answer. SAM looks only at images that need it."""
        logits = [torch.zeros(0, image.height, image.width) for image in images]
        asked = [i for i, answer in enumerate(answers) if len(answer.seg_states)]
        for k in range(0, len(asked), self.sam_batch):
            chunk = asked[k : k + self.sam_batch]
            pixels, sizes = self.processor.sam_pixels([images[i] for i in chunk])
            embeddings = self.model.sam_features(pixels.to(self.model.device))
            for i, embedding, size in zip(chunk, embeddings, sizes, strict=True):
                frame = (images[i].height, images[i].width)
                logits[i] = self.model.decode_masks(answers[i].seg_states, embedding, size, frame).cpu()
        return logits

    def _inspection(self, image: Image, answer: Answer, logits: Tensor, fake: float | None) -> Inspection:
        tokenizer = self.processor.tokenizer
        reading: Reading = read_answer(answer.ids, tokenizer, answer.logprobs)
        pairs = [self._region(f, plane, fake) for f, plane in zip(reading.findings, logits, strict=True)]
        found = [pair for pair in pairs if pair is not None]
        least = calibrations.OPERATING_POINT if self.calibration else 0.0
        kept = [(region, one) for region, one in found if region.score >= least]
        regions, evidence = tuple(region for region, _ in kept), tuple(one for _, one in kept)
        size = (image.width, image.height)
        doubt = Critique(size, tuple(region for region, _ in found)).mass - Critique(size, regions).mass
        critique = Critique(size, regions, reading.summary, fake, doubt)
        return Inspection(critique, tokenizer.decode(answer.ids), evidence)

    def _region(self, finding: Finding, plane: Tensor, fake: float | None) -> tuple[Region, Evidence] | None:
        inside = plane > self.mask_threshold
        if not bool(inside.any()):
            return None
        confidence = float(plane[inside].sigmoid().mean())
        evidence = Evidence(finding, confidence, float(inside.float().mean()), fake)
        score = self.calibration.score(evidence) if self.calibration else min(1.0, confidence * math.exp(finding.seg_logprob))
        return Region(inside.numpy(), finding.phrase or "artifact", finding.explanation, finding.category, score), evidence


def _check(model: LegionModel, compiled: bool, **counts: int) -> None:
    faults = [f"{name} is {count}; it must be at least 1." for name, count in counts.items() if count < 1]
    if compiled and model.llm.config._attn_implementation == "flash_attention_2":
        faults.append("compiled keeps a cache of fixed length, which flash_attention_2 cannot mask. Choose one of the two.")
    if faults:
        raise ConfigError(faults)


def _calibration(source: str | Path, given: str | Path | None) -> Calibration | None:
    beside = locate(source) / calibrations.FILE
    return calibrations.load(Path(given)) if given else calibrations.load(beside) if beside.exists() else None


def fingerprint(image: Image) -> str:
    """SHA-256 of what is seen: size and RGB pixels."""
    seen = image.convert("RGB")
    return hashlib.sha256(f"{seen.width}x{seen.height}:".encode() + seen.tobytes()).hexdigest()
