"""Damage: truth masks, words, composition, and faults painted by a model."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from refine.errors import InputError, UnknownName
from refine.stilllife.captions import parse
from refine.stilllife.damage import KINDS, PHRASE_VOCABULARY, Damaged, Sample, damage, repaint_damage, sample_damage
from refine.stilllife.render import render
from refine.stilllife.scene import Scene, Solid, sample_scene
from refine.stilllife.tools import MIN_AREA
from refine.types import CATEGORIES, Image, Mask, Region

SCENE = Scene((Solid("cube", "red", "large", "shiny", -1.6, 0.2), Solid("cone", "cyan", "large", "matte", 1.6, 0.4)), "beige", "left")
SEEDS = st.integers(0, 10_000_000)


def pixels(image: Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.asarray(image, np.int64)


def check_words(region: Region) -> None:
    words = re.findall(r"[A-Za-z]+|'s|[.,;:]", f"{region.phrase} {region.explanation}")
    assert set(words) <= set(PHRASE_VOCABULARY)
    assert region.explanation.endswith(".") and region.phrase.startswith("the ")


def check_fault(made: Damaged) -> None:
    difference = np.abs(pixels(made.image) - pixels(made.clean)).max(-1)
    assert made.mask.dtype == np.bool_ and made.mask.sum() >= MIN_AREA
    assert not difference[~made.mask].any()
    assert (difference[made.mask] > 8).mean() > 0.10
    assert parse(made.caption) is not None and made.category == KINDS[made.kind] and 0 < made.severity <= 1
    check_words(made.region)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_where_its_mask_is(kind: str) -> None:
    for seed in range(2):
        made = damage(SCENE, np.random.default_rng(seed), kind)
        check_fault(made)
        again = damage(SCENE, np.random.default_rng(seed), kind)
        assert made.image.tobytes() == again.image.tobytes() and (made.mask == again.mask).all()


@pytest.mark.parametrize("kind", KINDS)
def test_severity_scales_what_is_seen(kind: str) -> None:
    def visible(severity: float) -> float:
        faults = [damage(SCENE, np.random.default_rng(seed), kind, severity) for seed in range(3)]
        return float(np.mean([np.abs(pixels(made.image) - pixels(made.clean)).sum() for made in faults]))

    assert visible(1.0) > 1.15 * visible(0.35)


def test_catalogue_is_wide() -> None:
    assert all(list(KINDS.values()).count(category) >= 4 for category in CATEGORIES)
    assert len(PHRASE_VOCABULARY) < 250


def test_missing_shadow_is_masked_where_it_should_be() -> None:
    made = damage(SCENE, np.random.default_rng(0), "shadow_missing", 1.0)
    truth = ndimage.binary_dilation(render(SCENE).shadow >= 0)
    assert (made.mask & truth).sum() > 0.9 * made.mask.sum()


@given(SEEDS)
@settings(max_examples=20, deadline=None)
def test_samples_compose_faults_that_do_not_touch(seed: int) -> None:
    sample = sample_damage(np.random.default_rng(seed))
    union = np.zeros((128, 128), np.bool_)
    for region in sample.regions:
        assert not (ndimage.binary_dilation(region.mask) & union).any() and region.mask.sum() >= MIN_AREA
        check_words(region)
        union |= region.mask
    different = (pixels(sample.image) != pixels(sample.clean)).any(-1)
    assert not different[~union].any()
    assert len(sample.regions) == len(sample.kinds) == len(sample.severities) <= 3
    read = parse(sample.caption)
    assert read is not None and read.kind == sample.scene.kind


def test_a_quarter_of_the_samples_is_clean() -> None:
    clean = sum(not sample_damage(np.random.default_rng(seed), size=64).regions for seed in range(60))
    assert 0.10 < clean / 60 < 0.45
    assert not sample_damage(np.random.default_rng(0), faults=0).regions


def paint(image: Image, mask: Mask, prompt: str, seed: int) -> Image:
    """A model that draws the prompt and ignores the rest."""
    scene = parse(prompt)
    assert scene is not None and mask.shape == image.size[::-1] and seed >= 0
    return render(scene, image.width).image


def test_repaint_adds_a_fault_where_the_picture_changed() -> None:
    added = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        before = sample_damage(rng)
        after = repaint_damage(before, rng, paint)
        if len(after.regions) == len(before.regions):
            continue
        added += 1
        region, change = after.regions[-1], np.abs(pixels(after.image) - pixels(before.image)).max(-1)
        assert region.mask.sum() >= MIN_AREA and region.category in CATEGORIES
        assert change[region.mask].mean() > 15 and change[~ndimage.binary_dilation(region.mask, iterations=3)].mean() < 3
        check_words(region)
    assert added >= 8


def test_repaint_that_changes_nothing_gives_the_sample_back() -> None:
    sample: Sample = sample_damage(np.random.default_rng(3))
    assert repaint_damage(sample, np.random.default_rng(4), lambda image, mask, prompt, seed: image) is sample


def test_wrong_requests_are_told() -> None:
    scene = sample_scene(np.random.default_rng(0))
    with pytest.raises(UnknownName, match="melted"):
        damage(scene, np.random.default_rng(0), "meltd")
    with pytest.raises(InputError, match="severity"):
        damage(scene, np.random.default_rng(0), severity=1.5)
    far = Scene((Solid("cube", "red", "small", "matte", 40.0),), "grey", "left")
    with pytest.raises(InputError, match="another scene"):
        damage(far, np.random.default_rng(0), "bitten")
