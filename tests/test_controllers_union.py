"""Several controllers as one, and nodes within nodes in a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine import config, runner
from refine.controllers.union import UnionController
from refine.controllers.vlm import filled
from refine.errors import ConfigError
from refine.trees import merge
from refine.types import Box, Critique, Image, Region
from tests.toys import picture

HERE = __name__
SIZE = (80, 48)
BOXES = st.tuples(st.integers(0, 40), st.integers(0, 20), st.integers(41, 80), st.integers(21, 48))
LISTS = st.lists(st.tuples(BOXES, st.floats(0.01, 1)), max_size=4)


@dataclass(frozen=True)
class Fixed:
    """Says the same of every image."""

    boxes: tuple[tuple[Box, float], ...] = (((0, 0, 10, 10), 0.5),)
    phrase: str = "hand"
    reason: str = "It is wrong."
    fake: float | None = None

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        regions = tuple(Region(filled(box, SIZE), self.phrase, self.reason, score=score) for box, score in self.boxes)
        return [Critique(image.size, regions, "looked", self.fake) for image in images]


def left_half(image: Image, share: float = 0.5) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return filled((0, 0, round(image.width * share), image.height), image.size)


def test_what_two_agree_on_is_one_region_with_both_reasons() -> None:
    a = Fixed((((0, 0, 10, 10), 0.5),), "hand", "Six fingers.", 0.2)
    b = Fixed((((0, 0, 10, 9), 0.8), ((40, 20, 60, 40), 0.6)), "left hand", "Fused.", 0.9)
    [critique] = UnionController({"legion": a, "faces": b}).inspect([picture(0)])
    both, alone = critique.regions
    assert (both.score, alone.score) == (0.8, 0.6)
    assert both.explanation == "faces: Fused. legion: Six fingers."
    assert both.phrase == "left hand and hand"
    assert both.mask.sum() == 100
    assert alone.explanation == "faces: Fused."
    assert critique.fake_probability == 0.9
    assert critique.summary == "legion: looked faces: looked"


def test_regions_of_one_member_stay_apart() -> None:
    twice = Fixed((((0, 0, 10, 10), 0.5), ((0, 0, 10, 10), 0.4)))
    assert len(UnionController({"a": twice}).inspect([picture(0)])[0].regions) == 2


def test_same_1_joins_equal_masks_alone() -> None:
    a, b = Fixed(), Fixed((((0, 0, 10, 9), 0.5),))
    assert len(UnionController({"a": a, "b": Fixed()}, same=1).inspect([picture(0)])[0].regions) == 1
    assert len(UnionController({"a": a, "b": b}, same=1).inspect([picture(0)])[0].regions) == 2


@given(LISTS, LISTS, st.floats(0.1, 1))
def test_nothing_is_lost_and_nothing_added(first: list[tuple[Box, float]], second: list[tuple[Box, float]], same: float) -> None:
    members = {"a": Fixed(tuple(first)), "b": Fixed(tuple(second))}
    [critique] = UnionController(members, same=same).inspect([picture(0)])
    alone = [member.inspect([picture(0)])[0] for member in members.values()]
    assert np.array_equal(critique.heat > 0, np.maximum(*(one.heat for one in alone)) > 0)
    assert max((region.score for region in critique.regions), default=0) == max((score for _, score in [*first, *second]), default=0)
    assert len(critique.regions) >= max(len(first), len(second))
    assert all(region.explanation.startswith(("a: ", "b: ")) for region in critique.regions)


def test_a_function_is_a_member() -> None:
    [critique] = UnionController({"left": left_half}).inspect([picture(0)])
    assert critique.regions[0].mask.sum() == 40 * 48
    assert critique.regions[0].explanation == "left: artifact"


def test_members_are_nodes_of_the_configuration() -> None:
    tree = config.load(["painter"], ["controller=union", "controller.members={oracle: {tolerance: 9}, blind: {}}"]).tree
    members = tree["controller"]["members"]
    assert members["oracle"]["tolerance"] == 9.0
    assert members["blind"] == {"use": "blind"}
    made = runner.make("controller", tree["controller"])
    assert set(made.members) == {"oracle", "blind"}
    assert config.check(tree).tree == tree


def test_a_list_of_nodes_is_named_after_its_plugins(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    nodes = ", ".join(f"{{use: '{use}'}}" for use in ("oracle", "blind", f"{HERE}:left_half", "blind"))
    own.write_text(f"base: painter\ncontroller: {{use: union, members: [{nodes}]}}")
    tree = config.load([str(own)], ["controller.members.oracle.tolerance=7", "controller.members.blind-2=null"]).tree
    members = tree["controller"]["members"]
    assert list(members) == ["oracle", "blind", f"{HERE}:left_half"]
    assert members["oracle"]["tolerance"] == 7.0
    assert members[f"{HERE}:left_half"]["share"] == 0.5


def test_a_member_whose_plugin_changes_starts_afresh() -> None:
    base = {"controller": {"use": "union", "members": {"a": {"use": "oracle", "tolerance": 3}, "b": "blind"}}}
    merged = merge([base, {"controller": {"members": {"a": {"use": "blind"}}}}])
    assert merged["controller"]["members"] == {"a": {"use": "blind"}, "b": "blind"}
    assert merge([base, {"controller": {"members": {"b": {"x": 1}}}}])["controller"]["members"]["b"] == {"use": "blind", "x": 1}


def test_unions_nest() -> None:
    node = "controller.members={inner: {use: union, members: {blind: {}}}, oracle: {}}"
    made = runner.make("controller", config.load(["painter"], ["controller=union", node]).tree["controller"])
    assert isinstance(made.members["inner"], UnionController)


def test_every_fault_of_every_member_is_told_with_its_place() -> None:
    members = "controller.members={a: {use: oracel}, b: {use: oracle, tolerence: 1}, c: 3, d: {use: oracle, tolerance: much}, e: [1]}"
    with pytest.raises(ConfigError) as raised:
        config.load(["painter"], ["controller=union", members, "controller.sam=1"])
    text = "\n".join(raised.value.faults)
    assert len(raised.value.faults) == 6
    for hint in (
        "controller.members.a.use: Unknown controller 'oracel'. Did you mean 'oracle'?",
        "Did you mean 'controller.members.b.tolerance'?",
        "controller.members.c is 3; it must be a controller plugin's name",
        "controller.members.d.tolerance is 'much'; it must be float",
        "controller.members.e is [1]",
        "Did you mean 'controller.same'?",
    ):
        assert hint in text


@pytest.mark.parametrize("members", ["[oracle]", "oracle", "3"])
def test_members_of_the_wrong_shape(members: str) -> None:
    with pytest.raises(ConfigError, match="mapping of names to controller nodes"):
        config.load(["painter"], ["controller=union", f"controller.members={members}"])


def test_a_reward_is_no_member() -> None:
    with pytest.raises(ConfigError, match=r"controller\.members\.a\.use: Unknown controller 'likeness'"):
        config.load(["painter"], ["controller=union", "controller.members={a: {use: likeness}}"])


def test_a_union_needs_members() -> None:
    with pytest.raises(ConfigError, match="needs members"):
        UnionController({})
    with pytest.raises(ConfigError, match="same is 0"):
        UnionController({"a": Fixed()}, same=0)


def test_the_device_reaches_the_members() -> None:
    node = f"controller.members={{a: {{use: '{HERE}:Placed'}}}}"
    tree = config.load(["painter"], ["controller=union", node, "device=cpu"]).tree
    assert tree["controller"]["members"]["a"]["device"] == "cpu"


@dataclass(frozen=True)
class Placed:
    device: str = "auto"

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return [Critique(image.size) for image in images]
