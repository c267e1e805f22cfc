"""What a bench runs on: sets of samples, each a prompt with a seed, and for some a picture to start from and its truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from refine import prompts
from refine.bench import layouts
from refine.errors import InputError, unknown
from refine.stilllife.captions import caption
from refine.stilllife.damage import CATALOGUE, sample_damage
from refine.stilllife.damage import Sample as Damaged
from refine.stilllife.render import render
from refine.stilllife.scene import sample_scene
from refine.types import Image, Mask

HELD_OUT = 2_000_000  # seeds from here on were never trained or tuned on
FAULT_PROBABILITIES = (0.5, 0.35, 0.15)  # one, two or three faults in a damaged render
LEAST = 2  # prompts: fewer have no confidence interval


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture to make. ``id`` names the prompt (the unit of the statistics), ``copy`` counts its seeds from 0."""

    set: str
    id: str
    prompt: str
    seed: int
    copy: int = 0
    category: str = ""

    @property
    def key(self) -> str:
        """The name of the sample in its set, and of its picture."""
        return f"{self.id}-{self.copy}"


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is known of a given picture: the clean one, and where it was damaged ((H, W) bool; all False: nowhere)."""

    image: Image
    clean: Image
    mask: Mask


def load(source: Path | None, sets: Sequence[str], n: int | str, copies: int) -> dict[str, list[Sample]]:
    """Samples by set: the still-life ``sets``, or the one set ``prompts`` of a file or a published benchmark folder.

    ``n`` prompts of each (see ``counts``; fewer where the file has fewer), ``copies`` seeds for each. Raises InputError.
    """
    wanted = counts(n, sets if source is None else ("prompts",))
    if copies < 1:
        raise InputError(f"--seeds is {copies}; a bench needs 1 or more for each prompt.")
    if source is None:
        return {
            name: [sample for index in range(count) for sample in SETS[name](HELD_OUT + index, copies)] for name, count in wanted.items()
        }
    found = layouts.read(source) if layouts.is_layout(source) else _plain(source)
    if len(found) < LEAST:
        raise InputError(f"{source} holds {len(found)} prompt; a bench needs at least {LEAST} to say how sure it is.")
    if twins := [name for name, count in Counter(entry.id for entry in found).items() if count > 1]:
        raise InputError(f"{source}: {len(twins)} ids come more than once: {', '.join(twins[:5])}. An id names one prompt.")
    return {"prompts": [_sample(entry, index, copy) for index, entry in enumerate(found[: wanted["prompts"]]) for copy in range(copies)]}


def counts(n: int | str, sets: Sequence[str]) -> dict[str, int]:
    """How many prompts of each set: one number for all, or ``prompts=512,damaged=256``, which leaves the others out.

    Raises InputError with every fault.
    """
    pairs = [part.strip().partition("=") for part in str(n).split(",")]
    if len(pairs) == 1 and not pairs[0][1]:
        pairs = [(name, "=", pairs[0][0]) for name in sets]
    faults = [f"--n: {unknown('set', name, sets)}" for name, _, _ in pairs if name not in sets]
    faults += [f"--n: {name} comes twice." for name, count in Counter(name for name, _, _ in pairs).items() if count > 1]
    if few := [name for name, _, text in pairs if not text.strip().isdecimal() or int(text) < LEAST]:
        faults.append(f"--n is {n}: a bench needs a number of prompts, at least {LEAST}, of each set (here: {', '.join(few)}).")
    if faults:
        raise InputError(" ".join(faults))
    asked = {name: int(text) for name, _, text in pairs}
    return {name: asked[name] for name in sets if name in asked}


def more(before: int | str, given: int | str, sets: Sequence[str]) -> str:
    """The ``n`` of a bench that goes on: the numbers given now, and for the other sets those that it had. Raises InputError."""
    return ",".join(f"{name}={count}" for name, count in (counts(before, sets) | counts(given, sets)).items())


def _plain(source: Path) -> list[layouts.Entry]:
    """The prompts of a .txt, .csv or .jsonl file; without ids, they are numbered."""
    entries = []
    for index, prompt in enumerate(prompts.read(source)):
        name = prompt.id if prompt.id is not None else f"{index:05d}"
        if not layouts.is_file_name(name):
            raise InputError(f"{source}, {prompt.where}: the id {name!r} cannot be a file's name. Use letters, digits, '.', '_' and '-'.")
        entries.append(layouts.Entry(name, prompt.text, seed=prompt.seed))
    return entries


def _sample(entry: layouts.Entry, index: int, copy: int) -> Sample:
    """Seeds count up from the entry's own, or from its place in the file, far enough apart that none comes twice."""
    seed = (entry.seed if entry.seed is not None else index) + 1_000_003 * copy
    return Sample("prompts", entry.id, entry.text, seed, copy, entry.category)


def _prompts(seed: int, copies: int) -> list[Sample]:
    """A paraphrased caption of a held-out scene, by the number of its solids."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    count = len(scene.solids)
    text = caption(scene, rng)
    return [
        Sample("prompts", str(seed), text, seed + 1_000_003 * copy, copy, f"{count} solid{'s' * (count > 1)}") for copy in range(copies)
    ]


def _damaged(seed: int, copies: int) -> list[Sample]:
    """A damaged render, by the category of its faults."""
    sample = damaged(seed)
    kinds = {CATALOGUE[kind].category for kind in sample.kinds}
    category = kinds.pop() if len(kinds) == 1 else "mixed"
    return [Sample("damaged", str(seed), sample.caption, seed + 1_000_003 * copy, copy, category) for copy in range(copies)]


def _clean(seed: int, copies: int) -> list[Sample]:
    """An undamaged render, which needs nothing."""
    return [Sample("clean", sample.id, sample.prompt, sample.seed, sample.copy, sample.category) for sample in _prompts(seed, copies)]


SETS: Mapping[str, Callable[[int, int], list[Sample]]] = {"prompts": _prompts, "damaged": _damaged, "clean": _clean}


def truth(sample: Sample) -> Truth | None:
    """The given picture of a still-life sample and what is known of it; None for a sample that is drawn."""
    if sample.set == "damaged":
        found = damaged(int(sample.id))
        return Truth(found.image, found.clean, np.logical_or.reduce([region.mask for region in found.regions]))
    if sample.set == "clean":
        image = render(sample_scene(np.random.default_rng(int(sample.id)))).image
        return Truth(image, image, np.zeros(image.size[::-1], bool))
    return None


@lru_cache(maxsize=512)
def damaged(seed: int) -> Damaged:
    """A damaged render with at least one fault; a scene that shows none is drawn again from the same generator."""
    rng = np.random.default_rng(seed)
    while True:
        sample = sample_damage(rng, faults=1 + int(rng.choice(3, p=FAULT_PROBABILITIES)))
        if sample.regions:
            return sample
