"""Still life as an evaluation set: nothing to download, and pictures that no model was trained or tuned on.

Each held-out seed gives a damaged picture and its undamaged twin, drawn as for the miniature LEGION's own table
(``refine.controllers.legion.evaluation``). Groups are SynthScars' three categories; a picture with faults of two is "mixed". The truth is
exact, pixel by pixel. A detector should call the damaged one fake.
"""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np

from refine.errors import InputError
from refine.evals.datasets.items import Dataset, Entry, Item
from refine.stilllife.damage import Sample, sample_damage
from refine.stilllife.dataset import full_caption

NAME = "stilllife"
FIRST_SEED = 2_000_000  # seeds from here on are held out
FAULTS = (0.5, 0.35, 0.15)  # probability of one, two, three
SIDE = 128
REMARKS = ("The miniature LEGION names a category in front of each explanation; the references do not, which costs it some ROUGE-L.",)


def load(scenes: int = 64) -> Dataset:
    """``scenes`` damaged pictures, each followed by its undamaged twin. Raises InputError unless ``scenes`` is positive."""
    if scenes < 1:
        raise InputError(f"--n is {scenes}; it must be at least 1.")
    seeds = range(FIRST_SEED, FIRST_SEED + scenes)
    entries = tuple(Entry(f"{seed}-{kind}", partial(_read, seed, kind == "clean")) for seed in seeds for kind in ("damaged", "clean"))
    drawing = hashlib.sha256(sample(FIRST_SEED).image.tobytes()).hexdigest()  # another renderer is another set
    return Dataset(NAME, "held out", drawing, entries, remarks=REMARKS)


def sample(seed: int) -> Sample:
    """The damaged picture of a seed, with its undamaged twin."""
    rng = np.random.default_rng(seed)
    rng.random()  # the draw that decides on a twin in training; here every picture has one
    return sample_damage(rng, size=SIDE, faults=int(rng.choice((1, 2, 3), p=FAULTS)))


def _read(seed: int, clean: bool) -> Item:
    drawn = sample(seed)
    if clean or not drawn.regions:  # a scene may be too full for a visible fault
        return Item(f"{seed}-{'clean' if clean else 'damaged'}", drawn.clean, np.zeros((SIDE, SIDE), np.bool_), fake=False, clean=True)
    categories = sorted({region.category for region in drawn.regions if region.category})
    return Item(
        id=f"{seed}-damaged",
        image=drawn.image,
        mask=drawn.mask,
        text=full_caption(drawn),
        parts=tuple((region.phrase, region.explanation) for region in drawn.regions),
        fake=True,
        groups=(categories[0] if len(categories) == 1 else "mixed",),
    )
