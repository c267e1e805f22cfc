"""``refine compare``: the same images of several runs, side by side."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from refine import cli, store
from refine.report import pairing
from refine.report.pairing import AREA, COST, Side
from refine.stilllife.prompts import DEFAULT_PROMPTS
from tests.html_pages import Page


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")


def paint(out: str, *arguments: str) -> None:
    assert cli.main(["run", *arguments, "--preset", "painter", "--out", out]) == 0


def test_shared_images_stand_in_one_row_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", *DEFAULT_PROMPTS[:2], "--seed", "2")
    paint("b", DEFAULT_PROMPTS[0], "--seed", "2", "--set", "budget.rounds=0")
    capsys.readouterr()
    assert cli.main(["compare", "a", "b"]) == 0
    said = capsys.readouterr().out
    (repaired, _), (left,) = (store.ledger(Path(run)) for run in "ab")
    areas = [line["final"]["area"] for line in (repaired, left)]
    assert areas[0] == 0 < areas[1]
    assert f"0 % | {100 * areas[1]:.1f} % (+{100 * areas[1]:.1f} pp)" in said
    assert "1 image of 2 runs" in said and "1 image of a not in every run" in said
    assert "0 better, 1 worse, 0 equal" in said, "area"
    assert "page: compare.html" in said
    page = Page(Path("compare.html").read_text(encoding="utf-8"))
    assert "1 image of a not in every run" in page.words and DEFAULT_PROMPTS[1] in page.words
    assert "before, in every run" in page.words, "equal seeds, equal generator, equal start"
    assert "budget.rounds" in page.words, "how the configurations differ"


def test_the_page_s_filter_finds_what_it_counts_and_programs_the_ledgers() -> None:
    paint("a", *DEFAULT_PROMPTS)
    paint("b", *DEFAULT_PROMPTS, "--set", "budget.rounds=0")
    assert cli.main(["compare", "a", "b", "--out", "pages/ab.html"]) == 0
    text = Path("pages/ab.html").read_text(encoding="utf-8")
    options = {value: int(number) for value, number in re.findall(r'<option value="([^"]+)">[^<]*\((\d+)\)', text)}
    marks = [str(one["data-outcome"]).split("\n") for tag, one in Page(text).tags if "case" in str(one.get("class")).split()]
    assert len(marks) == 4
    assert options == {value: sum(value in mark for mark in marks) for value in options}
    assert options[f"1:{AREA}:worse"] == 4 and options[f"1:{COST}:better"] == 4
    data = json.loads(text.partition('type="application/json" id="data">')[2].partition("</script>")[0])
    assert data["runs"] == ["a", "b"]
    assert [list(pair) for pair in zip(*map(store.ledger, (Path("a"), Path("b"))), strict=True)] == data["cases"]


def test_a_large_comparison_links_pictures_beside_the_page() -> None:
    runs = [f"run {number}" for number in range(12)]
    paint(runs[0], *DEFAULT_PROMPTS)
    for run in runs[1:]:
        shutil.copytree(runs[0], run)
    assert cli.main(["compare", *runs, "--out", "pages/all.html"]) == 0
    tags = Page(Path("pages/all.html").read_text(encoding="utf-8")).tags
    pictures = [str(one["src"]) for tag, one in tags if tag == "img"]
    assert len(pictures) == 4 * (1 + len(runs))
    assert all((Path("pages") / src.replace("%20", " ")).is_file() and src.startswith("../run%20") for src in pictures)
    assert all(one["loading"] == "lazy" and one["alt"] for tag, one in tags if tag == "img")


def test_only_a_page_of_ours_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", DEFAULT_PROMPTS[0])
    paint("b", DEFAULT_PROMPTS[0], "--set", "budget.rounds=0")
    Path("compare.html").write_text("my own notes", encoding="utf-8")
    assert cli.main(["compare", "a", "b"]) == 3
    assert "compare.html exists and is not a page of refine" in capsys.readouterr().err
    assert Path("compare.html").read_text(encoding="utf-8") == "my own notes"
    assert [cli.main(["compare", "a", "b", "--out", "other.html"]) for _ in range(2)] == [0, 0]


def test_a_missing_picture_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", DEFAULT_PROMPTS[0])
    shutil.copytree("a", "b")
    next(Path("b").glob("items/*/final.png")).unlink()
    assert cli.main(["compare", "a", "b"]) == 2
    assert "final.png" in (said := capsys.readouterr().err) and "not whole" in said
    assert not Path("compare.html").exists() and not Path(".compare.html").exists()


def side(name: str, numbers: dict[str, list[float | None]]) -> Side:
    """A run of images whose rewards are given; area and cost are always 0."""
    count = len(next(iter(numbers.values())))
    ends = [{"area": 0.0, "scores": {reward: values[index] for reward, values in numbers.items()}} for index in range(count)]
    return Side(name, Path(name), {}, {("p", index, None): {"final": end, "evaluations": 0} for index, end in enumerate(ends)})


def test_changes_are_paired_and_leave_out_what_is_missing() -> None:
    a, b = side("a", {"hps": [1.0, 2.0, None, 4.0]}), side("b", {"hps": [1.5, None, 9.0, 4.0]})
    cases = pairing.shared([a, b])
    change = pairing.change(a, b, cases, "hps")
    assert (change.mean, change.better, change.worse, change.equal) == (0.25, 1, 0, 1)
    assert pairing.change(a, b, cases, "other").mean is None
    assert pairing.told("other", pairing.change(a, b, cases, "other")) == "not in both runs"


def test_less_area_and_cost_and_more_reward_are_gains() -> None:
    assert [pairing.gain(name, 1.0, 3.0) for name in (AREA, COST, "hps")] == [-2.0, -2.0, 2.0]
    assert pairing.gain("hps", None, 1.0) is None
    assert [pairing.difference(name, -0.25) for name in (AREA, "hps")] == ["−25.0 pp", "−0.2500"]
    assert [pairing.difference(AREA, value) for value in (0.0, 0.0004, -0.00003)] == ["+0.0 pp", "+0.04 pp", "−0.003 pp"]
    assert [pairing.difference(COST, value) for value in (-0.25, 12.4, 0.0)] == ["−0.2", "+12", "+0"]


def test_images_given_are_told_apart_by_their_bytes() -> None:
    """Two files with one name, prompt and seed are two cases."""
    paint("drawn", *DEFAULT_PROMPTS[:2])
    for number, folder in enumerate(sorted(Path("drawn/items").iterdir())):
        Path(f"in{number}").mkdir()
        (folder / "first.png").rename(f"in{number}/photo.png")
        paint(f"out{number}", DEFAULT_PROMPTS[0], "--images", f"in{number}")
    assert not pairing.shared(pairing.sides([Path("out0"), Path("out1")]))


@pytest.mark.parametrize(("runs", "message"), [(["a"], "two or more"), (["a", "a"], "different"), (["a", "nothing"], "nothing")])
def test_what_cannot_be_compared_is_said(runs: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", DEFAULT_PROMPTS[0])
    assert cli.main(["compare", *runs]) != 0
    assert message in capsys.readouterr().err


def test_runs_without_a_shared_image(capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", DEFAULT_PROMPTS[0])
    paint("b", DEFAULT_PROMPTS[1])
    assert cli.main(["compare", "a", "b"]) == 2
    said = capsys.readouterr().err
    assert "share no image" in said
    assert f"b: '{DEFAULT_PROMPTS[1]}', seed 0" in said
