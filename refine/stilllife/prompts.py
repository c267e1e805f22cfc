"""Prompts of the still-life world: four to start with, and as many held-out ones as a benchmark needs."""

from __future__ import annotations

from itertools import count

import numpy as np

from refine.stilllife.captions import caption
from refine.stilllife.scene import sample_scene

# Chosen so that the preset mini has something to repair with seed 0; most of its drawings need nothing.
DEFAULT_PROMPTS: tuple[str, ...] = (
    "a large matte orange cylinder left of a small matte green cylinder left of "
    "a small shiny purple cone on a wood floor, light from the right",
    "a large matte yellow cone left of a small shiny red cylinder left of "
    "a small shiny yellow cylinder on a wood floor, light from the right",
    "a small matte red cone left of a small matte yellow cone left of "
    "a large matte orange cube on a slate floor, light from the right",
    "a large matte green cube left of a small matte cyan cube left of "
    "a small shiny cyan sphere on a slate floor, light from the left",
)


def prompts(split_seed: int, n: int, hard: bool = False) -> list[str]:
    """``n`` different canonical captions of the scenes with seeds ``split_seed``, ``split_seed`` + 1, …; hard: three solids each."""
    found: dict[str, None] = {}
    for seed in count(split_seed):
        if len(found) >= n:
            break
        found[caption(sample_scene(np.random.default_rng(seed), hard=hard))] = None
    return list(found)
