"""SynthScars' files: exact masks through polygons, round trip, tolerance for what the published files contain."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from refine.errors import InputError
from refine.stilllife.damage import sample_damage
from refine.stilllife.dataset import read_synthscars, write_synthscars
from refine.stilllife.polygons import fill, trace


@given(st.integers(0, 1 << 32), st.floats(0.05, 0.95))
@settings(max_examples=60, deadline=None)
def test_polygons_give_the_mask_back(seed: int, share: float) -> None:
    noise = np.random.default_rng(seed).random((23, 31)) < share
    mask = np.asarray(np.max([ndimage.binary_fill_holes(noise_part) for noise_part in _parts(noise)], axis=0), np.bool_)
    assert (fill(trace(mask), (31, 23)) == mask).all()


def _parts(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    labels, count = ndimage.label(mask)
    return [labels == part for part in range(1, count + 1)] or [mask]


def test_polygons_beyond_the_border_are_cut() -> None:
    assert fill([[-5, -5, 50, -5, 50, 3 + 1e-13, -5, 3]], (20, 10)).sum() == 60
    triangle = fill([[0, 0, 10, 0, 0, 10]], (10, 10))
    assert triangle[0, :9].all() and not triangle[9, 1:].any() and 45 <= triangle.sum() <= 55


def test_round_trip(tmp_path: Path) -> None:
    samples = [sample_damage(np.random.default_rng(seed)) for seed in range(12)]
    path = write_synthscars(tmp_path, "train", samples)
    assert path == tmp_path / "train" / "annotations" / "train.json"
    reports: list[str] = []
    items = read_synthscars(tmp_path, "train", reports.append)
    assert not reports and len(items) == 12 and any(item.real for item in items) and any(item.regions for item in items)
    for sample, item in zip(samples, items, strict=True):
        assert item.real == (not sample.regions) and item.prompt == sample.caption
        assert np.array_equal(np.asarray(PIL.Image.open(item.image)), np.asarray(sample.image))
        for told, read in zip(sample.regions, item.regions, strict=True):
            assert (read.phrase, read.explanation) == (told.phrase, told.explanation)
            assert (told.mask & read.mask).sum() / (told.mask | read.mask).sum() > 0.9
            assert f"{told.phrase}:{told.explanation}" in item.caption


def test_layout_is_that_of_synthscars(tmp_path: Path) -> None:
    entries = json.loads(write_synthscars(tmp_path, "test", [sample_damage(np.random.default_rng(0), faults=2)]).read_text())
    (body,) = entries[0].values()
    assert {"caption", "img_file_name", "refs"} <= set(body) and body["caption"].startswith("Upon examining the image. I have found: ")
    for ref in body["refs"]:
        assert set(ref) == {"sentence", "explanation", "bbox", "segmentation"} and ref["bbox"] is None
        assert all(len(polygon) >= 8 and len(polygon) % 2 == 0 for polygon in ref["segmentation"])


def test_published_oddities_are_reported_and_skipped(tmp_path: Path) -> None:
    (tmp_path / "train" / "annotations").mkdir(parents=True)
    (tmp_path / "train" / "images").mkdir()
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "train" / "images" / "a.png")
    square, name = [[2, 2, 20, 2, 20, 20, 2, 20]], "/some/cluster/images/a.png"
    refs = [
        {"sentence": "the hand", "explanation": "six fingers", "bbox": None, "segmentation": square},
        {"sentence": "the ear", "explanation": "", "bbox": None, "segmentation": square},
        {"sentence": "the eye", "explanation": "odd", "bbox": None, "segmentation": [[3, 3, 4, 4]]},
        {"sentence": "the lip", "explanation": "odd", "bbox": None, "segmentation": None},
        "not an object",
    ]
    entries = [{"0": {"caption": "c", "img_file_name": name, "refs": refs}}, {"1": {"img_file_name": "gone.png", "refs": []}}, [1], {}]
    (tmp_path / "train" / "annotations" / "test.json").write_text(json.dumps(entries))
    reports: list[str] = []
    (item,) = read_synthscars(tmp_path, "test", reports.append)
    assert [region.phrase for region in item.regions] == ["the hand", "the ear"] and item.regions[0].mask.shape == (30, 40)
    assert item.regions[0].mask.sum() == 18 * 18 and not item.real
    text = "\n".join(reports)
    assert all(part in text for part in ("0:1 has no explanation", "0:2", "0:3", "0:4", "gone.png", "one key")) and len(reports) == 7


def test_missing_and_broken_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No annotations of split 'test'"):
        read_synthscars(tmp_path, "test")
    path = write_synthscars(tmp_path, "test", [])
    path.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        read_synthscars(tmp_path, "test")
    path.write_text("{}")
    with pytest.raises(InputError, match="holds a dict"):
        read_synthscars(tmp_path, "test")
