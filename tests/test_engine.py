"""The engine: batches of the loop, and a loop that can be interrupted between rounds."""

from __future__ import annotations

from collections.abc import Sequence

from refine.engine import Engine, batches
from refine.policy import Budget, Policy
from refine.types import Candidate
from tests.test_loop import models, story

PROMPTS, SEEDS = ["x"] * 3, [3, 2, 1]


def engine(rounds: int = 3) -> Engine:
    return Engine(models(clumsy=3), Policy(crop_least=24, patience=9), budget=Budget(rounds=rounds))


def test_batches_are_consecutive_and_whole() -> None:
    assert list(batches([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(batches([], 2)) == []


def test_an_interrupted_loop_gives_what_it_has_and_says_so() -> None:
    seen: list[tuple[int, int]] = []

    def after(turn: int, best: Sequence[Candidate]) -> bool:
        seen.append((turn, len(best)))
        return False

    cut = engine().refine(PROMPTS, SEEDS, after_round=after)
    assert seen == [(0, 3)]
    one_round = engine(1).refine(PROMPTS, SEEDS)
    assert any(record.stop_reason == "rounds" for record in one_round)
    assert [record.stop_reason for record in cut] == [record.stop_reason.replace("rounds", "interrupted") for record in one_round]
    assert [story(record)[1:] for record in cut] == [story(record)[1:] for record in one_round]


def test_every_round_is_told_once_while_something_is_open() -> None:
    turns: list[int] = []
    records = engine().refine(PROMPTS, SEEDS, after_round=lambda turn, _: not turns.append(turn))
    assert turns == list(range(max(len(record.rounds) for record in records)))
