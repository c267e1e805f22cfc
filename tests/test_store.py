"""The run folder: whole items or none, a ledger that survives crashes, and records that read back as they were."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from refine import images, jobs, record, store
from refine.errors import ConfigError, InputError, OutputError
from refine.jobs import Job
from refine.prompts import Prompt
from refine.types import Attempt, Candidate, Critique, Image, Inpaint, Mask, Record, Redraw, Region, Round, Verdict

SIZE = (40, 28)
CONFIG = {"batch": 2, "gate": {"fall": 0.3}}


def picture(seed: int) -> Image:
    return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8))


def square() -> Mask:
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[5:12, 20:40] = True
    return mask


def candidate(seed: int, regions: int) -> Candidate:
    found = tuple(Region(square(), f"phrase {index}", "why ünïcode", "physics", 0.75) for index in range(regions))
    return Candidate(
        picture(seed), "a prompt", seed, Critique(SIZE, found, "summary", 0.25), {"hps": 0.27, "ir": math.nan}, 0.6, (0, 1, 20, 28)
    )


def story(seed: int = 0) -> Record:
    first, better, worse = candidate(seed, 2), candidate(seed + 1, 0), candidate(seed + 2, 3)
    inpaint = Inpaint(first.critique.regions[0], "better", "bad", "cut off")
    verdicts = (Verdict(False, "new-fault", {"outside_after": 3.0, "x": math.inf}), Verdict(True, "better", {"drop:hps": -0.1}))
    attempts = (Attempt(inpaint, (worse, better), verdicts, 1, square(), "ab" * 32), Attempt(Redraw("anew"), (worse,), verdicts[:1], None))
    return Record("a prompt", seed, first, better, (Round(0, first.critique, attempts),), "clean", 90, 1.5)


def work(count: int = 2) -> list[Job]:
    return jobs.plan([Prompt(f"prompt {index}") for index in range(count)], [], 0)


@pytest.fixture
def run(tmp_path: Path) -> store.Run:
    return store.create(tmp_path / "run", CONFIG, ["painter"], work())


@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.booleans()))
def test_run_lengths_are_coco_s(mask: Mask) -> None:
    assert record.rle(mask)["counts"] == coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert np.array_equal(record.unrle(record.rle(mask)), mask)


@pytest.mark.parametrize("fill", [False, True])
def test_run_lengths_of_a_large_flat_mask(fill: bool) -> None:
    mask = np.full((700, 900), fill)
    assert np.array_equal(record.unrle(record.rle(mask)), mask)


def test_damaged_run_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="damaged"):
        record.unrle(record.rle(square()) | {"size": [3, 3]})


def test_a_record_reads_back_as_it_was(run: store.Run) -> None:
    before = story()
    line = store.save(run, work()[0], before)
    folder = store.item_folder(run.folder, line["key"])
    after = record.read_record(folder)
    assert record.dumps(record.to_json(after)) == record.dumps(record.to_json(before))
    assert np.array_equal(after.best.image, before.best.image)
    assert np.array_equal(after.rounds[0].attempts[0].candidates[0].image, before.rounds[0].attempts[0].candidates[0].image)
    assert math.isnan(after.first.scores["ir"])
    assert isinstance(after.rounds[0].attempts[1].action, Redraw)


def test_an_item_holds_every_file_that_the_record_names(run: store.Run) -> None:
    key = store.save(run, work()[0], story())["key"]
    folder = store.item_folder(run.folder, key)
    expected = {"record.json", "first.png", "final.png", "overlay-first.png", "overlay-final.png", "masks/first-0.png", "masks/first-1.png"}
    expected |= {"masks/r0-a0.png", "candidates/r0-a0-c0.png", "candidates/r0-a0-c1.png", "candidates/r0-a1-c0.png"}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")} == expected
    data = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert (data["key"], data["id"], data["config"]) == (key, "0000", CONFIG)
    assert data["first"]["scores"]["ir"] is None
    assert data["versions"]["refine"]


def test_the_mask_files_show_the_masks(run: store.Run) -> None:
    folder = store.item_folder(run.folder, store.save(run, work()[0], story())["key"])
    with PIL.Image.open(folder / "masks" / "first-0.png") as mask:
        assert np.array_equal(np.asarray(mask), square())


def test_alpha_of_the_input_is_put_back(run: store.Run, tmp_path: Path) -> None:
    image = picture(5)
    image.putalpha(PIL.Image.linear_gradient("L").resize(SIZE))
    image.save(tmp_path / "in.png")
    source = images.read(tmp_path / "in.png")
    job = jobs.plan([Prompt("x")], [tmp_path / "in.png"], 0)[0]
    folder = store.item_folder(run.folder, store.save(run, job, story(), source)["key"])
    with PIL.Image.open(folder / "final.png") as final:
        assert np.array_equal(final.getchannel("A"), image.getchannel("A"))
    assert json.loads((folder / "record.json").read_text())["source"]["name"] == "in.png"


def test_the_ledger_and_the_table_hold_one_line_per_image(run: store.Run) -> None:
    for job in reversed(work()):
        store.save(run, job, story(job.index))
    lines = store.ledger(run.folder)
    assert [line["index"] for line in lines] == [0, 1]
    assert (lines[0]["accepted"], lines[0]["rejected"]) == (1, 1)
    rows = store.write_scores(run.folder).read_text().splitlines()
    assert rows[0].startswith("key,id,prompt,seed,hps_first,hps_final")
    assert len(rows) == 3


def test_a_line_cut_short_by_a_crash_does_not_count(run: store.Run) -> None:
    line = store.save(run, work()[0], story())
    with (run.folder / store.LEDGER).open("a") as file:
        file.write('{"key": "half')
    assert [one["key"] for one in store.ledger(run.folder)] == [line["key"]]
    store.save(run, work()[1], story())
    assert len(store.ledger(run.folder)) == 2


def test_an_item_without_its_line_is_written_again(run: store.Run) -> None:
    folder = store.item_folder(run.folder, jobs.key(work()[0], CONFIG))
    folder.mkdir()
    (folder / "rubbish").write_text("left by a crash")
    store.save(run, work()[0], story())
    assert not (folder / "rubbish").exists()
    assert record.read_json(folder)["format"] == record.FORMAT


@pytest.fixture
def tiny_files() -> Iterator[None]:
    """No file of this process may grow beyond 2 kB: what a full disk does to a write."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


