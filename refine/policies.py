"""The named policies: the project's own, the published recipes, and the arms that a benchmark compares with.

auto              repair regions in place; draw again where damage is wide or repairs failed (the default)
inpaint, redraw   one route only
paper-inpaint     LEGION's published inpainting (ICCV 2025, section 5 and its released code)
paper-regenerate  LEGION's published regeneration
best-of-n         no controller: draw n images, keep the one that the rewards like best
random-mask       control: ``inpaint`` on the same shapes at random places
oracle-mask       ceiling: ``inpaint`` on the true masks; a benchmark that knows them gives ``Models.truth``

A policy is data (``refine.policy.Policy``); what a name binds cannot be configured, the rest can.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from refine.policy import Policy, Wording

Named: TypeAlias = Callable[..., Policy]

# What only the published recipes and the arms change.
OWN: dict[str, Any] = {"frame_dilation": 0.0, "restore": True, "drift": False, "rounds": None, "until_clean": True, "rule": None}

auto: Named = partial(Policy, route="auto", masks="found", **OWN)
inpaint: Named = partial(Policy, route="inpaint", masks="found", **OWN)
redraw: Named = partial(Policy, route="redraw", masks="found", **OWN)
random_mask: Named = partial(Policy, route="inpaint", masks="random", **OWN)
oracle_mask: Named = partial(Policy, route="inpaint", masks="true", **OWN)


def paper_inpaint(strength: float = 0.84, wording: Wording = "defect") -> Policy:
    """Every mask that was found, one after the other, repainted in the whole picture; the result always replaces the picture.

    As published: three rounds, strength 0.84, one candidate, masks grown by 10 pixels of 1024, a prompt that names the fault, no gate,
    no pixel put back, so that each repaint sends the whole picture through the VAE. The 25 steps at guidance 8 are the generator's
    business (``generator.steps``, ``generator.guidance_scale``). Kinder than the released code: size and aspect are kept (it squashes to
    1024 × 1024), and each repaint has a seed of its own. A model with a closed vocabulary wants ``wording="user"``.
    """
    return Policy(
        route="inpaint", threshold=0.0, min_area=0.0, top_k=MANY, crop=False, dilation=0.0, least_dilation=0.0, frame_dilation=10 / 1024,
        feather=0.0, match_colour=False, restore=False, wording=wording, strengths=(strength,), rounds=3, rule="off",
    )  # fmt: skip


def paper_regenerate(rounds: int = 2, wording: Wording = "revised") -> Policy:
    """A new image from a revised prompt in every round, whatever was found; the last one is the result.

    As published, the reviser gets the prompt of the round before, not the user's. The paper's reviser is a commercial language model;
    here it is the configured one.
    """
    return Policy(route="redraw", redraws=1, rounds=rounds, until_clean=False, drift=True, wording=wording, rule="off")


def best_of_n(n: int = 4) -> Policy:
    """``n`` images of the user's prompt, the first included, from seeds of one family; the gate's rule ``reward`` keeps one of them."""
    if n < 2:
        raise ValueError(f"policy.n is {n}; a choice needs 2 or more.")
    return Policy(route="redraw", redraws=n - 1, rounds=1, until_clean=False, wording="user", rule="reward")


MANY = 1_000
