"""``refine compare``: the same images of several runs, side by side."""

from __future__ import annotations

from pathlib import Path

import pytest

from refine import cli, store
from refine.commands import compare
from refine.stilllife.prompts import DEFAULT_PROMPTS


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def paint(out: str, *arguments: str) -> None:
    assert cli.main(["run", *arguments, "--preset", "painter", "--out", out]) == 0


def test_shared_images_stand_in_one_row_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", *DEFAULT_PROMPTS[:2])
    paint("b", DEFAULT_PROMPTS[0], "--set", "budget.rounds=0")
    capsys.readouterr()
    assert cli.main(["compare", "a", "b"]) == 0
    said = capsys.readouterr().out
    lines = [store.ledger(Path(run))[0] for run in "ab"]
    assert " | ".join(f"{line['final']['area']:.2%}" for line in lines) in said
    assert "1 images of 2 runs" in said and "1 images of a are not in every run" in said


def test_means_leave_out_what_is_missing() -> None:
    assert compare.mean([1.0, None, 2.0]) == 1.5
    assert compare.mean([None]) is None
    assert compare.shown("hps", [0.25, None]) == "0.25 | –"


@pytest.mark.parametrize(("runs", "message"), [(["a"], "two or more"), (["a", "a"], "different"), (["a", "nothing"], "nothing")])
def test_what_cannot_be_compared_is_said(runs: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", DEFAULT_PROMPTS[0])
    assert cli.main(["compare", *runs]) != 0
    assert message in capsys.readouterr().err


def test_runs_without_a_shared_image(capsys: pytest.CaptureFixture[str]) -> None:
    paint("a", DEFAULT_PROMPTS[0])
    paint("b", DEFAULT_PROMPTS[1])
    assert cli.main(["compare", "a", "b"]) == 2
    assert "share no image" in capsys.readouterr().err
