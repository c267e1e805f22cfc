"""A batch that fails is done one by one; what fails alone is named, and the others are whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from refine import cli, loop, store
from refine.errors import CheckpointError, InputError
from refine.isolation import Failure, isolated
from refine.stilllife.prompts import DEFAULT_PROMPTS
from refine.types import Record
from tests.test_loop import models, story


def test_one_bad_image_does_not_cost_the_others() -> None:
    party = models()
    party.generator.fails = frozenset({5})  # type: ignore[attr-defined]
    seeds = [3, 5, 1]

    def refine(part: Sequence[int]) -> list[Record]:
        return loop.run(["x"] * len(part), part, models=party)

    first, failure, last = isolated(seeds, refine)
    assert isinstance(failure, Failure) and str(failure) == "RuntimeError: seeds [5] give no image"
    for outcome, seed in ((first, 3), (last, 1)):
        assert isinstance(outcome, Record)
        assert story(outcome) == story(loop.run(["x"], [seed], models=models())[0])


def test_a_batch_without_a_fault_is_done_once() -> None:
    calls: list[list[int]] = []

    def work(part: Sequence[int]) -> list[int]:
        calls.append(list(part))
        return [2 * one for one in part]

    assert isolated([1, 2, 3], work) == [2, 4, 6] and calls == [[1, 2, 3]]


@pytest.mark.parametrize(("error", "shared"), [(MemoryError(), True), (CheckpointError("x"), True), (InputError("x"), False)])
def test_what_every_image_would_suffer_from_is_raised(error: Exception, shared: bool) -> None:
    def work(part: Sequence[int]) -> list[int]:
        if 2 in part:
            raise error
        return list(part)

    if shared:
        with pytest.raises(type(error)):
            isolated([1, 2, 3], work)
    else:
        outcomes = isolated([1, 2, 3], work)
        assert isinstance(outcomes[1], Failure) and outcomes[1].error is error
        assert outcomes[::2] == [1, 3]


def run(folder: Path, *more: str) -> int:
    return cli.main(["run", *more, "--out", str(folder)])


def test_a_run_with_one_bad_prompt_finishes_the_others_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run(folder, DEFAULT_PROMPTS[0], "a cat", DEFAULT_PROMPTS[1], "--preset", "painter") == 1
    assert "1 image failed:\n  - 0001: InputError: 'a cat' is no still life caption" in capsys.readouterr().err
    ledger = (folder / store.LEDGER).read_bytes()
    assert [line["id"] for line in store.ledger(folder)] == ["0000", "0002"]
    assert all((store.item_folder(folder, line["key"]) / "record.json").exists() for line in store.ledger(folder))
    [failure] = store.failed(folder)
    assert failure["id"] == "0001" and "Traceback" in failure["trace"]
    assert run(folder, "--resume") == 1
    assert (folder / store.LEDGER).read_bytes() == ledger and len(store.failed(folder)) == 1


def test_where_nothing_works_the_error_itself_is_raised(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "run", "a cat", "a dog", "--preset", "painter") == 2
    assert "failed" not in capsys.readouterr().err
