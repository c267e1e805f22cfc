"""The evaluation sets, read as they were released: every known oddity is handled and counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine.errors import InputError, UnknownName
from refine.evals.datasets import fakedetect, loki, raster, richhf, stilllife, synthscars, tfrecord
from refine.evals.datasets.catalogue import open_dataset
from refine.evals.datasets.items import Dataset, Fault, Item
from refine.overlap import union
from tests import evaluation_sets as made
from tests.evaluation_sets import SQUARE, entry, ref


def items(dataset: Dataset) -> dict[str, Item | Fault]:
    return {one.id: one.read() for one in dataset.entries}


def item(dataset: Dataset, id: str) -> Item:
    found = items(dataset)[id]
    assert isinstance(found, Item), found
    return found


def kinds(dataset: Dataset) -> dict[str, str]:
    """id → why it was left out, of every entry that was."""
    read = {id: one.kind for id, one in items(dataset).items() if isinstance(one, Fault)}
    return {fault.id: fault.kind for fault in dataset.faults} | read


def notes(found: Item) -> list[str]:
    return [note.kind for note in found.notes]


def test_polygons_hold_their_outline() -> None:
    triangle = raster.polygon([0, 0, 4.9, 0.9, 0.2, 4], (8, 6))  # cut to (0, 0), (4, 0), (0, 4)
    assert triangle.shape == (6, 8)
    assert [int(row.sum()) for row in triangle] == [5, 4, 3, 2, 1, 0]
    assert raster.polygon([1, 1, 5, 3], (8, 6)).sum() == 5  # two corners are a line
    assert raster.polygon([-3.9, 1, 3, 1, 3, 2, -3.9, 2], (8, 6)).sum() == 8  # cut at the border


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), min_size=3, max_size=8))
def test_polygons_do_not_depend_on_where_they_start(corners: list[tuple[int, int]]) -> None:
    turned = [*corners[1:], corners[0]]
    first, second = (raster.polygon([float(value) for corner in one for value in corner], (31, 21)) for one in (corners, turned))
    assert (first == second).all()
    assert all(first[y, x] for x, y in corners)


def test_boxes_hold_their_last_row_and_column() -> None:
    assert raster.box(1.9, 2, 3.2, 1, (10, 8)).nonzero()[1].tolist() == [1, 2, 3, 4, 5] * 2
    assert raster.box(-5, -5, 7, 7, (10, 8)).sum() == 9
    assert not raster.box(20, 20, 5, 5, (10, 8)).any()


def test_synthscars_finds_images_by_base_name_and_keeps_twins_apart(tmp_path: Path) -> None:
    entries = [entry("0", "a.png", [ref(SQUARE)]), entry("1", "a.jpg", [ref([20, 2, 30, 2, 30, 9])])]
    dataset = synthscars.load(made.synthscars(tmp_path, entries, ["a.png", "a.jpg"]))
    first, second = item(dataset, "0"), item(dataset, "1")
    assert first.mask is not None and second.mask is not None
    assert first.mask.shape == (30, 40) and first.mask.sum() == 80
    assert not (first.mask & second.mask).any()
    assert first.text == "Upon examining the image. I have found: entry 0."  # without its quotes
    assert first.parts == (("the hand", "It has six fingers."),) and first.fake is True and not first.clean
    assert notes(first) == [] and notes(second) == ["same picture"]


@pytest.mark.parametrize("folder", ["test/annotations", "train/annotations", "test/annoations"])
def test_synthscars_annotations_lie_in_any_of_the_known_places(tmp_path: Path, folder: str) -> None:
    root = made.synthscars(tmp_path, [entry("7", "a.png", [ref(SQUARE)])], ["a.png"], folder)
    assert list(items(synthscars.load(root, "test"))) == ["7"]


def test_synthscars_degenerate_regions_go_and_their_entry_stays(tmp_path: Path) -> None:
    bad = [ref([1, 1, 5, 5]), ref(None), ref([1, 2, 3, 4, 5, 6, 7]), ref([100, 100, 110, 100, 110, 110]), "no object"]
    entries = [entry("0", "a.png", [ref(SQUARE), *bad]), entry("1", "a.png", bad), entry("2", "a.png", [])]
    dataset = synthscars.load(made.synthscars(tmp_path, entries, ["a.png"]))
    kept = item(dataset, "0")
    assert kept.mask is not None and kept.mask.sum() == 80 and len(kept.parts) == 1
    assert notes(kept) == ["region dropped"] * 5
    assert kinds(dataset) == {"1": "no usable region"}
    assert "no region" in notes(item(dataset, "2"))


def test_synthscars_empty_explanations_and_borders_are_noted(tmp_path: Path) -> None:
    hair = ref([30, 20, 40 + 1e-13, 20, 40 + 1e-13, 30 + 1e-13, 30, 30])
    far = ref([30, 20, 60, 20, 60, 25, 30, 25], explanation="")
    root = made.synthscars(tmp_path, [entry("0", "a.png", [hair]), entry("1", "b.png", [far])], ["a.png", "b.png"])
    dataset = synthscars.load(root)
    assert notes(item(dataset, "0")) == [] and notes(item(dataset, "1")) == ["beyond the border", "no explanation"]


def test_synthscars_broken_entries_are_faults_and_the_rest_goes_on(tmp_path: Path) -> None:
    entries = [
        entry("0", "gone.png", [ref(SQUARE)]), [1], {}, {"a": 1}, entry("1", "torn.png", [ref(SQUARE)]), entry("2", "a.png", [ref(SQUARE)]),
        entry("2", "b.png", [ref(SQUARE)]), entry("3", "tiny.png", [ref(SQUARE)]), {"4": {"img_file_name": "a.png"}},
    ]  # fmt: skip
    root = made.synthscars(tmp_path, entries, ["a.png", "b.png", "torn.png"])
    torn = root / "test" / "images" / "torn.png"
    torn.write_bytes(torn.read_bytes()[:200])
    made.jpeg(root / "test" / "images" / "tiny.png", size=(5, 30))
    dataset = synthscars.load(root)
    assert kinds(dataset) == {
        "entry 1": "form", "entry 2": "form", "entry 3": "form", "0": "missing image", "1": "unreadable image", "2": "duplicate id",
        "3": "unreadable image", "4": "form",
    }  # fmt: skip
    assert [id for id, one in items(dataset).items() if isinstance(one, Item)] == ["2"]


def test_synthscars_pictures_known_to_be_clean(tmp_path: Path) -> None:
    dataset = synthscars.load(made.synthscars(tmp_path, [entry("0", "a.png", [], real=True)], ["a.png"]))
    found = item(dataset, "0")
    assert found.clean and found.fake is False and notes(found) == []


def test_the_fingerprint_follows_the_annotations(tmp_path: Path) -> None:
    one = synthscars.load(made.synthscars(tmp_path / "a", [entry("0", "a.png", [ref(SQUARE)])]))
    same = synthscars.load(made.synthscars(tmp_path / "b", [entry("0", "a.png", [ref(SQUARE)])]))
    other = synthscars.load(made.synthscars(tmp_path / "c", [entry("0", "a.png", [ref(SQUARE[:6])])]))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_crc32c_is_the_published_one() -> None:
    assert tfrecord.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    assert tfrecord.crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_records_of_another_writer_are_read(tmp_path: Path) -> None:
    # One Example {filename: b"test/a.png", artifact_score: 0.25, n: [1, 300]}, written by the package tfrecord 1.14.6.
    path = tmp_path / "test.tfrecord"
    path.write_bytes(
        bytes.fromhex(
            "4800000000000000fe92489d0a460a1a0a0e61727469666163745f73636f7265120812060a040000803e0a0c0a016e12071a050a0301ac02"
            "0a1a0a0866696c656e616d65120e0a0c0a0a746573742f612e706e67df37edec"
        )
    )
    (slot,) = tfrecord.slots(path)
    payload = tfrecord.payload(path, slot)
    assert payload is not None and tfrecord.features(payload)["filename"] == b"test/a.png"


def test_richhf_maps_are_brought_to_the_picture(tmp_path: Path) -> None:
    whole = made.example({"filename": b"test/a.png", "artifact_score": 0.25, "artifact_map": made.heat_map((0, 0, 256, 512))})
    flat = made.example({"filename": b"test/b.png", "artifact_map": made.heat_map((0, 0, 0, 0))})
    dataset = richhf.load(made.richhf(tmp_path, [whole, flat], {"test/a.png": (40, 30), "b.png": (32, 32)}))
    found = item(dataset, "test/a.png")
    assert found.mask is not None and found.mask.shape == (30, 40)
    assert found.mask[:, :20].all() and not found.mask[:, 20:].any()  # 1 of 255 is above the threshold
    assert notes(found) == ["another shape"] and notes(item(dataset, "test/b.png")) == ["no region"]
    assert found.text == "" and found.fake is True


def test_richhf_broken_records_are_faults(tmp_path: Path) -> None:
    good = made.example({"filename": b"a.png", "artifact_map": made.heat_map((0, 0, 9, 9))})
    payloads = [
        good, made.example({"artifact_map": b"x"}), made.example({"filename": b"b.png", "artifact_map": b"no image"}),
        made.example({"filename": b"c.png"}), good, made.example({"filename": b"gone.png", "artifact_map": b""}), b"\xff\xff",
    ]  # fmt: skip
    root = made.richhf(tmp_path, payloads, dict.fromkeys(("a.png", "b.png", "c.png"), (20, 20)))
    dataset = richhf.load(root)
    assert kinds(dataset) == {
        "record 1": "form", "b.png": "broken heat map", "c.png": "broken heat map", "a.png": "duplicate id", "gone.png": "missing image",
        "record 6": "form",
    }  # fmt: skip
    data = bytearray((root / "test.tfrecord").read_bytes())
    data[12 + len(good) - 3] ^= 1  # within the first record's payload
    (root / "test.tfrecord").write_bytes(bytes(data))
    assert kinds(richhf.load(root))["a.png"] in ("damaged record", "duplicate id")
    assert isinstance(damaged := richhf.load(root).entries[0].read(), Fault) and damaged.kind == "damaged record"


def test_richhf_files_that_are_none(tmp_path: Path) -> None:
    root = made.richhf(tmp_path, [made.example({"filename": b"a.png"})], {})
    path = root / "test.tfrecord"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    with pytest.raises(InputError, match="cut short"):
        richhf.load(root)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(InputError, match="git lfs pull"):
        richhf.load(root)
    path.write_bytes(b"something else entirely")
    with pytest.raises(InputError, match="no TFRecord file"):
        richhf.load(root)
    with pytest.raises(InputError, match="Cannot read"):
        richhf.load(root, "dev")


def test_loki_boxes_and_texts(tmp_path: Path) -> None:
    problems = {
        "global": [{"desc": "Too  smooth."}],
        "regional": [
            {"region": [2, 3, 4, 5], "desc": "A sixth finger."}, {"region": [30, 20, 30, 30], "desc": "Melted."}, {"region": [1, 2, 3]},
        ],
    }  # fmt: skip
    entries = [
        {"id": 1, "image_path": "media/a.png", "problems": problems}, {"id": 2, "image_path": "media/gone.png", "problems": problems},
        {"id": 3}, {"id": 4, "image_path": "media/b.png", "problems": {"regional": [{"region": [99, 99, 1, 1]}]}},
        {"id": 5, "image_path": "media/a.png", "problems": problems}, {"id": 6, "image_path": "media/c.png"},
    ]  # fmt: skip
    dataset = loki.load(made.loki(tmp_path, entries, ["media/a.png", "media/b.png", "media/c.png"]))
    found = item(dataset, "media/a.png")
    assert found.mask is not None and found.mask.sum() == 5 * 6 + 10 * 10
    assert found.text == "Too smooth. A sixth finger. Melted." and found.parts == (("", "A sixth finger."), ("", "Melted."))
    assert notes(found) == ["beyond the border", "region dropped"]
    assert kinds(dataset) == {
        "entry 2": "form", "media/gone.png": "missing image", "media/b.png": "no usable region", "media/a.png": "duplicate id",
        "media/c.png": "form",
    }  # fmt: skip


def test_loki_needs_its_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"open_ended_vqa\.json"):
        loki.load(tmp_path)
    (tmp_path / "open_ended_vqa.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        loki.load(tmp_path)
    (tmp_path / "open_ended_vqa.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(InputError, match="holds a dict"):
        loki.load(tmp_path)


def test_universal_layouts(tmp_path: Path) -> None:
    root = made.universal(tmp_path, {
        "test/biggan/0_real": 2, "test/biggan/1_fake": 3, "test/progan/cat/0_real": 1, "test/progan/cat/1_fake": 1,
        "test/progan/dog/1_fake": 2, "diffusion_datasets/laion/0_real": 2, "diffusion_datasets/dalle/1_fake": 1,
        "diffusion_datasets/ldm_100/1_fake": 1, "diffusion_datasets/imagenet/0_real": 1, "own/0_real": 1,
    })  # fmt: skip
    (root / "test/biggan/1_fake/notes.txt").write_text("x")
    (root / "test/biggan/1_fake/.hidden").write_text("x")
    (root / "test/biggan/1_fake/2.png").write_bytes(b"no picture")
    dataset = fakedetect.load(root)
    read = {id: one for id, one in items(dataset).items() if isinstance(one, Item)}
    assert {(one.groups, one.fake) for id, one in read.items() if "progan" in id} == {(("progan",), True), (("progan",), False)}
    assert read["diffusion_datasets/laion/0_real/0.png"].groups == ("ldm_100", "dalle")  # shared, in the order of the paper's table
    assert read["diffusion_datasets/imagenet/0_real/0.png"].groups == ()  # guided is not there
    assert kinds(dataset) == {"test/biggan/1_fake/notes.txt": "form", "test/biggan/1_fake/2.png": "unreadable image"}
    assert [one.id for one in dataset.entries] == sorted(one.id for one in dataset.entries)
    assert any("No 1_fake pictures for own" in remark for remark in dataset.remarks)
    assert any("imagenet belong to no generator" in remark for remark in dataset.remarks)
    with pytest.raises(InputError, match="0_real or 1_fake"):
        fakedetect.load(tmp_path / "test" / "biggan" / "0_real")


def test_still_life_is_the_set_of_the_miniature_table() -> None:
    from refine.controllers.legion.evaluation import held_out  # brings torch, which no other test here needs

    dataset = stilllife.load(2)
    read = [one for one in items(dataset).values() if isinstance(one, Item)]
    for found, sample in zip(read, held_out(2), strict=True):
        assert np.array_equal(np.asarray(found.image), np.asarray(sample.image))
        assert found.clean == (not sample.regions) and found.fake == bool(sample.regions)
        assert found.mask is not None and np.array_equal(found.mask, union(sample.regions, (128, 128)))
    assert [one.id for one in stilllife.load(3).entries[:4]] == [one.id for one in dataset.entries]  # a larger set goes on


def test_what_does_not_go_together_is_told(tmp_path: Path) -> None:
    assert open_dataset("STILLLIFE", scenes=1).name == "stilllife"
    with pytest.raises(UnknownName, match="Did you mean 'SynthScars'"):
        open_dataset("SynthScar", tmp_path)
    with pytest.raises(InputError, match="--root"):
        open_dataset("LOKI")
    with pytest.raises(InputError, match="is not a folder"):
        open_dataset("LOKI", tmp_path / "gone")
    with pytest.raises(UnknownName, match="split of RichHF-18K"):
        open_dataset("richhf-18k", tmp_path, "tset")
    with pytest.raises(InputError, match="leave out --root"):
        open_dataset("stilllife", tmp_path)
    with pytest.raises(InputError, match="at least 1"):
        open_dataset("stilllife", scenes=0)
