"""``refine eval controller`` end to end: what is written and said, and what happens when it is stopped or something is wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from refine import cli, durable, embedded, evaluation
from refine.evals.controller import Row
from refine.evals.datasets import stilllife
from refine.evals.datasets.items import Item
from refine.stilllife.damage import Sample, damage
from refine.stilllife.dataset import write_synthscars
from refine.stilllife.oracle import SIZE, Oracle, scene_of
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Critique, Image
from tests import evaluation_sets as made
from tests.evaluation_sets import SQUARE, entry, ref

HERE = __name__
STOP_AFTER: list[int] = []
LOOKED: list[int] = []


class Interrupted:
    """The oracle, until Ctrl-C comes: in the call whose number ``STOP_AFTER`` counts down to. ``LOOKED``: pictures per call."""

    def __init__(self) -> None:
        self._oracle = Oracle()

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        LOOKED.append(len(images))
        if STOP_AFTER:
            STOP_AFTER[0] -= 1
            if STOP_AFTER[0] < 0:
                raise KeyboardInterrupt
        return self._oracle.inspect(images)


class Brightness:
    """A detector: the brighter, the more generated."""

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [Critique(image.size, fake_probability=float(np.asarray(image).mean() / 255)) for image in images]


class Forgetful:
    """Answers for the first picture only."""

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [Critique(images[0].size)]


class Small:
    """Has memory for one picture."""

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        if len(images) > 1:
            raise MemoryError
        return [Critique(image.size) for image in images]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    STOP_AFTER.clear()
    LOOKED.clear()
    return tmp_path


@pytest.fixture
def scars(elsewhere: Path) -> Path:
    """Six damaged still lifes in SynthScars' layout, whose clean pictures the oracle knows."""
    samples = []
    for seed in range(6):
        scene = scene_of(DEFAULT_PROMPTS[seed % 4])
        one = damage(scene, np.random.default_rng(seed), size=SIZE)
        samples.append(Sample(one.image, one.clean, scene, one.caption, (one.region,)))
    write_synthscars(elsewhere / "scars", "test", samples)
    return elsewhere / "scars"


def evaluate(*arguments: str | Path, preset: str = "painter") -> int:
    return cli.main(["eval", "controller", *map(str, arguments), *(["--preset", preset] if preset else [])])


def rows(folder: str) -> list[dict[str, str]]:
    with (Path(folder) / "images.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def break_some(root: Path) -> None:
    """Three of the six entries: no picture, no polygon, the same id again."""
    path = root / "test" / "annotations" / "test.json"
    entries = json.loads(path.read_text())
    (root / "test" / "images" / "000000.png").unlink()
    entries[1]["1"]["refs"][0]["segmentation"] = [[1, 1, 2, 2]]
    entries[2] = {"3": entries[2]["2"]}
    path.write_text(json.dumps(entries))


def test_a_full_memory_is_told_with_a_way_on_that_works(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--dataset", "stilllife", "--n", "2", "--set", f"controller={HERE}:Small", "--out", "small"]
    assert evaluate(*asked, preset="") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "Out of memory with 8 images" in said and "--out small --resume --set batch=1" in said and "generator." not in said
    assert evaluate(*asked, "--resume", "--set", "batch=1", preset="") == 0
    assert len(rows("small")) == 4


def test_oracle_and_blind_are_ceiling_and_floor(scars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "top") == 0
    said = capsys.readouterr()
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "floor", preset="blind") == 0
    top, floor = ([float(row["F1"]) for row in rows(name)] for name in ("top", "floor"))
    assert len(top) == 6 and np.mean(top) > 0.7 and set(floor) == {0.0}
    table = Path("top/table.md").read_text(encoding="utf-8")
    assert table in said.out and "pictures: 6 of 6" in said.err
    assert "6 listed, 6 measured, 0 left out" in table
    for line in (
        "finds nothing (floor)",
        "marks everything (floor)",
        "| LEGION |  | 58.13 | 34.54 |",
        "mean of the paper's four categories",
    ):
        assert line in table
    measured = next(line for line in table.splitlines() if line.startswith("| **measured here** | 6 |"))
    assert f"{100 * np.mean(top):.2f} [" in measured


def test_what_is_left_out_is_counted(scars: Path) -> None:
    break_some(scars)
    assert evaluate("--dataset", "synthscars", "--root", scars, "--out", "out") == 0
    table = Path("out/table.md").read_text(encoding="utf-8")
    assert "6 listed, 3 measured, 3 left out" in table
    for kind, id in (("missing image", "0"), ("no usable region", "1"), ("duplicate id", "3")):
        line = next(line for line in table.splitlines() if line.startswith(f"| left out: {kind} | 1 |"))
        assert line.endswith(f"| {id} |")
    assert [row["id"] for row in rows("out") if not row["left out"]] == ["3", "4", "5"]
    assert sorted(row["left out"].partition(":")[0] for row in rows("out") if row["left out"]) == [
        "duplicate id", "missing image", "no usable region",
    ]  # fmt: skip


def test_an_interrupted_evaluation_goes_on_to_the_same_table(scars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--set", f"controller={HERE}:Interrupted", "--set", "batch=2", "--perturb", "jpeg:50", "--perturb", "noise:0.1"]
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "whole", *options) == 0
    STOP_AFTER[:] = [4]
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "cut", *options) == cli.INTERRUPTED
    assert "Go on with: refine eval controller --out cut --resume" in capsys.readouterr().err
    lines = Path("cut/images.jsonl").read_text().splitlines()
    assert len(lines) == 8 and not Path("cut/table.md").exists()
    Path("cut/images.jsonl").write_text("\n".join(lines) + '\n{"id": "5", "conditi')  # what a crash may leave
    STOP_AFTER.clear()
    LOOKED.clear()
    assert evaluate("--out", "cut", "--resume", preset="") == 0
    assert sum(LOOKED) == 18 - 8
    for name in ("table.md", "images.csv"):
        assert Path("cut", name).read_bytes() == Path("whole", name).read_bytes()
    table = Path("cut/table.md").read_text(encoding="utf-8")
    assert "## Robustness" in table and "| 57.78 / 33.97 | 55.95 / 28.85 |" in table  # table 10, jpeg:50
    assert evaluate("--out", "cut", "--resume", preset="") == 0
    assert sum(LOOKED) == 18 - 8


