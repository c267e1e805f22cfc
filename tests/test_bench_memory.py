"""What arms share is computed once, changes no number, and costs every arm what it would have cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import PIL.Image
import pytest

from refine.bench import memory, work
from refine.bench.folder import Plan
from refine.bench.memory import Memory
from refine.commands import bench as command
from refine.engine import Engine
from refine.stilllife.oracle import Painter
from refine.types import Image, InpaintJob


class Counted:
    """The painter, and how many pictures it was asked for."""

    native_size, grid = Painter.native_size, Painter.grid

    def __init__(self) -> None:
        self._painter = Painter()
        self.pictures = 0

    def fits(self, prompt: str) -> tuple[str, str]:
        return self._painter.fits(prompt)

    def cost(self, strength: float | None = None) -> int:
        return self._painter.cost(strength)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        self.pictures += len(prompts)
        return self._painter.draw(prompts, seeds, negative_prompts)

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        self.pictures += len(jobs)
        return self._painter.inpaint(jobs)


@pytest.fixture(scope="module")
def plan() -> Plan:
    asked = {**command.DEFAULTS, "preset": ["painter"], "n": 2, "arm": ["ours", "no-gate"]}
    return command.plan_of({**asked, "set": ["generator=test_bench_memory:Counted"]})


def table(plan: Plan, shared: bool) -> tuple[list[Any], int]:
    """The ledger's lines of every arm, without seconds, and how many pictures were painted."""
    load, ruler = command.workshop(plan)
    kept = Memory()
    lines = []
    painter = None
    for name, group in list(plan.sets.items())[:2]:
        for arm in plan.arms_of(name):
            engine: Engine = load(arm, [sample.prompt for sample in group])
            painter = engine.models.generator
            found = work.refine(engine, group, work.tables(plan)[name], ruler, kept if shared else Memory())
            lines += [(arm.name, name, {**line, "seconds": None}, image and image.tobytes()) for line, image in found]
    assert isinstance(painter, Counted)
    return lines, painter.pictures


def test_a_table_from_memory_is_the_table(plan: Plan) -> None:
    alone, every = table(plan, shared=False)
    together, fewer = table(plan, shared=True)
    assert together == alone
    assert fewer < every, "arms begin alike"


def test_an_answer_from_memory_takes_its_time() -> None:
    kept = Memory()
    began = kept.now()
    kept.recall(b"slow", lambda: time.sleep(0.05) or [1])
    first = kept.now() - began
    assert kept.recall(b"slow", lambda: pytest.fail("an equal call is made once")) == [1]
    assert kept.now() - began >= 2 * first - 0.01
    kept.forget()
    assert kept.recall(b"slow", lambda: [2]) == [2]


def test_calls_differ_by_everything_that_goes_in() -> None:
    wide, high = PIL.Image.new("RGB", (24, 16)), PIL.Image.new("RGB", (16, 24))
    grey = PIL.Image.new("L", (24, 48))
    keys = [("a", wide), ("a", high), ("b", wide), ("a", grey), ("a", wide, wide), ("aa", wide), (["a", "b"],), (["ab"],), (1,), ("1",)]
    assert len({memory.digest(parts) for parts in keys}) == len(keys)
    assert memory.digest(("a", wide)) == memory.digest(("a", wide.copy()))


def test_memory_has_a_limit() -> None:
    picture = PIL.Image.new("RGB", (24, 16))
    kept = Memory(limit=3 * memory.weight([picture]))
    for index in range(5):
        kept.recall(bytes([index]), lambda: [picture])
    assert list(kept.answers) == [bytes([index]) for index in (2, 3, 4)]
    kept.recall(bytes([2]), lambda: pytest.fail("it is there"))
    kept.recall(b"new", lambda: [picture])
    assert bytes([2]) in kept.answers, "what was used last stays longest"
