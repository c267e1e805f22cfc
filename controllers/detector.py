"""A detailer's detector as a controller: things are found by one model, and told good from bad by another, so that a healthy face stays.

Without the second step a detector would call every face a fault, before the repair and after it, and the gate, which wants the fault to
become less, would keep no repair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from refine.adapters import Detector, as_controller, as_grader
from refine.errors import ConfigError
from refine.regions import box_of, crop_box
from refine.types import Controller, Critique, Grader, Image, Region, Segmenter


class GradedDetector:
    """Things that ``finder`` finds, each scored by ``grader`` with the probability that it is faulty.

    finder: any controller, or a function from an image to masks; its phrases name the things ("face"). context: how much larger than the
    thing the graded crop is. segmenter: outlines the thing in its box, for finders that give boxes.

    Healthy things stay in the critique with their low score; the policy's threshold leaves them alone.
    """

    def __init__(
        self,
        finder: Controller | Detector,
        grader: Grader | Callable[[Image], float],
        *,
        segmenter: Segmenter | None = None,
        context: float = 1.3,
    ) -> None:
        if context < 1:
            raise ConfigError(f"context is {context}; a crop must hold its thing, so it is 1 or more.")
        self.finder, self.grader = as_controller(finder), as_grader(grader)
        self.segmenter, self.context = segmenter, context

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        """One critique per image; the crops of all images are graded in one call."""
        found = [[region for region in critique.regions if region.mask.any()] for critique in self.finder.inspect(images)]
        crops = [self._crop(image, region) for image, regions in zip(images, found, strict=True) for region in regions]
        phrases = [region.phrase for regions in found for region in regions]
        grades = iter(self.grader.grade(crops, phrases) if crops else [])
        return [self._critique(image, [(region, next(grades)) for region in some]) for image, some in zip(images, found, strict=True)]

    def _crop(self, image: Image, region: Region) -> Image:
        return image.convert("RGB").crop(crop_box(box_of(region.mask), image.size, scale=self.context, least=1))

    def _critique(self, image: Image, graded: Sequence[tuple[Region, float]]) -> Critique:
        regions = [graded_region(region, grade) for region, grade in graded]
        if self.segmenter is not None and regions:
            masks = self.segmenter.segment(image, [box_of(region.mask) for region in regions])
            regions = [replace(region, mask=mask) for region, mask in zip(regions, masks, strict=True)]
        faulty = sum(grade >= 0.5 for _, grade in graded)
        return Critique(image.size, tuple(regions), f"{len(graded)} found, {faulty} of them more likely faulty than not.")


def graded_region(region: Region, grade: float) -> Region:
    """The region with the grade as its score, and the grade in its explanation."""
    verdict = f"Faulty with probability {grade:.2f}."
    return replace(region, score=grade, explanation=f"{region.explanation} {verdict}".strip())