def test_another_controller_or_set_is_refused_with_the_difference(scars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "out", "--limit", "2") == 0
    assert evaluate("--out", "out", "--resume", preset="blind") == 2
    assert "controller.use: oracle → blind" in capsys.readouterr().err
    path = scars / "test" / "annotations" / "test.json"
    path.write_text(path.read_text() + " ")
    assert evaluate("--out", "out", "--resume", preset="") == 2
    assert "annotations: " in capsys.readouterr().err
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "out") == 3
    assert "--out out --resume" in capsys.readouterr().err


def test_a_resumed_evaluation_may_take_more_and_tries_what_was_missing(scars: Path) -> None:
    image = scars / "test" / "images" / "000001.png"
    kept = image.read_bytes()
    image.unlink()
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--out", "out", "--limit", "3") == 0
    first = Path("out/table.md").read_text()
    assert "6 listed, the first 3 asked for, 2 measured, 1 left out" in first and "Only 2 of 6 entries" in first
    image.write_bytes(kept)
    assert evaluate("--out", "out", "--resume", "--limit", "5", preset="") == 0
    assert "6 listed, the first 5 asked for, 5 measured, 0 left out" in Path("out/table.md").read_text()
    assert [row["id"] for row in rows("out")] == ["0", "1", "2", "3", "4"]


def test_published_rows_of_another_split_say_so(scars: Path) -> None:
    (scars / "test").rename(scars / "train")
    (scars / "train/annotations/test.json").rename(scars / "train/annotations/train.json")
    assert evaluate("--dataset", "SynthScars", "--root", scars, "--split", "train", "--out", "out") == 0
    table = Path("out/table.md").read_text(encoding="utf-8")
    copied = [line for line in table.splitlines() if "2503.15264, table" in line and line.startswith("|")]
    assert copied and all("| another split" in line for line in copied)
    assert "not of this split" in table


