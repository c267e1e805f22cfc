"""Prompts of the still-life world: four to start with, and as many held-out ones as a benchmark needs."""

from __future__ import annotations

from itertools import count

import numpy as np

from refine.stilllife.captions import caption
from refine.stilllife.scene import sample_scene

DEFAULT_PROMPTS: tuple[str, ...] = (
    "a large shiny red cone left of a small shiny green cylinder left of a small shiny red cylinder on a grey floor, light from the right",
    "a small matte red sphere left of a large shiny purple cone left of a small shiny green cone on a wood floor, light from the right",
    "a small shiny orange cylinder left of a large matte cyan cube left of a small matte blue sphere on a slate floor, light from the left",
    "a small shiny purple cube left of a large matte green cone left of a small matte white sphere on a beige floor, light from the right",
)


def prompts(split_seed: int, n: int, hard: bool = False) -> list[str]:
    """``n`` different canonical captions of the scenes with seeds ``split_seed``, ``split_seed`` + 1, …; hard: three solids each."""
    found: dict[str, None] = {}
    for seed in count(split_seed):
        if len(found) >= n:
            break
        found[caption(sample_scene(np.random.default_rng(seed), hard=hard))] = None
    return list(found)
