"""The still-life world: scenes, captions and their inverse, pictures."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refine.stilllife.captions import VOCABULARY, caption, parse
from refine.stilllife.prompts import DEFAULT_PROMPTS, prompts
from refine.stilllife.render import draw, project, render, stage
from refine.stilllife.scene import COLOURS, FLOORS, LIGHTS, MATERIALS, SHAPES, SIZES, Scene, Solid, sample_scene

SEED_COUNT = 2000  # captions checked in each form
SEEDS = st.integers(0, 10_000_000)


def one(shape: str = "sphere", size: str = "large", material: str = "matte", light: str = "left", colour: str = "red") -> Scene:
    return Scene((Solid(shape, colour, size, material),), "grey", light)


@given(SEEDS, st.booleans())
@settings(max_examples=80, deadline=None)
def test_scenes_keep_their_promises(seed: int, hard: bool) -> None:
    scene = sample_scene(np.random.default_rng(seed), hard=hard)
    assert scene == sample_scene(np.random.default_rng(seed), hard=hard)
    assert len(scene.solids) == 3 if hard else 1 <= len(scene.solids) <= 3
    assert not hard or sum((solid.shape, solid.material) == ("cube", "shiny") for solid in scene.solids) >= 2
    assert len({(solid.colour, solid.shape) for solid in scene.solids}) == len(scene.solids)
    places = project(np.array([(solid.x, 0, solid.z) for solid in scene.solids], np.float32).T, 128)[0]
    assert (np.diff(places) > 0).all()


def test_all_attributes_occur() -> None:
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in range(300)]
    seen = {word for scene in scenes for solid in scene.solids for word in solid.kind}
    seen |= {word for scene in scenes for word in (scene.floor, scene.light)}
    assert seen == {*SHAPES, *COLOURS, *SIZES, *MATERIALS, *FLOORS, *LIGHTS}
    counts = np.bincount([len(scene.solids) for scene in scenes], minlength=4)[1:] / 300
    assert np.allclose(counts, (0.30, 0.45, 0.25), atol=0.08)


@pytest.mark.parametrize("paraphrase", [False, True])
def test_parse_inverts_caption(paraphrase: bool) -> None:
    for seed in range(SEED_COUNT):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        text = caption(scene, rng if paraphrase else None)
        read = parse(text)
        assert read is not None and read.kind == scene.kind, text
        words = re.findall(r"\w+|,", text)
        assert set(words) <= set(VOCABULARY) and len(words) < 60, text
    assert len(VOCABULARY) < 120 and list(VOCABULARY) == sorted(VOCABULARY)


def test_canonical_caption_reads_as_documented() -> None:
    scene = Scene((Solid("cube", "red", "large", "shiny"), Solid("sphere", "orange", "small", "matte")), "grey", "left")
    assert caption(scene) == "a large shiny red cube left of a small matte orange sphere on a grey floor, light from the left"


@pytest.mark.parametrize("text", [
    "", "a cat on a grey floor, light from the left", "a large shiny red cube", "a large shiny red cube on a grey floor",
    "a large small red cube on a grey floor, light from the left", "a large shiny red cube near a small matte blue cone on a grey floor, "
    "light from the left", "a large shiny red cube on a pink floor, light from the left",
])  # fmt: skip
def test_other_texts_are_not_parsed(text: str) -> None:
    assert parse(text) is None


def test_parsed_scene_can_be_drawn() -> None:
    for prompt in DEFAULT_PROMPTS:
        scene = parse(prompt)
        assert scene is not None and caption(scene) == prompt
        assert set(np.unique(render(scene).ids)) == set(range(-1, len(scene.solids)))


def test_prompts_are_different_and_reproducible() -> None:
    drawn = prompts(2_000_000, 40, hard=True)
    assert len(set(drawn)) == 40 and drawn == prompts(2_000_000, 40, hard=True)
    assert all(len(scene.solids) == 3 for prompt in drawn if (scene := parse(prompt)))


@given(SEEDS, st.sampled_from((64, 96, 128)))
@settings(max_examples=15, deadline=None)
def test_pictures_are_deterministic_and_complete(seed: int, size: int) -> None:
    scene = sample_scene(np.random.default_rng(seed))
    first, second = render(scene, size), render(scene, size)
    assert first.image.size == (size, size) and first.image.mode == "RGB" and first.image.tobytes() == second.image.tobytes()
    for index in range(len(scene.solids)):
        assert (first.ids == index).sum() > 0.008 * size * size
    assert not ((first.shadow >= 0) & (first.ids >= 0)).any()
    assert np.allclose(first.coverage.sum(0)[first.ids >= 0].mean(), 1, atol=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_sizes_and_materials_can_be_told_apart(shape: str) -> None:
    small, large = (render(one(shape, size)).ids >= 0 for size in SIZES)
    extent = [np.ptp(np.nonzero(mask)[0]) for mask in (small, large)]
    assert extent[0] >= 18 and extent[1] >= 34 and large.sum() > 2.2 * small.sum()
    matte, shiny = (np.asarray(render(one(shape, "large", material)).image, int) for material in MATERIALS)
    assert (np.abs(matte - shiny).max(-1)[large] > 60).mean() > 0.02
    assert (shiny[large].min(-1) > 180).sum() > 12


@pytest.mark.parametrize("shape", SHAPES)
def test_light_side_moves_shadow_and_shade(shape: str) -> None:
    for light, sign in (("left", 1), ("right", -1)):
        drawn = render(one(shape, light=light))
        column = np.arange(128)
        assert sign * (column[(drawn.shadow == 0).any(0)].mean() - 64) > 5
        if shape != "cube":
            weight = np.asarray(drawn.image, float).sum(-1) * (drawn.ids == 0)
            assert sign * (np.average(column, weights=weight.sum(0)) - np.average(column, weights=(drawn.ids == 0).sum(0))) < 0


def test_no_props_is_the_bare_floor() -> None:
    assert (draw((), "wood").ids == -1).all() and len(stage(one())) == 1
