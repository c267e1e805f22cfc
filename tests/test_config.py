"""Configuration: presets, overrides, and every fault told at once before anything is loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine import config, embedded, plugins, presets, runner, trees
from refine.errors import ConfigError, MissingDependency, RefineError, UnknownName
from refine.gate import Gate
from refine.policy import Policy
from refine.stilllife.oracle import Blind, Likeness, Oracle, Painter
from refine.trees import differences, merge
from refine.types import Critique, Image

HERE = __name__


@dataclass(frozen=True)
class Picky:
    """A controller with one parameter of every kind."""

    source: str
    mode: Literal["fast", "good"] = "good"
    sizes: tuple[int, ...] = (1, 2)
    weights: Mapping[str, float] | None = None
    device: str = "cpu"
    where: str | Path = Path("a/b")

    def inspect(self, images: list[Image]) -> list[Critique]:
        return [Critique(image.size) for image in images]


def no_role() -> str:
    return "plays nothing"


def faults_of(*overrides: str, preset: str = "painter") -> list[str]:
    with pytest.raises(ConfigError) as raised:
        config.load([preset], overrides)
    return raised.value.faults


def test_a_preset_is_filled_with_every_default() -> None:
    tree = config.load(["painter"]).tree
    assert tree["generator"] == {"use": "painter", "skill": 0.7, "words": 60}
    assert tree["rewards"] == {"likeness": {"use": "likeness", "name": "likeness"}}
    assert tree["policy"]["strengths"] == list(Policy().strengths)
    assert tree["gate"]["fall"] == Gate().fall
    assert set(tree) == set(config.KEYS)


def test_overrides_are_typed_and_the_last_wins() -> None:
    tree = config.load(["painter"], ["budget.rounds=5", "budget.rounds=3", "policy.strengths=[0.5]", "gate.noise.hps=0.1"]).tree
    assert tree["budget"]["rounds"] == 3
    assert tree["policy"]["strengths"] == [0.5]
    assert tree["gate"]["noise"] == {"hps": 0.1}


def test_a_later_preset_wins_and_a_new_plugin_starts_afresh() -> None:
    tree = config.load(["painter", "blind"]).tree
    assert tree["controller"] == {"use": "blind"}
    assert tree["generator"]["use"] == "painter"


def test_a_reward_is_removed_with_null() -> None:
    assert config.load(["painter"], ["rewards.likeness=null"]).tree["rewards"] == {}


def test_merge_keeps_the_arguments_of_an_unchanged_plugin() -> None:
    first = {"generator": {"use": "painter", "skill": 0.1, "words": 3}}
    assert merge([first, {"generator": {"skill": 0.2}}])["generator"] == {"use": "painter", "skill": 0.2, "words": 3}
    assert merge([first, {"generator": {"use": "painter", "skill": 0.2}}])["generator"]["words"] == 3
    assert merge([first, {"generator": "other"}])["generator"] == {"use": "other"}


def test_all_faults_are_told_at_once_with_the_nearest_name() -> None:
    faults = faults_of("contoller=blind", "generator.skil=1", "budget.rounds=many", "policy.wording=usr", "batch=0", "rewards.hsp={}", "x")
    assert len(faults) == 7
    text = "\n".join(faults)
    for hint in ("'controller'", "'generator.skill'", "'many'; it must be int", "'user'", "at least 1", "'hps'", "key=value"):
        assert hint in text


def test_an_unknown_preset_has_its_nearest_name() -> None:
    with pytest.raises(UnknownName, match=r"Unknown preset 'paintre'\. Did you mean 'painter'\?"):
        config.load(["paintre"])


def test_presets_can_be_files(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("base: painter\nbudget: {rounds: 7}\n")
    assert config.load([str(own)]).tree["budget"]["rounds"] == 7


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "not valid YAML"),
        ("- 1", "must be a mapping"),
        ("base: own.yaml", "stands on itself"),
        ("batch: ${nowhere}", "cannot be followed"),
        ("3", "must be a mapping"),
        ("base:", "base is None; it must be a preset's name or a list of names"),
        ("base: [3]", r"base is \[3\]"),
        ("1: x", "Unknown key '1'"),
    ],
)
def test_broken_preset_files(text: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(text)
    with pytest.raises(ConfigError, match=fault):
        config.load(["own.yaml"])


def test_a_missing_preset_file_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Cannot read the preset file nowhere\.yaml"):
        config.load(["nowhere.yaml"])


@pytest.mark.parametrize("override", ["controller=[1]", "rewards=3", "gate=1", "rewards.likeness=[1]"])
def test_a_node_of_the_wrong_shape(override: str) -> None:
    assert "it must be a" in faults_of(override)[0]


@pytest.mark.parametrize("key", ["gate.noise.likeness", "budget.seconds", "policy.redraw_area"])
@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_a_number_that_no_record_holds_is_a_fault(key: str, value: str) -> None:
    assert "it must be finite" in faults_of(f"{key}={value}")[0]


WORDS = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
ODD = st.from_regex(r"[0-9]{1,3}e[0-9]{1,2}|\$\{[a-z]+\}", fullmatch=True)  # a number, a reference to those who read what people write


@given(st.dictionaries(WORDS, st.one_of(WORDS, ODD, st.floats(), st.integers(), st.booleans(), st.none())))
def test_a_tree_reads_back_as_it_was_dumped(tree: dict[str, object]) -> None:
    assert repr(trees.load(trees.dump(tree), "it")) == repr(tree)


def test_a_plugin_spelled_out_has_its_signature_as_schema() -> None:
    tree = config.load(["painter"], [f"controller={HERE}:Picky", "controller.source=x", "controller.weights.a=1"]).tree
    expected = {"source": "x", "mode": "good", "sizes": [1, 2], "weights": {"a": 1.0}, "device": "auto", "where": "a/b"}
    assert tree["controller"] == {"use": f"{HERE}:Picky"} | expected
    made = runner.make("controller", tree["controller"])
    assert made.sizes == (1, 2)
    assert made.device in {"cpu", "cuda", "mps"}


def test_a_required_argument_and_a_bad_choice_are_faults() -> None:
    faults = faults_of(f"controller={HERE}:Picky", "controller.mode=god", "controller.sizes=[a]")
    assert "controller.source is required." in faults
    assert any("Did you mean 'good'?" in fault for fault in faults)
    assert any("controller.sizes is ['a']" in fault for fault in faults)


def test_embedded_weights_that_do_not_exist_are_a_fault() -> None:
    assert "Unknown embedded model 'mini:legoin'" in faults_of(f"controller={HERE}:Picky", "controller.source=mini:legoin")[0]
    assert not embedded.is_reference("cuda:0")


@pytest.mark.parametrize(
    ("use", "fault"),
    [
        ("paint", "Did you mean 'painter'?"),
        ("no.such.module:Class", "there is no module 'no'"),
        ("refine.no:Class", "there is no module 'refine.no'"),
        ("refine.stilllife.oracle:Painted", "Did you mean 'Painter'?"),
        ("refine.gate:ACCEPTED", "which cannot be called"),
        ("./mine.py:Class", "there is no module './mine.py'"),
        (":Class", "there is no module ''"),
    ],
)
def test_a_plugin_that_cannot_be_found(use: str, fault: str) -> None:
    assert fault in faults_of(f"generator={use}")[0]


def test_a_plugin_whose_own_import_fails_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy_plugin.py").write_text("import a_package_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match="pip install a_package_nobody_has"):
        plugins.find("controller", "needy_plugin:X")


def test_an_object_that_cannot_play_its_role_is_refused() -> None:
    with pytest.raises(ConfigError, match="is a str without inspect"):
        plugins.create("controller", f"{HERE}:no_role", {})


def test_off_is_a_word_where_it_is_a_choice(tmp_path: Path) -> None:
    assert config.load(["painter"], ["gate.rule=off"]).tree["gate"]["rule"] == "off"
    own = tmp_path / "own.yaml"
    own.write_text("base: painter\ngate: {rule: off}\npolicy: {crop: off}\n")
    tree = config.load([str(own)]).tree
    assert (tree["gate"]["rule"], tree["policy"]["crop"]) == ("off", False)
    assert "'better'" in faults_of("gate.rule=bettr")[0]


def test_the_policy_is_checked_against_its_own_signature() -> None:
    assert "policy.crp" in faults_of("policy.crp=true")[0]


def test_every_shipped_preset_says_what_it_costs() -> None:
    for name in presets.names():
        about = presets.describe(name)
        assert about.about, name
        assert set(about.facts) == set(presets.FACTS), name
        assert about.facts["command"].startswith("refine run"), name


def test_models_are_made_from_a_configuration() -> None:
    models = runner.load_models(config.load(["painter"]))
    assert isinstance(models.generator, Painter)
    assert isinstance(models.controller, Oracle)
    assert isinstance(models.rewards[0], Likeness)
    assert isinstance(runner.load_controller(config.load(["painter", "blind"])), Blind)


def test_full_memory_is_told_with_what_to_do() -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    with pytest.raises(RefineError, match=r"Out of memory with 4 images.*--set batch=1"), runner.enough_memory(4):
        raise OutOfMemoryError
    with pytest.raises(RuntimeError, match="a bug"), runner.enough_memory(4):
        raise RuntimeError("a bug")


def test_differences_are_told_key_by_key() -> None:
    assert differences({"a": {"b": 1, "c": 2}, "d": {}}, {"a": {"b": 1, "c": 3}}) == ["a.c: 2 → 3", "d: {} → (absent)"]


def test_a_checked_tree_is_stable() -> None:
    tree = config.load(["painter"]).tree
    assert config.check(tree).tree == tree


def test_a_broken_torchvision_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    runner.check_torchvision()
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RefineError, match=r"nms does not exist.*pip uninstall torchvision"):
        runner.check_torchvision()


def test_a_policy_out_of_range_is_a_fault_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match=r"policy\.strengths"):
        config.load(["painter"], ["policy.strengths=[0.5,1.5]"])