def test_a_full_disk_loses_nothing(run: store.Run, request: pytest.FixtureRequest) -> None:
    store.save(run, work()[0], story())
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    request.getfixturevalue("tiny_files")
    with pytest.raises(OutputError, match=r"Cannot write to .*is safe.*--resume") as raised:
        store.save(run, work()[1], story(7))
    assert raised.value.exit_code == 3
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_folder_that_exists_is_not_overwritten(run: store.Run) -> None:
    (run.folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"exists already.*--resume"):
        store.create(run.folder, CONFIG, [], work())


def test_the_way_to_go_on_can_be_pasted_into_a_shell(run: store.Run) -> None:
    named = run.folder.rename(run.folder.with_name("my red 'cubes'"))
    (named / "notes.txt").write_text("mine")
    with pytest.raises(OutputError) as raised:
        store.create(named, CONFIG, [], work())
    told = str(raised.value).partition("go on with it: ")[2].rstrip(".")
    assert shlex.split(told) == ["--out", str(named), "--resume"]


def test_a_run_that_never_finished_an_image_is_started_anew(run: store.Run) -> None:
    (run.folder / store.ITEMS / ".half.1").mkdir()
    assert store.create(run.folder, CONFIG | {"batch": 9}, [], work()).config["batch"] == 9
    store.save(run, work()[0], story())
    with pytest.raises(OutputError, match="exists already"):
        store.create(run.folder, CONFIG, [], work())


def test_an_empty_folder_is_used_and_a_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    store.create(tmp_path / "empty", CONFIG, [], work())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="exists already"):
        store.create(tmp_path / "file", CONFIG, [], work())
    with pytest.raises(OutputError, match="Cannot write"):
        store.create(tmp_path / "file" / "run", CONFIG, [], work())


def test_a_run_is_reopened_as_it_was_made(run: store.Run) -> None:
    again, jobs_again = store.reopen(run.folder)
    assert (again, jobs_again) == (run, work())


@pytest.mark.parametrize("value", [math.nan, math.inf, np.float32("nan"), np.float32(0.5), np.float64(0.5)])
def test_whatever_number_a_controller_says_can_be_written(value: float, run: store.Run) -> None:
    told = Critique(SIZE, (Region(square(), "a fault", score=value),), "summary", value, value)
    first = replace(candidate(0, 0), critique=told)
    line = store.save(run, work()[0], Record("a prompt", 0, first, first, (), "clean"))
    again = record.read_record(store.item_folder(run.folder, line["key"])).first.critique
    read = again.regions[0].score, again.doubt, again.fake_probability
    assert np.array_equal(read[:2], [value, value] if np.isfinite(value) else [math.nan] * 2, equal_nan=True)
    assert read[2] == (value if np.isfinite(value) else None)


def test_failures_of_several_processes_end_in_one_file(run: store.Run) -> None:
    for rank, job in enumerate(work()):
        store.fail(replace(run, rank=rank), job, ValueError(f"of {rank}"))
    before = store.failed(run.folder)
    store.fold(run.folder)
    assert store.failed(run.folder) == before and len(before) == 2
    assert [path.name for path in run.folder.glob("failures*")] == [store.FAILURES]


@pytest.mark.parametrize("odd", ["\u2028", "\u2029", "\x85", "\x0c", "\r\n"])  # a line ends there for str.splitlines
def test_a_name_with_a_line_separator_is_one_line(odd: str, tmp_path: Path) -> None:
    job = replace(work(1)[0], id=f"a{odd}b")
    made = store.create(tmp_path / "run", CONFIG, [], [job])
    store.save(made, job, story())
    store.fail(made, replace(job, seed=9), ValueError(f"no{odd}good"))
    assert store.reopen(made.folder)[1] == [job]
    assert [line["id"] for line in store.ledger(made.folder)] == [job.id]
    assert store.failed(made.folder)[0]["error"] == f"ValueError: no{odd}good"


def test_another_configuration_is_refused_with_the_difference(run: store.Run) -> None:
    store.must_match(run, CONFIG)
    with pytest.raises(ConfigError, match=r"gate\.fall: 0\.3 → 0\.5"):
        store.must_match(run, CONFIG | {"gate": {"fall": 0.5}})


@pytest.mark.parametrize("text", ["", "a: [", "config: {}"])
def test_a_folder_that_is_no_run(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(InputError, match="is not the folder of a run"):
        store.reopen(tmp_path)


def test_a_record_of_another_format_or_none_is_refused(run: store.Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Cannot read"):
        record.read_json(tmp_path)
    (tmp_path / "record.json").write_text('{"format": 99}')
    with pytest.raises(InputError, match="format 99"):
        record.read_json(tmp_path)


def test_a_record_without_repairs(run: store.Run) -> None:
    quiet = replace(story(), rounds=(), best=story().first)
    line = store.save(run, work()[0], quiet)
    assert (line["rounds"], line["accepted"], line["rejected"]) == (0, 0, 0)
