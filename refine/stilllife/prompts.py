"""Prompts of the still-life world: four to start with, and as many held-out ones as a benchmark needs."""

from __future__ import annotations

from itertools import count

import numpy as np

from refine.stilllife.captions import caption
from refine.stilllife.scene import sample_scene

# Hard scenes (refine.stilllife.scene), chosen so that the preset mini has something to repair with seed 0.
DEFAULT_PROMPTS: tuple[str, ...] = (
    "a small shiny red cube left of a large shiny blue cube left of "
    "a small shiny green sphere on a beige floor, light from the right",
    "a small matte blue cone left of a small shiny yellow cube left of "
    "a small shiny orange cube on a beige floor, light from the left",
    "a small shiny green cube left of a small shiny white cube left of "
    "a small shiny purple cylinder on a grey floor, light from the right",
    "a small shiny purple cube left of a small shiny white cone left of "
    "a small shiny blue cube on a slate floor, light from the left",
)


def prompts(split_seed: int, n: int, hard: bool = False) -> list[str]:
    """``n`` different canonical captions of the scenes with seeds ``split_seed``, ``split_seed`` + 1, …; hard: of hard scenes."""
    found: dict[str, None] = {}
    for seed in count(split_seed):
        if len(found) >= n:
            break
        found[caption(sample_scene(np.random.default_rng(seed), hard=hard))] = None
    return list(found)
