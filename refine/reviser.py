"""Prompt revisers: from what is wrong to what should be there, in positive words.

A diffusion model's text encoder does not honour negation: "no floating cube" draws a floating cube. So the repair prompt names the
thing as it should look, and the words of the defect go into the negative prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from refine.types import Category, Critique, Region, Revision

DEFECT_WORDS = frozenset(
    "abnormal abnormally ambiguous anomalous asymmetric asymmetrical asymmetrically asymmetry awkward awkwardly bad badly bent bitten "
    "blended blending blotchy blurred blurring blurry broken cracked defective deformed deformity detached disappearing disconnected "
    "discontinuous disfigured disjointed disproportionate disproportionately distorted doubled duplicate duplicated elongated "
    "erroneous extra faulty floating fragmented fused fusing garbled gibberish glitchy illegible illogical implausible impossible "
    "incoherent incomplete inconsistent inconsistently incorrect incorrectly indistinct intersecting irregular irregularly jagged "
    "malformation malformed mangled melted melting merged merging misaligned mismatched misplaced misshapen missing mutated mutilated "
    "noisy nonsensical odd oddly overlapping oversaturated oversized oversmoothed pixelated poorly smeared smudged strange strangely "
    "stretched tangled truncated twisted unclear undefined uneven unevenly unnatural unnaturally unreadable unrealistic "
    "unrealistically warped weird wrong".split()
)
GENERAL_WORDS = frozenset(
    "artefact artefacts artifact artifacts blur defect defects distortion distortions error errors glitch glitches issue issues "
    "noise".split()
)
# A phrase says from here on what its thing has, does or lacks, which is the fault itself: "a hand with six fingers".
CLAUSE_WORDS = frozenset(
    "although appear appears are because but cannot do does has have having instead is lack lacking lacks look looks never no not "
    "seem seems than that was were where which while who whose with without".split()
)
LITTLE_WORDS = frozenset(
    "a an and any appear appears are as at be been being both by each for from has have her his in into is it its look looks more "
    "most near no not of on one or over overly partially quite rather seem seems slightly so some that the their there these they "
    "this those to too under very was were with".split()
)
GENERAL: dict[Category, str] = {"physics": "implausible", "structure": "malformed", "distortion": "distorted"}
WORD = r"[\w'-]+"


@dataclass(frozen=True, slots=True)
class TemplateReviser:
    """Offline and deterministic.

    ``phrase``: put the region's own thing, freed of its fault, before the prompt. ``negative``: put the fault, in the comma-separated
    terms that negative prompts are written in, into the negative prompt. ``quality``: words added to every repair prompt. A model with a
    closed vocabulary wants all three off. The user's prompt is kept word for word: a text encoder reads from the front, so where its
    budget is short the quality words go first.
    """

    phrase: bool = True
    negative: bool = True
    quality: str = "natural, coherent, high detail"

    def revise(self, prompt: str, critique: Critique, region: Region | None) -> Revision:
        """Repair prompt for a region, or for a whole new image."""
        thing = positive(region.phrase) if region is not None and self.phrase else ""
        wrong = (region,) if region is not None else critique.regions
        terms = dict.fromkeys(term for one in wrong for term in blame(one)) if self.negative else ()
        return Revision(joined(thing, prompt, self.quality), ", ".join(terms))


def joined(*parts: str) -> str:
    """Parts of a prompt with commas between them; a part's own full stop would end the sentence early."""
    kept = [part for part in map(str.strip, parts) if part]
    return ", ".join([*(part.rstrip(" .,;") for part in kept[:-1]), *kept[-1:]])


def positive(phrase: str) -> str:
    """What a phrase is about, without its fault: "distorted left hand" → "left hand", "a hand with six fingers" → "a hand".

    Empty where nothing else is left.
    """
    words: list[str] = []
    for word in re.findall(WORD, phrase):
        if word.lower() in CLAUSE_WORDS:
            break
        if word.lower() not in DEFECT_WORDS | GENERAL_WORDS:
            words.append(word)
    while words and words[-1].lower() in LITTLE_WORDS:
        words.pop()
    while words and words[0].lower() in ("and", "or", "of"):
        words.pop(0)
    return " ".join(words)


def blame(region: Region) -> list[str]:
    """The fault in the terms of a negative prompt: ["distorted left hand", "fused fingers"].

    Each word of fault in the phrase and the explanation goes with the thing it is said of. Without any, the category stands for it.
    """
    thing = bare(positive(region.phrase))
    pairs = [pair for text in (region.phrase, *re.split(r"[.,;:!?]", region.explanation)) for pair in _said_of(text)]
    if not pairs and region.category is not None and thing:
        pairs = [(GENERAL[region.category], "")]
    named = [f"{fault} {of or thing}".strip() for fault, of in pairs]
    return list(dict.fromkeys(named))


def _said_of(clause: str) -> list[tuple[str, str]]:
    """(fault, thing) for every word of fault in a clause; the thing is empty where the clause names none.

    It follows the fault ("fused fingers", "fused and bent fingers"), or else stands before it ("the fingers are fused").
    """
    words = [word.lower() for word in re.findall(WORD, clause)]
    faults = [(at, word) for at, word in enumerate(words) if word in DEFECT_WORDS and not word.endswith("ly")]
    return [(word, _after(words[at + 1 :]) or _before(words[:at])) for at, word in faults]


def _after(words: list[str]) -> str:
    """The words after a fault up to the first little one; other faults and what joins them are passed over."""
    start = 0
    while start < len(words) and (words[start] in DEFECT_WORDS or words[start] in ("and", "or")):
        start += 1
    return " ".join(_run(words[start:])[:3])


def _before(words: list[str]) -> str:
    """The thing before a fault, little words and other faults passed over."""
    rest = words[::-1]
    start = 0
    while start < len(rest) and (rest[start] in LITTLE_WORDS or rest[start] in DEFECT_WORDS):
        start += 1
    return " ".join(_run(rest[start:])[:2][::-1])


def _run(words: Iterable[str]) -> list[str]:
    """The words up to the first that is little or a fault."""
    run: list[str] = []
    for word in words:
        if word in LITTLE_WORDS or word in DEFECT_WORDS or word in GENERAL_WORDS:
            break
        run.append(word)
    return run


def bare(text: str) -> str:
    """Without a leading article."""
    return re.sub(r"^(?:a|an|the) ", "", text, flags=re.IGNORECASE)


def content_words(text: str) -> set[str]:
    """The words that say what a text is about: not little, three letters at least, without a plural s."""
    words = {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) >= 3 and word not in LITTLE_WORDS}
    return {word[:-1] if word.endswith("s") and not word.endswith("ss") else word for word in words}
