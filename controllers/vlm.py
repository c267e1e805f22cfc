"""A general vision-language model as a controller: asked for boxes and reasons, outlined by a segmenter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from refine.controllers.findings import Convention, Finding, Reading, read
from refine.errors import AnswerError, ConfigError, UnknownName
from refine.regions import resize
from refine.types import Box, Chat, Critique, Image, Mask, Question, Region, Segmenter

CELL = 28  # Qwen-VL's patch times its merge: a picture whose sides are multiples of it is not resized once more
LEAST = 2 * CELL

INSTRUCTION = (
    "This image was made by an image generator. List every visible artifact: physics (impossible light, shadow, reflection or "
    "perspective), structure (malformed, missing, doubled or fused parts, unreadable text) and distortion (noise, blur, smears, wrong "
    "texture or colour). Do not list what is merely unusual or a matter of style. Answer with a JSON list and nothing else. Each item has "
    '"bbox_2d": {box} around the faulty part alone, "label": the part in a few words (such as "left hand"), "reason": one '
    'sentence that says what is wrong, "category": "physics", "structure" or "distortion", and "confidence": a number from 0 to 1. '
    "If nothing is wrong, answer []."
)
ORDER = {"pixels": "[x1, y1, x2, y2]", "permille": "[x1, y1, x2, y2]", "permille-yx": "[y1, x1, y2, x2]"}  # what {box} becomes
REMINDER = " Your last answer could not be read. Answer with the JSON list alone, without any other words; [] if nothing is wrong."


class VlmController:
    """Finds and explains faults with any ``Chat`` that sees.

    boxes: how the model writes coordinates: pixels (Qwen2.5-VL), permille (Qwen2-VL, Qwen3-VL, InternVL), permille-yx (Gemini). side: the
    longer side in pixels of the picture it is shown, at most. segmenter: outlines the fault in its box; without one the box is the mask.
    instruction: what is asked; ``{box}`` in it becomes the order of a box's numbers, as ``boxes`` says.

    A region's score is the confidence that the model states, which nobody has calibrated. An answer that cannot be read is asked for once
    more, then AnswerError is raised: silence would pass for a clean image.
    """

    def __init__(
        self,
        chat: Chat,
        *,
        segmenter: Segmenter | None = None,
        boxes: Convention = "pixels",
        side: int = 1024,
        instruction: str = INSTRUCTION,
    ) -> None:
        if side < LEAST:
            raise ConfigError(f"side is {side}; it must be at least {LEAST} pixels.")
        if boxes not in ORDER:
            raise UnknownName("way to write boxes", boxes, ORDER)
        self.chat, self.segmenter, self.boxes, self.side = chat, segmenter, boxes, side
        self.instruction = instruction.replace("{box}", ORDER[boxes])

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        """One critique per image, in its own frame. Raises AnswerError."""
        pictures = [shown(image, self.side) for image in images]
        readings = self._ask(images, pictures, self.instruction)
        if lost := [index for index, reading in enumerate(readings) if not isinstance(reading, Reading)]:
            again = self._ask([images[i] for i in lost], [pictures[i] for i in lost], self.instruction + REMINDER)
            for index, reading in zip(lost, again, strict=True):
                readings[index] = reading
        return [self._critique(image, reading) for image, reading in zip(images, readings, strict=True)]

    def _ask(self, images: Sequence[Image], pictures: Sequence[Image], text: str) -> list[Reading | str]:
        """A reading per image; the answer itself where it cannot be read."""
        answers = self.chat.ask([Question(text, picture) for picture in pictures])
        sizes = [(picture.size, image.size) for picture, image in zip(pictures, images, strict=True)]
        return [read(answer, *size, self.boxes) or answer for answer, size in zip(answers, sizes, strict=True)]

    def _critique(self, image: Image, reading: Reading | str) -> Critique:
        if isinstance(reading, str):
            raise AnswerError(
                f"The vision-language model did not answer with a list of boxes, twice: {reading[:200]!r}. Try a larger model, or raise "
                "max_tokens where the answer was cut off."
            )
        found = reading.findings
        masks = self._masks(image, [one.box for one in found])
        regions = tuple(_region(one, mask) for one, mask in zip(found, masks, strict=True))
        summary = [f"{len(found)} found." if found else "Nothing found.", *(f"Left out: {reason}." for reason in reading.left_out)]
        return Critique(image.size, regions, " ".join(summary))

    def _masks(self, image: Image, boxes: Sequence[Box]) -> list[Mask]:
        if self.segmenter is not None and boxes:
            return self.segmenter.segment(image, boxes)
        return [filled(box, image.size) for box in boxes]


def shown(image: Image, side: int) -> Image:
    """The picture a model sees: the longer side at most ``side``, both sides multiples of 28, so that pixels mean the same to both."""
    scale = min(1.0, side / max(image.size))
    width, height = (max(LEAST, min(side // CELL, round(length * scale / CELL)) * CELL) for length in image.size)
    return resize(image.convert("RGB"), (width, height))


def filled(box: Box, size: tuple[int, int]) -> Mask:
    """The (H, W) mask of a box; ``size`` is (width, height)."""
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def _region(one: Finding, mask: Mask) -> Region:
    return Region(mask, one.phrase, one.explanation, one.category, one.score)