def test_still_life_needs_no_download(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--dataset", "stilllife", "--n", "3", preset="blind") == 0
    (folder,) = Path("runs/eval").iterdir()
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert "6 listed, 6 measured" in table and "| clean called clean | 3 | 100.00" in table and "| faulty called faulty | 3 | 0.00" in table
    assert "gave no probability for 6 of 6 pictures" in table and "needs a sentence encoder" in table
    assert str(folder) in capsys.readouterr().out


def test_detection_per_generator(elsewhere: Path) -> None:
    root = made.universal(elsewhere / "ufd", {"biggan/0_real": 3, "biggan/1_fake": 2, "laion/0_real": 2, "dalle/1_fake": 2})
    for path in root.rglob("*.png"):
        made.PIL.Image.new("RGB", made.SIZE, (200, 200, 200) if "fake" in path.parent.name else (50, 50, 50)).save(path)
    made.PIL.Image.new("RGB", made.SIZE, (60, 60, 60)).save(root / "dalle/1_fake/0.png")  # missed, but above every real picture
    assert evaluate("--dataset", "UniversalFakeDetect", "--root", root, "--out", "out", "--set", f"controller={HERE}:Brightness") == 0
    table = Path("out/table.md").read_text(encoding="utf-8")
    assert "| biggan | 5 | 100.00 [" in table and "| dalle | 4 | 75.00 [" in table
    line = next(line for line in table.splitlines() if line.startswith("| dalle"))
    assert "| 100.00 | 50.00 | 100.00 [" in line
    assert "| mean over generators |  | 87.50 [" in table
    measured = next(line for line in table.splitlines() if line.startswith("| **measured here** |"))
    assert measured.count("–") == 7  # none of the paper's groups is complete
    assert "| LEGION | 97.01 |" in table and "## Localisation" not in table


def test_nothing_usable_is_an_error(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = made.synthscars(elsewhere / "scars", [entry("0", "gone.png", [ref(SQUARE)]), [1]])
    assert evaluate("--dataset", "SynthScars", "--root", root, "--out", "out") == 2
    said = capsys.readouterr().err
    assert "2 entries were left out" in said and "gone.png" in said


def test_mistakes_are_told_before_anything_is_written(scars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        ([], "--dataset stilllife"),
        (["--dataset", "stillife"], "Did you mean 'stilllife'"),
        (["--dataset", "SynthScars"], "--root"),
        (["--dataset", "SynthScars", "--root", str(scars), "--split", "train"], "No annotations of split 'train'"),
        (["--dataset", "stilllife", "--perturb", "jpeg:200"], "1 to 95"),
        (["--dataset", "stilllife", "--limit", "0"], "at least 1"),
        (["--resume"], "--out DIR --resume"),
        (["--out", str(scars), "--resume"], "is not the folder of an evaluation"),
    ):
        assert evaluate(*arguments) == 2
        assert expected in capsys.readouterr().err
    assert not Path("runs").exists()
    assert evaluate("--dataset", "stilllife", "--n", "1", "--set", f"controller={HERE}:Forgetful") == 1
    assert "1 critiques for 2 pictures" in capsys.readouterr().err


def test_lines_that_were_cut_short_are_closed_first(elsewhere: Path) -> None:
    path = elsewhere / "lines.jsonl"
    durable.append(path, ["a", "b"])
    path.write_bytes(path.read_bytes() + b"torn")
    durable.append(path, ["c"])
    assert path.read_text().splitlines() == ["a", "b", "torn", "c"]
    durable.replace(path, "new\n")
    assert path.read_text() == "new\n" and [one.name for one in elsewhere.iterdir()] == ["lines.jsonl"]


def test_an_answer_with_a_line_separator_is_not_lost(elsewhere: Path) -> None:
    numbers = {"width": 4, "height": 4, "regions": 0, "predicted": 0, "both": None, "true": None, "clean": True, "fake": None}
    row = Row("a", "none", **numbers, fake_probability=None, answer="two\u2028lines\x85", reference="", rouge_l=None, rouge_l_faults=None)  # type: ignore[arg-type]
    durable.append(elsewhere / evaluation.LINES, [json.dumps(row.to_json(), ensure_ascii=False)])
    assert evaluation.ledger(elsewhere).rows == {("none", "a"): row}


def test_the_miniature_legion_measures_as_in_its_own_table() -> None:
    from refine.controllers.legion.controller import LegionController
    from refine.controllers.legion.evaluation import held_out, measures

    samples = list(held_out(3))
    controller = LegionController.from_pretrained(embedded.locate("mini:legion"), max_new_tokens=160)
    items = [one for item in stilllife.load(3).entries if isinstance(one := item.read(), Item)]
    found = evaluation.look(items, None, controller, None)
    own = measures(samples, controller.inspect([sample.image for sample in samples]))
    faulty = [one for row in found if not row.clean and (one := row.overlap)]
    assert np.mean([one.f1 for one in faulty]) == pytest.approx(own["foreground F1"])
    assert np.mean([one.miou for one in faulty]) == pytest.approx(own["mIoU"])
    assert np.mean([row.regions == 0 for row in found if row.clean]) == own["clean called clean"]
    assert all(row.fake_probability is not None and row.answer.startswith("Upon examining") for row in found)
