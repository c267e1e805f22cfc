"""Captions of still-life scenes, in a small closed grammar, and the inverse.

``caption`` states every attribute; with a generator it draws a paraphrase. ``parse`` reads every sentence that ``caption`` can write
(and near variants in the same words); positions come back only as the order from left to right.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from refine.stilllife.scene import ATTRIBUTES, COLOURS, FLOORS, LIGHTS, SHAPES, Scene, Solid, arrange

SYNONYMS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "large": ("large", "big", "huge"),
    "matte": ("matte", "dull"),
    "shiny": ("shiny", "glossy", "metallic"),
    "cube": ("cube", "block"),
    "sphere": ("sphere", "ball"),
}
FLOOR_FORMS = ("on a {} floor", "standing on a {} floor", "placed on a {} floor", "over a {} floor")
LIGHT_FORMS = ("light from the {}", "lit from the {}", "with light from the {}", "with the light on the {}", "the light comes from the {}")
CHAINS = ("{} left of {}", "{} to the left of {}")
REVERSED_CHAINS = ("{} right of {}", "{} to the right of {}")
PAIRS = (("{} with {} on its right", False), ("{} beside {} on its right", False), ("{} with {} on its left", True))

_MEANING = {word: name for name, words in SYNONYMS.items() for word in words} | {w: w for w in (*SHAPES, *COLOURS)}
_TEMPLATES = (*FLOOR_FORMS, *LIGHT_FORMS, *CHAINS, *REVERSED_CHAINS, *(form for form, _ in PAIRS), "from left to right and a an")
VOCABULARY: tuple[str, ...] = tuple(
    sorted(set(" ".join(_TEMPLATES).replace("{}", " ").split()) | set(_MEANING) | set(FLOORS) | set(LIGHTS) | {","})
)

_LIGHT = re.compile(r",? *\b(?:with the light on|with light from|lit from|the light comes from|light from) the (left|right)\b,?")
_FLOOR = re.compile(rf",? *\b(?:standing on|placed on|over|on) an? ({'|'.join(FLOORS)}) floor\b,?")
_NOUN_PHRASE = re.compile(r"an? (\w+) (\w+) (\w+) (\w+)")


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """A sentence with every attribute of the scene: the canonical form, or (with ``rng``) a random paraphrase."""
    if rng is None:
        names = [noun_phrase(solid) for solid in scene.solids]
        return f"{' left of '.join(names)} on a {scene.floor} floor, light from the {scene.light}"
    body = _relation([noun_phrase(solid, rng) for solid in scene.solids], rng)
    floor = _pick(rng, FLOOR_FORMS).format(scene.floor)
    light = _pick(rng, LIGHT_FORMS).format(scene.light)
    order = int(rng.integers(4))
    if order == 0:
        return f"{light}, {body} {floor}"
    if order == 1:
        return f"{floor.removeprefix('standing ').removeprefix('placed ')}, {body}, {light}"
    return f"{body} {floor}, {light}"


def noun_phrase(solid: Solid, rng: np.random.Generator | None = None) -> str:
    """"a large shiny red cube"; with ``rng`` the adjectives are shuffled and words replaced by synonyms."""
    adjectives: Sequence[str] = (solid.size, solid.material, solid.colour)
    noun = solid.shape
    if rng is not None:
        orders = list(permutations(adjectives))
        adjectives = orders[0] if rng.random() < 0.5 else orders[int(rng.integers(len(orders)))]
        adjectives = [_synonym(word, rng) for word in adjectives]
        noun = _synonym(noun, rng)
    return article(" ".join((*adjectives, noun)))


def article(words: str) -> str:
    """The words with "a" or "an" before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def parse(text: str) -> Scene | None:
    """The scene that a caption describes, solids placed at even gaps; None where the text is not of the grammar."""
    text = " ".join(text.lower().replace(",", " , ").strip(" .").split()).replace(" ,", ",")
    light, floor = _LIGHT.findall(text), _FLOOR.findall(text)
    if len(light) != 1 or len(floor) != 1:
        return None
    body = " ".join(_FLOOR.sub(" ", _LIGHT.sub(" ", text)).split()).strip(", ")
    names = _order(body)
    solids = [_solid(name) for name in names]
    if not solids or any(solid is None for solid in solids):
        return None
    return Scene(arrange([solid for solid in solids if solid]), floor[0], light[0])


def _relation(names: list[str], rng: np.random.Generator) -> str:
    """Join noun phrases so that their order from left to right can be read."""
    if len(names) == 1:
        return names[0]
    choice = int(rng.integers(6))
    if choice == 0:
        return f"from left to right, {', '.join(names[:-1])} and {names[-1]}"
    if choice == 1 and len(names) == 2:
        form, is_reversed = PAIRS[int(rng.integers(len(PAIRS)))]
        return form.format(*(reversed(names) if is_reversed else names))
    if choice == 2:
        return _chain(names[::-1], _pick(rng, REVERSED_CHAINS))
    return _chain(names, _pick(rng, CHAINS))


def _chain(names: list[str], form: str) -> str:
    return form.replace("{}", "").join(names)


def _order(body: str) -> list[str]:
    """Noun phrases of the sentence's body, left to right; empty where the relation is unknown."""
    for pattern, reverse in (("left", False), ("right", True)):
        parts = re.split(rf" (?:to the )?{pattern} of ", body)
        if len(parts) > 1:
            return parts[::-1] if reverse else parts
    if listed := re.fullmatch(r"from left to right,? (.+)", body):
        return re.split(r", | and ", listed[1])
    if pair := re.fullmatch(r"(.+) (?:with|beside) (.+) on its (left|right)", body):
        return [pair[1], pair[2]] if pair[3] == "right" else [pair[2], pair[1]]
    return [body]


def _solid(name: str) -> Solid | None:
    """The solid of one noun phrase, None unless it has one shape, colour, size and material."""
    match = _NOUN_PHRASE.fullmatch(name.strip())
    if match is None:
        return None
    words = [_MEANING.get(word, "") for word in match.groups()]
    found = [[word for word in words if word in names] for names in ATTRIBUTES.values()]
    if any(len(named) != 1 for named in found) or words[-1] not in SHAPES:
        return None
    shape, colour, size, material = (name for (name,) in found)
    return Solid(shape, colour, size, material)


def _synonym(word: str, rng: np.random.Generator) -> str:
    options = SYNONYMS.get(word, (word,))
    return word if rng.random() < 0.6 else _pick(rng, options)


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]
