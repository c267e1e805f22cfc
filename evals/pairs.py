"""Preference pairs from still life: of two (image, prompt) tuples, the better one is known by construction.

    damage    the clean picture over a damaged one, same prompt
    caption   the right caption over one with a single attribute changed, same picture
    severity  mild damage over severe damage of the same kind in the same scene, same prompt

A pure function of the seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from refine.errors import InputError
from refine.stilllife.captions import caption
from refine.stilllife.damage import KINDS, Damaged, damage
from refine.stilllife.render import Rendered, render
from refine.stilllife.scene import ATTRIBUTES, FLOORS, LIGHTS, Scene, Solid, arrange, sample_scene
from refine.stilllife.tools import another
from refine.types import CATEGORIES, Image, Reward

PairKind = Literal["damage", "caption", "severity"]
CHANGES = ("colour", "shape", "size", "material", "order", "floor", "light")
MILD, SEVERE = (0.35, 0.55), (0.85, 1.0)
WORSE_BY = 1.25  # severe damage changes the pixels at least this many times as much as mild damage
HELD_OUT = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """``better`` and ``worse`` are (image, prompt). ``detail``: the kind of damage, or the attribute that was changed."""

    kind: PairKind
    detail: str
    better: tuple[Image, str]
    worse: tuple[Image, str]


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Everything that pairs are made of: one scene, its twin that differs in one attribute, and one fault at two strengths."""

    scene: Scene
    twin: Scene
    attribute: str
    clean: Rendered
    twin_view: Rendered
    mild: Damaged
    severe: Damaged


def pairs(seeds: Iterable[int]) -> Iterator[Pair]:
    """One pair of each kind for every seed; prompts are random paraphrases."""
    for seed in seeds:
        yield from pairs_of(make_group(seed), np.random.default_rng([seed, 1]))


def pairs_of(group: Group, rng: np.random.Generator) -> list[Pair]:
    """The three pairs of a group. Damage is mild or severe by a coin."""
    prompt, wrong = caption(group.scene, rng), caption(group.twin, rng)
    image, mild, severe = group.clean.image, group.mild.image, group.severe.image
    damaged = mild if rng.random() < 0.5 else severe
    return [
        Pair("damage", group.mild.kind, (image, prompt), (damaged, prompt)),
        Pair("caption", group.attribute, (image, prompt), (image, wrong)),
        Pair("severity", group.mild.kind, (mild, prompt), (severe, prompt)),
    ]


def make_group(seed: int, size: int = 128) -> Group:
    """The group of a seed. A scene that cannot show a fault at two strengths is replaced by the next draw."""
    rng = np.random.default_rng([seed, 0])
    while True:
        scene = sample_scene(rng)
        faults = _two_strengths(scene, rng, size)
        if faults is not None:
            break
    twin, attribute = change(scene, rng)
    return Group(scene, twin, attribute, render(scene, size), render(twin, size), *faults)


def _two_strengths(scene: Scene, rng: np.random.Generator, size: int, tries: int = 4) -> tuple[Damaged, Damaged] | None:
    """The same fault (kind, solid, place) mild and severe; None where no try gave two that differ clearly."""
    for _ in range(tries):
        category = CATEGORIES[int(rng.integers(len(CATEGORIES)))]
        kind = str(rng.choice([name for name, group in KINDS.items() if group == category]))
        seed, strengths = int(rng.integers(2**31)), (float(rng.uniform(*MILD)), float(rng.uniform(*SEVERE)))
        try:
            mild, severe = (damage(scene, np.random.default_rng(seed), kind, strength, size) for strength in strengths)
        except InputError:
            continue
        if mild.phrase == severe.phrase and _error(severe) > WORSE_BY * _error(mild):
            return mild, severe
    return None


def _error(fault: Damaged) -> float:
    """Sum of absolute differences from the clean picture."""
    return float(np.abs(np.asarray(fault.image, np.int16) - np.asarray(fault.clean, np.int16)).sum())


def change(scene: Scene, rng: np.random.Generator) -> tuple[Scene, str]:
    """The scene with one attribute changed, and which. Every attribute that can be changed is equally likely.

    A new size or order moves the solids to even gaps, so that none leaves the picture.
    """
    possible = [name for name in CHANGES if name != "order" or len({solid.kind for solid in scene.solids}) > 1]
    attribute = str(rng.choice(possible))
    if attribute == "floor":
        return replace(scene, floor=another(rng, FLOORS, scene.floor)), attribute
    if attribute == "light":
        return replace(scene, light=another(rng, LIGHTS, scene.light)), attribute
    if attribute == "order":
        return replace(scene, solids=arrange(_swapped(scene.solids, rng))), attribute
    k = int(rng.integers(len(scene.solids)))
    solids = list(scene.solids)
    new: dict[str, Any] = {attribute: another(rng, ATTRIBUTES[attribute], getattr(solids[k], attribute))}
    solids[k] = replace(solids[k], **new)
    return replace(scene, solids=arrange(solids) if attribute == "size" else tuple(solids)), attribute


def _swapped(solids: Sequence[Solid], rng: np.random.Generator) -> list[Solid]:
    """Two neighbours (of different looks) change places."""
    candidates = [k for k in range(len(solids) - 1) if solids[k].kind != solids[k + 1].kind]
    k = candidates[int(rng.integers(len(candidates)))]
    return [*solids[:k], solids[k + 1], solids[k], *solids[k + 2 :]]


def accuracy(reward: Reward, seeds: Iterable[int], chunk: int = 32) -> dict[str, float]:
    """Share of pairs that the reward orders rightly (a tie is wrong): ``overall``, by kind, and by kind/detail."""
    right: dict[str, list[bool]] = {}
    queue = list(seeds)
    for start in range(0, len(queue), chunk):
        some = list(pairs(queue[start : start + chunk]))
        sides = [side for pair in some for side in (pair.better, pair.worse)]
        scores = reward.score([image for image, _ in sides], [prompt for _, prompt in sides])
        for pair, better, worse in zip(some, scores[::2], scores[1::2], strict=True):
            for key in ("overall", pair.kind, f"{pair.kind}/{pair.detail}"):
                right.setdefault(key, []).append(better > worse)
    return {key: float(np.mean(values)) for key, values in sorted(right.items())}
