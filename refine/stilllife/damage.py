"""The catalogue of damage: every fault has a truth mask, a phrase and an explanation, in SynthScars' three categories.

A fault is made by drawing the scene wrongly or by spoiling pixels. Its truth mask holds every pixel that differs visibly from the clean
picture (closed, filled); outside it the damaged picture equals the clean one, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from refine.errors import InputError, UnknownName
from refine.overlap import union
from refine.stilllife import distortion, physics, structure
from refine.stilllife.captions import caption
from refine.stilllife.scene import COLOURS, LIGHTS, SHAPES, Scene, sample_scene
from refine.stilllife.tools import MIN_AREA, Pixels, Stage, blob, changed, clean_mask, other_side, picture, point_in
from refine.types import Category, Image, Mask, Region

Recipe = Callable[[Stage, int, np.random.Generator, float], Pixels]
Repaint = Callable[[Image, Mask, str, int], Image]  # picture, area, prompt, seed -> picture of the same size

NO_FAULT_PROBABILITY = 0.25
SEVERITIES = (0.35, 1.0)
TRIES = 12
REPAINT_TRIES = 8
REPAINT_VISIBLE = 20  # levels of 255
REPAINT_AREA = (0.015, 0.12)  # share of the image
MAX_AREA = 0.30  # of the image: a larger fault is not a region any more


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue. ``phrase`` and ``explanations`` may use {name}, {side} (of the light) and {away} (the other side).

    whole: the truth mask takes in the whole solid, also where old and new pixels happen to be alike.
    """

    category: Category
    recipe: Recipe
    phrase: str
    explanations: tuple[str, ...]
    whole: bool = False


CATALOGUE: dict[str, Kind] = {
    "shadow_missing": Kind("physics", physics.shadow_missing, "the {name}'s shadow", (
        "It is missing or too faint; a solid in this light throws a dark shadow to the {away}.",
        "There should be a dark shadow to the {away} of the {name}.")),
    "shadow_reversed": Kind("physics", physics.shadow_reversed, "the {name}'s shadow", (
        "It points towards the light; a shadow falls away from the light.",
        "It falls to the {side}, where the light comes from.")),
    "shadow_doubled": Kind("physics", physics.shadow_doubled, "the {name}'s second shadow", (
        "There are two shadows, but there is only one light.",
        "One light throws one shadow; the one to the {side} is too much.")),
    "shadow_detached": Kind("physics", physics.shadow_detached, "the {name}'s shadow", (
        "It does not touch the {name}; a shadow starts where the solid stands.",)),
    "shadow_foreign": Kind("physics", physics.shadow_foreign, "the {name}'s shadow", (
        "Its outline is not that of a {shape}; the shadow belongs to another shape.",)),
    "floating": Kind("physics", physics.floating, "the {name}", (
        "It floats in the air; a solid rests on the floor.",
        "It does not touch the floor and nothing holds it."), whole=True),
    "lit_wrong": Kind("physics", physics.lit_wrong, "the {name}'s lit side", (
        "It is bright on the {away}, but the light comes from the {side}.",), whole=True),
    "bitten": Kind("structure", structure.bitten, "the {name}", (
        "A piece is bitten out of it; a {shape} is whole.",)),
    "doubled": Kind("structure", structure.doubled, "the {name}", (
        "It is doubled: two copies stand inside each other.",), whole=True),
    "fused": Kind("structure", structure.fused, "the {name}", (
        "Another solid grows out of it; the two are fused.",)),
    "stump": Kind("structure", structure.stump, "the {name}", (
        "An extra limb sticks out of its side; a {shape} has none.",)),
    "stretched": Kind("structure", structure.stretched, "the {name}", (
        "Its proportions are wrong; it is stretched or pressed out of shape.",), whole=True),
    "leaning": Kind("structure", structure.leaning, "the {name}", (
        "It leans to one side; a {shape} stands upright.",), whole=True),
    "melted": Kind("structure", structure.melted, "the {name}", (
        "It is melted; its outline sags and runs down.",), whole=True),
    "twisted": Kind("structure", structure.twisted, "the {name}", (
        "It is twisted; its sides are wavy and should be smooth.",), whole=True),
    "noise": Kind("distortion", distortion.noise, "the grain on the {name}", (
        "Random noise covers the surface; it should be clean.",)),
    "smear": Kind("distortion", distortion.smear, "the blur at the {name}", (
        "The picture is smeared here; the edges should be sharp.",)),
    "blocks": Kind("distortion", distortion.blocks, "the blocks at the {name}", (
        "The picture breaks up into coarse squares here.",)),
    "grid": Kind("distortion", distortion.grid, "the texture on the {name}", (
        "A grid lies over the surface; the surface should be plain.",)),
    "bleed": Kind("distortion", distortion.bleed, "the floor at the {name}", (
        "The colour of the {name} runs out over the floor.",)),
    "stain": Kind("distortion", distortion.stain, "the stain on the {name}", (
        "Part of the {shape} has another colour; it should be {colour} all over.",)),
}  # fmt: skip
KINDS: dict[str, Category] = {name: kind.category for name, kind in CATALOGUE.items()}

