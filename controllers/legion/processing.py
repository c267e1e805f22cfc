"""Images and prompts as LEGION's training saw them: CLIP's centre crop, SAM's padded canvas, the conversation template.

Frames: an image is (width, height) as Pillow has it, tensors are (B, 3, H, W); sizes are (height, width) pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from refine.controllers.legion.configuration import IGNORE, IMAGE_PLACE
from refine.controllers.legion.tokens import LegionTokenizer, check_text
from refine.errors import CheckpointError
from refine.types import Image

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of values in [0, 1]
SAM_MEAN, SAM_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of values in [0, 255]
FILE = "legion_processor.json"
PLACE = "<image>"

# The words the published weights were trained with. Any other wording is out of their distribution.
TEMPLATE = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers "
    "to the human's questions. USER: The <im_start><image><im_end> provides an overview of the picture.\n{instruction} ASSISTANT:"
)
INSTRUCTION = (
    "Please provide a detailed analysis of artifacts in this photo, considering physical artifacts (e.g., optical display issues, "
    "violations of physical laws, and spatial/perspective errors), structural artifacts (e.g., deformed objects, asymmetry, or distorted "
    "text), and distortion artifacts (e.g., color/texture distortion, noise/blur, artistic style errors, and material "
    "misrepresentation). Output with interleaved segmentation masks for the corresponding parts of the answer."
)


@dataclass(frozen=True)
class LegionProcessor:
    """Everything between a user's image and the model's tensors.

    clip_side: CLIP's input; the image's shorter side is resized to it and the centre square is kept.
    sam_side: the image's longer side on SAM's canvas (512: as trained, 1024: as the original scripts infer); sam_canvas: the canvas.
    template: the prompt, with ``<image>`` once and ``{instruction}``.
    """

    tokenizer: LegionTokenizer
    clip_side: int = 336
    sam_side: int = 512
    sam_canvas: int = 1024
    template: str = TEMPLATE
    instruction: str = INSTRUCTION

    def __post_init__(self) -> None:
        if self.template.count(PLACE) != 1:
            raise CheckpointError(f"The prompt template must hold {PLACE!r} exactly once: {self.template!r}.")
        if not 0 < self.sam_side <= self.sam_canvas:
            raise CheckpointError(f"sam_side is {self.sam_side}; it must be in 1..{self.sam_canvas} (the SAM canvas). Usual: 512 or 1024.")

    def with_sam_side(self, side: int) -> LegionProcessor:
        """The same processor with the image at ``side`` pixels on SAM's canvas."""
        return replace(self, sam_side=side)

    # Text

    def prompt_ids(self, instruction: str | None = None) -> list[int]:
        """Ids of the whole prompt, beginning-of-text included, with -200 where the image goes."""
        words = check_text(self.instruction if instruction is None else instruction, "instruction")
        before, after = self.template.replace("{instruction}", words).split(PLACE)
        return [*self.tokenizer.encode(before), IMAGE_PLACE, *self.tokenizer.encode(after, bos=False)]

    def answer_ids(self, answer: str) -> list[int]:
        """Ids of an answer as it follows the prompt, end-of-text included."""
        return [*self.tokenizer.encode(check_text(answer, "answer"), bos=False), self.tokenizer.eos_id]

    def training_ids(self, answer: str) -> tuple[list[int], list[int]]:
        """(ids, labels) of one conversation; the prompt is not supervised, the end of text is."""
        prompt, reply = self.prompt_ids(), self.answer_ids(answer)
        return prompt + reply, [IGNORE] * len(prompt) + reply

    # Pixels

    def clip_pixels(self, images: Sequence[Image]) -> Tensor:
        """(B, 3, clip_side, clip_side) float32, normalised with CLIP's mean and deviation."""
        squares = [centre_square(image.convert("RGB"), self.clip_side) for image in images]
        return torch.stack([_normalised(np.asarray(s, np.float32) / np.float32(255), CLIP_MEAN, CLIP_STD) for s in squares])

    def sam_pixels(self, images: Sequence[Image]) -> tuple[Tensor, list[tuple[int, int]]]:
        """(B, 3, canvas, canvas) float32, padded right and below with zeros, and the (height, width) that each image takes of it."""
        sizes = [resized_size(image.height, image.width, self.sam_side) for image in images]
        canvas = torch.zeros(len(images), 3, self.sam_canvas, self.sam_canvas)
        for row, image, (height, width) in zip(canvas, images, sizes, strict=True):
            small = image.convert("RGB").resize((width, height), PIL.Image.Resampling.BILINEAR)
            row[:, :height, :width] = _normalised(np.asarray(small, np.float32), SAM_MEAN, SAM_STD)
        return canvas, sizes

    # Files

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> LegionProcessor:
        """Read what ``save_pretrained`` wrote."""
        path = Path(folder) / FILE
        if not path.exists():
            raise CheckpointError(f"No {FILE} in {folder}. Convert a published checkpoint first: refine convert legion SOURCE OUT.")
        return cls(LegionTokenizer.from_pretrained(Path(folder)), **json.loads(path.read_text("utf-8")))

    def save_pretrained(self, folder: str | Path) -> None:
        self.tokenizer.save_pretrained(Path(folder))
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tokenizer"}
        (Path(folder) / FILE).write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n", "utf-8")


def centre_square(image: Image, side: int, widest: int = 16) -> Image:
    """Shorter side to ``side`` (bicubic), longer side rounded down, centre cut out. Beyond ``widest``:1 the ends are cut off first."""
    width, height = image.size
    short = min(width, height)
    if max(width, height) > widest * short:
        image = _centre(image, min(width, widest * short), min(height, widest * short))
        width, height = image.size
    size = (side, side * height // width) if width < height else (side * width // height, side)
    return _centre(image.resize(size, PIL.Image.Resampling.BICUBIC), side, side)


def resized_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) with the longer side at ``side``, rounded half up, at least one pixel."""
    scale = side / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _centre(image: Image, width: int, height: int) -> Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _normalised(pixels: np.ndarray[tuple[int, ...], np.dtype[np.float32]], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(H, W, 3) -> (3, H, W), minus ``mean`` over ``std``."""
    return torch.from_numpy((pixels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)).permute(2, 0, 1)
