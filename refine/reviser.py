"""Prompt revisers: from what is wrong to what should be there, in positive words.

A diffusion model's text encoder does not honour negation: "no floating cube" draws a floating cube. So the repair prompt names the
thing as it should look, and the words of the defect go into the negative prompt.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from refine.types import Critique, Region, Revision

DEFECT_WORDS = frozenset(
    "abnormal anomalous artifact artifacts asymmetric asymmetrical awkward awkwardly bad bent bitten blotchy blurred blurry broken cracked "
    "deformed detached disconnected disfigured disjointed disproportionate distorted distortion doubled duplicate duplicated extra faulty "
    "floating fused garbled illogical implausible impossible incomplete inconsistent incorrect incorrectly irregular jagged malformed "
    "mangled melted melting merged mismatched misplaced missing misshapen mutated noisy odd oddly smeared strange strangely stretched "
    "twisted unclear unnatural unnaturally unrealistic uneven unreadable warped weird wrong".split()
)


@dataclass(frozen=True, slots=True)
class TemplateReviser:
    """Offline and deterministic.

    ``phrase``: put the region's own thing, freed of defect words, before the prompt. ``negative``: put the defect's words into the
    negative prompt. ``quality``: words added to every repair prompt. A model with a closed vocabulary wants all three off.
    """

    phrase: bool = True
    negative: bool = True
    quality: str = "natural, coherent, high detail"

    def revise(self, prompt: str, critique: Critique, region: Region | None) -> Revision:
        """Repair prompt for a region, or for a whole new image."""
        thing = positive(region.phrase) if region is not None and self.phrase else ""
        wrong = (region,) if region is not None else critique.regions
        return Revision(
            prompt=", ".join(part for part in (thing, prompt, self.quality) if part),
            negative_prompt=", ".join(dict.fromkeys(defect for one in wrong if (defect := blame(one)))) if self.negative else "",
        )


def positive(phrase: str) -> str:
    """The phrase without its defect words: "distorted left hand" → "left hand"; empty where nothing else is left."""
    words = [word for word in re.findall(r"[\w'-]+", phrase) if word.lower() not in DEFECT_WORDS]
    text = " ".join(words)
    return re.sub(r"^(?:and|of|with|the|a|an)$", "", text, flags=re.IGNORECASE)


def blame(region: Region) -> str:
    """The words that name the defect: those of the phrase and explanation that are in the list, in order, then the category."""
    words = re.findall(r"[\w'-]+", f"{region.phrase} {region.explanation}".lower())
    found = list(dict.fromkeys(word for word in words if word in DEFECT_WORDS))
    return " ".join([*found, positive(region.phrase)]) if found else ""
