"""Properties of masks, crops and pastes on images of any shape."""

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refine import regions
from refine.types import Critique, Region

sizes = st.tuples(st.integers(8, 60), st.integers(8, 60))


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    """Masks with at least one pixel, of any aspect."""
    width, height = draw(sizes)
    mask = draw(hnp.arrays(bool, (height, width), elements=st.booleans(), fill=st.just(False)))
    mask[draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))] = True
    return mask


@given(masks())
def test_box_is_tight(mask: np.ndarray) -> None:
    x0, y0, x1, y1 = regions.box_of(mask)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()


@given(masks(), st.floats(0, 12))
def test_dilation_and_filling_only_add(mask: np.ndarray, reach: float) -> None:
    assert not (mask & ~regions.dilate(mask, reach)).any()
    assert not (mask & ~regions.fill(mask)).any()


@given(masks(), st.floats(0, 12))
def test_feather_is_zero_outside_and_reaches_one_only_inside(mask: np.ndarray, width: float) -> None:
    alpha = regions.feather(mask, width)
    assert alpha.shape == mask.shape and alpha.min() >= 0 and alpha.max() <= 1
    assert (alpha[~mask] == 0).all() and (alpha[mask] > 0).all()


def test_feather_does_not_fade_at_the_border_of_the_image() -> None:
    assert (regions.feather(np.ones((9, 14), bool), 4) == 1).all()


@given(masks(), st.floats(1, 4), st.integers(1, 80))
def test_crop_contains_the_box_and_lies_in_the_image(mask: np.ndarray, scale: float, least: int) -> None:
    height, width = mask.shape
    box = regions.box_of(mask)
    x0, y0, x1, y1 = regions.crop_box(box, (width, height), scale=scale, least=least)
    assert 0 <= x0 <= box[0] and 0 <= y0 <= box[1] and box[2] <= x1 <= width and box[3] <= y1 <= height
    assert x1 - x0 >= min(width, least) and y1 - y0 >= min(height, least)


@given(st.integers(1, 500), st.integers(1, 500), st.sampled_from([8, 16]), st.sampled_from([64, 128, 512]))
def test_working_size_is_on_the_grid_and_keeps_the_aspect(width: int, height: int, grid: int, native: int) -> None:
    w, h = regions.working_size((0, 0, width, height), native, grid)
    assert w % grid == 0 and h % grid == 0 and w >= grid and h >= grid
    if 0.5 < width / height < 2:
        assert abs(w / h - width / height) < 0.35 and 0.6 < w * h / native**2 < 1.6


@given(masks())
def test_parts_and_merge_lose_no_pixel(mask: np.ndarray) -> None:
    pieces = regions.parts(Region(mask, "x"), 1)
    assert sum(int(piece.mask.sum()) for piece in pieces) == mask.sum()
    joined = regions.merge(pieces, 0.03, 2)
    assert (np.logical_or.reduce([piece.mask for piece in joined]) == mask).all()
    boxes = [regions.grow(regions.box_of(p.mask), regions.margin(p.mask, 0.03, 2), mask.shape[::-1]) for p in joined]
    singles = [b for p, b in zip(joined, boxes, strict=True) if len(regions.parts(p, 1)) == 1]
    assert not any(regions.overlap(a, b) for i, a in enumerate(singles) for b in singles[:i])


@given(masks(), st.integers(0, 2**31), st.floats(0, 8))
def test_paste_keeps_every_byte_outside(mask: np.ndarray, seed: int, feather: float) -> None:
    rng = np.random.default_rng(seed)
    height, width = mask.shape
    image = PIL.Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    box = regions.crop_box(regions.box_of(mask), image.size, scale=1.5, least=4)
    patch = PIL.Image.fromarray(rng.integers(0, 256, (box[3] - box[1], box[2] - box[0], 3), dtype=np.uint8))
    result = regions.paste(image, patch, box, regions.feather(mask, feather))
    assert result.size == image.size
    assert regions.kept_hash(result, mask) == regions.kept_hash(image, mask)
    if feather == 0:
        inside = regions.cut(mask, box)
        assert (np.asarray(result.crop(box))[inside] == np.asarray(patch)[inside]).all()


