"""Segment Anything (Kirillov et al. 2023) with box prompts, on transformers' ``SamModel``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import SamModel, SamProcessor
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

from refine.controllers.vlm import filled
from refine.errors import loading
from refine.types import Box, Image, Mask


class SamSegmenter:
    """A ``Segmenter``: SAM's best mask for each box, cut at the box. ``batch_size``: boxes decoded together.

    A mask of less than ``least`` of its box is taken for a miss, and the box itself is used.
    """

    def __init__(self, model: SamModel, processor: SamProcessor, *, least: float = 0.02, batch_size: int = 32) -> None:
        self.model, self.processor, self.least, self.batch_size = model.eval(), processor, least, batch_size

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "facebook/sam-vit-huge",
        *,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16", "float16"] | None = None,
        least: float = 0.02,
        batch_size: int = 32,
    ) -> SamSegmenter:
        """Load a folder or a hub name. dtype None: float32, since SAM is small beside what it outlines for. Raises CheckpointError."""
        where = device if device is not None else "cuda" if torch.cuda.is_available() else "cpu"
        with loading(f"SAM from {str(source)!r}"):
            processor = SamProcessor(SamImageProcessorPil.from_pretrained(source))
            model = SamModel.from_pretrained(source, dtype=dtype or torch.float32).to(where)
        return cls(model, processor, least=least, batch_size=batch_size)

    @torch.inference_mode()
    def segment(self, image: Image, boxes: Sequence[Box]) -> list[Mask]:
        """One (H, W) mask per box. The image is encoded once."""
        if not boxes:
            return []
        picture = image.convert("RGB")
        inputs = self.processor(picture, input_boxes=[[list(map(float, box)) for box in boxes]], return_tensors="pt")
        prompts = inputs["input_boxes"].to(self.model.device, self.model.dtype)
        seen = self.model.get_image_embeddings(inputs["pixel_values"].to(self.model.device, self.model.dtype))
        masks: list[Mask] = []
        for start in range(0, len(boxes), self.batch_size):
            part = boxes[start : start + self.batch_size]
            out = self.model(image_embeddings=seen, input_boxes=prompts[:, start : start + len(part)], multimask_output=False)
            masks += [self._within(plane, box, image.size) for plane, box in zip(self._planes(out, inputs), part, strict=True)]
        return masks

    def _planes(self, out: Any, inputs: Any) -> list[Mask]:
        """(H, W) bool per box, in the frame of the image."""
        sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        planes = self.processor.image_processor.post_process_masks(out.pred_masks.float().cpu(), *sizes)[0]
        return [plane[0].numpy().astype(bool) for plane in planes]

    def _within(self, plane: Mask, box: Box, size: tuple[int, int]) -> Mask:
        inside = filled(box, size)
        mask: Mask = plane & inside
        return mask if mask.sum() >= max(1.0, self.least * inside.sum()) else inside