REPAINTED: dict[str, tuple[Category, str, str]] = {
    "solid": ("structure", "the {name}", "Its form is broken; it is not a whole {colour} {shape}."),
    "shadow": ("distortion", "the {name}'s shadow", "It is broken up and does not match the {name}."),
    "floor": ("distortion", "the floor", "Something that does not belong there is on the plain floor."),
}


@dataclass(frozen=True, slots=True, eq=False)
class Damaged:
    """One fault in one scene. ``mask`` is (H, W) bool, at least ``MIN_AREA`` pixels; severity in (0, 1]."""

    image: Image
    clean: Image
    mask: Mask
    phrase: str
    explanation: str
    category: Category
    kind: str
    severity: float
    caption: str

    @property
    def region(self) -> Region:
        return Region(self.mask, self.phrase, self.explanation, self.category, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A picture with its faults (none: a clean picture). ``severities`` has one number per region."""

    image: Image
    clean: Image
    scene: Scene
    caption: str
    regions: tuple[Region, ...]
    kinds: tuple[str, ...] = ()
    severities: tuple[float, ...] = ()

    @property
    def mask(self) -> Mask:
        """(H, W) bool: every damaged pixel."""
        return union(self.regions, (self.image.height, self.image.width))


def damage(scene: Scene, rng: np.random.Generator, kind: str | None = None, severity: float | None = None, size: int = 128) -> Damaged:
    """Damage a scene once. ``kind`` and ``severity`` None: drawn at random. Raises InputError where the scene cannot show the kind."""
    if kind is not None and kind not in CATALOGUE:
        raise UnknownName("kind of damage", kind, CATALOGUE)
    if severity is not None and not 0 < severity <= 1:
        raise InputError(f"The severity is {severity}; it must be above 0 and at most 1.")
    stage = Stage.of(scene, size)
    for _ in range(TRIES):
        made = _attempt(stage, rng, kind or _any_kind(rng), severity or float(rng.uniform(*SEVERITIES)))
        if made is not None:
            return made
    raise InputError(f"No visible fault of kind {kind or 'any'} came out in {TRIES} tries. Take another scene or a higher severity.")


def sample_damage(rng: np.random.Generator, size: int = 128, faults: int | None = None, hard: bool = False) -> Sample:
    """A random scene with ``faults`` faults that do not touch (None: 0 with probability 0.25, else 1 to 3; fewer where they do not fit)."""
    stage = Stage.of(sample_scene(rng, hard=hard), size)
    if faults is None:
        faults = 0 if rng.random() < NO_FAULT_PROBABILITY else 1 + int(rng.choice(3, p=(0.5, 0.35, 0.15)))
    pixels, taken, made = stage.pixels.copy(), np.zeros((size, size), np.bool_), list[Damaged]()
    for _ in range(TRIES * faults):
        if len(made) == faults:
            break
        fault = _attempt(stage, rng, _any_kind(rng), float(rng.uniform(*SEVERITIES)))
        if fault is None or (ndimage.binary_dilation(fault.mask, iterations=2) & taken).any():
            continue
        pixels[fault.mask] = np.asarray(fault.image, np.float32)[fault.mask]
        taken |= fault.mask
        made.append(fault)
    return Sample(
        picture(pixels), stage.rendered.image, stage.scene, caption(stage.scene, rng),
        tuple(fault.region for fault in made), tuple(fault.kind for fault in made), tuple(fault.severity for fault in made),
    )  # fmt: skip


def repaint_damage(sample: Sample, rng: np.random.Generator, repaint: Repaint) -> Sample:
    """Add a fault that a model paints: part of the picture is repainted with a wrong prompt and pasted back with a soft rim.

    The truth mask is where the result differs clearly from the picture before (more than ``REPAINT_VISIBLE`` levels after a small blur).
    After ``REPAINT_TRIES`` repaints that change nothing visible (or lie on an earlier fault) the sample comes back as it was.
    """
    stage = Stage.of(sample.scene, sample.image.width)
    before = np.asarray(sample.image, np.float32)
    for _ in range(REPAINT_TRIES):
        content, index, area = repaint_area(stage, rng)
        if (ndimage.binary_dilation(area, iterations=4) & sample.mask).any():
            continue
        painted = repaint(sample.image, area, wrong_prompt(sample.scene, index, rng), int(rng.integers(2**31)))
        soft = ndimage.gaussian_filter(area.astype(np.float32), 1.0)[..., None]
        after = np.rint(before + (np.asarray(painted, np.float32) - before) * soft)
        mask = changed(before, ndimage.gaussian_filter(after - before, (0.7, 0.7, 0)) + before, REPAINT_VISIBLE)
        if mask.sum() < MIN_AREA:
            continue
        category, phrase, explanation = REPAINTED[content]
        words = describe(stage, index)
        region = Region(mask, phrase.format(**words), explanation.format(**words), category, 1.0)
        return replace(
            sample, image=picture(after), regions=(*sample.regions, region), kinds=(*sample.kinds, f"repainted_{content}"),
            severities=(*sample.severities, 1.0),
        )  # fmt: skip
    return sample


def repaint_area(stage: Stage, rng: np.random.Generator) -> tuple[str, int, Mask]:
    """What to repaint: content ("solid", "shadow" or "floor"), the nearest meant solid's index, and a blob around a pixel of it."""
    index = int(rng.integers(len(stage.props)))
    floor = (stage.rendered.ids < 0) & (stage.rendered.shadow < 0)
    floor[: stage.size // 3] = False
    seeds = {"solid": stage.solid_mask(index), "shadow": stage.shadow_mask(index), "floor": floor}
    content = str(rng.choice(tuple(seeds), p=(0.6, 0.2, 0.2)))
    if not seeds[content].any():
        content = "solid" if seeds["solid"].any() else "floor"
    low, high = REPAINT_AREA
    radius = stage.size * float(np.sqrt(np.exp(rng.uniform(np.log(low), np.log(high))) / np.pi))
    return content, index, blob(rng, stage.size, point_in(rng, seeds[content]), radius)


def wrong_prompt(scene: Scene, index: int, rng: np.random.Generator) -> str:
    """A caption that does not fit: one solid replaced by another, or another scene on the same floor in the same light."""
    stranger = sample_scene(rng)
    if rng.random() < 0.5:
        return caption(replace(stranger, floor=scene.floor, light=scene.light), rng)
    swapped = replace(stranger.solids[0], x=scene.solids[index].x, z=scene.solids[index].z)
    return caption(replace(scene, solids=(*scene.solids[:index], swapped, *scene.solids[index + 1 :])), rng)


def _any_kind(rng: np.random.Generator) -> str:
    """A random kind: the category first, so that the three are equally frequent."""
    category = ("physics", "structure", "distortion")[int(rng.integers(3))]
    names = [name for name, kind in CATALOGUE.items() if kind.category == category]
    return names[int(rng.integers(len(names)))]


def _attempt(stage: Stage, rng: np.random.Generator, kind: str, severity: float) -> Damaged | None:
    """One try on a random solid; None where too little (or too much) would be visible."""
    index, entry = int(rng.integers(len(stage.props))), CATALOGUE[kind]
    if stage.solid_mask(index).sum() < 4 * MIN_AREA:
        return None
    after = entry.recipe(stage, index, rng, severity)
    mask = changed(stage.pixels, after)
    if entry.whole and mask.any():
        mask = clean_mask(mask | stage.solid_mask(index))
    if mask.sum() < max(MIN_AREA, 0.08 * stage.solid_mask(index).sum()) or mask.mean() > MAX_AREA:
        return None
    words = describe(stage, index)
    explanation = entry.explanations[int(rng.integers(len(entry.explanations)))]
    return Damaged(
        picture(np.where(mask[..., None], after, stage.pixels)), stage.rendered.image, mask, entry.phrase.format(**words),
        explanation.format(**words), entry.category, kind, severity, caption(stage.scene),
    )  # fmt: skip


def describe(stage: Stage, index: int) -> dict[str, str]:
    """The words that the catalogue's sentences may use for one solid."""
    solid, light = stage.scene.solids[index], stage.scene.light
    return {"name": stage.name(index), "shape": solid.shape, "colour": solid.colour, "side": light, "away": other_side(light)}


def _vocabulary() -> tuple[str, ...]:
    sentences = [text for kind in CATALOGUE.values() for text in (kind.phrase, *kind.explanations)]
    sentences += [text for _, phrase, explanation in REPAINTED.values() for text in (phrase, explanation)]
    plain = re.sub(r"\{\w+\}", " ", " ".join(sentences))
    return tuple(sorted(set(re.findall(r"[A-Za-z]+|'s|[.,;:]", plain)) | set(COLOURS) | set(SHAPES) | set(LIGHTS)))


PHRASE_VOCABULARY: tuple[str, ...] = _vocabulary()