@given(masks(), sizes)
def test_a_resized_mask_never_vanishes_when_it_shrinks(mask: np.ndarray, size: tuple[int, int]) -> None:
    small = (min(size[0], mask.shape[1]), min(size[1], mask.shape[0]))
    resized = regions.resize_mask(mask, small)
    assert resized.shape == small[::-1] and resized.any()


def test_candidates_are_split_filtered_and_ordered() -> None:
    mask = np.zeros((40, 70), bool)
    mask[2:10, 2:10] = mask[20:36, 40:60] = mask[39, 69] = True
    critique = Critique((70, 40), (Region(mask, "spots", score=0.8), Region(mask, "unsure", score=0.2)))
    found = regions.candidates(critique, threshold=0.5, min_area=0.001, top_k=4, dilation=0.03, least_dilation=4)
    assert [int(region.mask.sum()) for region in found] == [320, 64]
    assert all(region.phrase == "spots" for region in found)


def test_colour_is_matched_on_the_ring_around_the_mask() -> None:
    source = PIL.Image.new("RGB", (40, 30), (100, 120, 140))
    tinted = PIL.Image.new("RGB", (40, 30), (90, 125, 150))
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:30] = True
    assert regions.match_colour(tinted, source, mask).getpixel((20, 15)) == (100, 120, 140)


@given(st.integers(0, 2**31), st.tuples(*[st.integers(-10, 10)] * 3))
def test_a_tint_is_taken_out_whole(seed: int, tint: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(seed).integers(30, 220, (30, 40, 3))
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:30] = True
    source, tinted = (PIL.Image.fromarray(array.astype(np.uint8)) for array in (pixels, pixels + tint))
    assert np.array_equal(np.asarray(regions.match_colour(tinted, source, mask)), pixels)


def test_a_fault_wider_than_its_mask_does_not_wash_the_repair_out() -> None:
    """The ring lies in what is left of a dark fault; the painted crop is bright there. The repair must stay bright."""
    source, painted = PIL.Image.new("RGB", (40, 30), (10, 10, 10)), PIL.Image.new("RGB", (40, 30), (180, 170, 160))
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:30] = True
    assert regions.match_colour(painted, source, mask).getpixel((20, 15)) == (180, 170, 160)


@given(masks(), st.integers(0, 2**31))
def test_scattered_regions_keep_their_shape(mask: np.ndarray, seed: int) -> None:
    moved = regions.scatter(Region(mask, "x"), seed)
    assert moved.mask.shape == mask.shape
    shapes = [regions.cut(one, regions.box_of(one)) for one in (mask, moved.mask)]
    assert np.array_equal(*shapes)


def test_scattered_regions_go_everywhere() -> None:
    mask = np.zeros((9, 14), bool)
    mask[0, 0] = True
    places = np.logical_or.reduce([regions.scatter(Region(mask, "x"), seed).mask for seed in range(2000)])
    assert places.all()


def test_hash_sees_size_and_pixels() -> None:
    image, other = PIL.Image.new("RGB", (4, 6)), PIL.Image.new("RGB", (6, 4))
    assert regions.kept_hash(image, None) != regions.kept_hash(other, None)


@pytest.mark.parametrize("box", [(0, 0, 80, 48), (79, 47, 80, 48), (0, 47, 1, 48)])
def test_crops_at_borders(box: tuple[int, int, int, int]) -> None:
    x0, y0, x1, y1 = regions.crop_box(box, (80, 48), scale=2, least=16)
    assert x0 <= box[0] and y0 <= box[1] and x1 >= box[2] and y1 >= box[3] and 0 <= x0 < x1 <= 80 and 0 <= y0 < y1 <= 48
