"""Planning a bench: what its arms may change, what steers them, what one that goes on may be asked, and pictures for other tools."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from refine import cli, config
from refine.bench import arms, folder, publish, samples, summary, work
from refine.bench.folder import Plan
from refine.commands import bench as command
from refine.errors import ConfigError, InputError
from refine.stilllife.oracle import Painter
from refine.trees import Tree

SHY: Any = {"arm": ["ours"], "set": ["rewards.shy={use: 'bench_parts:Shy'}"], "held_out": ["shy"]}
BASE = {**command.DEFAULTS, "preset": ["painter"], "n": 2}
SUITE = "about: x\nsets: [prompts, damaged]\ndraws: 4\nbaseline: first\nours: ours\narms:\n  first: {config: {budget: {rounds: 0}}}\n"


def suite(where: Path, more: str = "  ours: {}\n", head: str = SUITE) -> str:
    (where / "mine.yaml").write_text(head + more)
    return str(where / "mine.yaml")


def faults(where: Path, more: str = "  ours: {}\n", head: str = SUITE) -> str:
    with pytest.raises(ConfigError) as caught:
        arms.read(suite(where, more, head))
    return str(caught.value)


def arm(plan: Plan, name: str) -> Tree:
    return next(one.tree for one in plan.arms if one.name == name)


def bench(out: Path, *more: str) -> int:
    return cli.main(["bench", "--preset", "painter", "--out", str(out), *more])


# Sets and arms


def test_a_set_without_an_arm_beside_the_baseline_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = command.plan_of(BASE | {"arm": ["oracle-mask"]})
    assert (list(plan.sets), plan.idle) == (["damaged", "clean"], ("prompts",))
    assert bench(tmp_path / "out", "--n", "damaged=2,prompts=2", "--arm", "oracle-mask") == 0
    assert "prompts is left out: no arm but the baseline first runs on it" in capsys.readouterr().err
    assert "prompts" not in (tmp_path / "out" / "samples.jsonl").read_text().replace('"prompt"', "")


def test_a_bench_without_any_such_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"on none of the sets prompts.*oracle-mask"):
        command.plan_of(BASE | {"arm": ["oracle-mask"], "n": "prompts=2"})


def test_the_baseline_runs_everywhere(tmp_path: Path) -> None:
    head = SUITE.replace("first: {", "first: {sets: [prompts], ")
    assert "the baseline first has sets; the others are compared with it on every set" in faults(tmp_path, head=head)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[prompts, damaged]", "[promts]", "Unknown set 'promts'. Did you mean 'prompts'?"),
        ("[prompts, damaged]", "[]", "sets is empty"),
        ("[prompts, damaged]", "[{a: 1}]", "sets holds {'a': 1}; it must be text"),
        ("draws: 4", "draws: true", "draws is True; it must be a whole number"),
        ("draws: 4", "draws: 4\n3: x", "Unknown key '3'"),
        ("about: x\n", "", "about is None; it must be text"),
        ("ours: ours", "ours: first", "ours and the baseline are both first"),
    ],
)
def test_faults_of_a_suite_are_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert message in faults(tmp_path, head=SUITE.replace(old, new))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("  ours: {}\n  2024: {}\n", "an arm is called 2024, which YAML does not read as text: put the name in quotes"),
        ("  ours: {}\n  off: {}\n", "an arm is called False, which YAML does not read as text"),
        ("  ours: {sets: [3]}\n", "arm ours: sets holds 3; it must be text"),
        ("  ours: {presets: [off]}\n", "arm ours: presets holds False; it must be text"),
        ("  ours: {1: x}\n", "arm ours: Unknown key '1'"),
    ],
)
def test_faults_of_arms_are_named(tmp_path: Path, more: str, message: str) -> None:
    assert message in faults(tmp_path, more)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ("budget: {evaluations: 50}", "budget.evaluations is 50, the bench's is None"),
        ("budget: {seconds: 3}", "budget.seconds is 3.0, the bench's is None"),
        ("batch: 2", "batch is 2, the bench's is 8"),
    ],
)
def test_what_all_arms_share_is_no_arms_own(tmp_path: Path, limit: str, message: str) -> None:
    own = suite(tmp_path, f"  ours: {{}}\n  mine: {{config: {{{limit}}}}}\n")
    with pytest.raises(ConfigError, match=f"arm mine: {message}"):
        command.plan_of(BASE | {"suite": own})


def test_the_budget_is_the_base_configurations(tmp_path: Path) -> None:
    own = suite(tmp_path)
    plan = command.plan_of(BASE | {"suite": own, "set": ["budget.evaluations=7"]})
    assert {one.tree["budget"]["evaluations"] for one in plan.arms} == {7}
    assert bench(tmp_path / "out", "--suite", own, "--n", "prompts=2", "--set", "budget.evaluations=7") == 0
    assert work.limit(tmp_path / "out") == 7


def test_the_budget_is_in_drawings_of_the_base_generator(tmp_path: Path) -> None:
    """A baseline with another generator does not set what the others may spend."""
    head = SUITE.replace("budget: {rounds: 0}", "budget: {rounds: 0}, generator: painter")
    out, own = tmp_path / "out", suite(tmp_path, head=head)
    assert bench(out, "--suite", own, "--n", "prompts=2", "--set", "generator=test_bench_plan:Dear") == 0
    assert work.limit(out) == 4 * 100


def test_operations_are_left_out_for_arms_with_other_models(tmp_path: Path) -> None:
    own = suite(tmp_path, "  ours: {}\n  other: {config: {generator: {skill: 0.5}}}\n  fewer: {config: {rewards: {shy: null}}}\n")
    shy = "rewards.shy={use: 'bench_parts:Shy'}"
    plan = command.plan_of(BASE | {"suite": own, "set": [shy, "rewards.copy={use: likeness}"], "held_out": ["copy"]})
    costs = [cost_of(one.name) for one in plan.arms]
    told = publish.same_models(costs, plan)
    assert {one.arm: one.flops for one in told} == {"first": 5.0, "ours": 5.0, "other": None, "fewer": None}


def cost_of(name: str) -> summary.Cost:
    return summary.Cost(name, "", 1, 0, 0, 1.0, 1, {}, 5.0, 0, 0)


class Dear:
    """The painter at a hundred evaluations a picture."""

    native_size, grid = Painter.native_size, Painter.grid

    def __init__(self) -> None:
        painter = Painter()
        self.fits, self.draw, self.inpaint = painter.fits, painter.draw, painter.inpaint

    def cost(self, strength: float | None = None) -> int:
        return 100


# Controls


def on_mini(*overrides: str, arm: list[str]) -> Plan:
    return command.plan_of({**command.DEFAULTS, "preset": ["mini"], "n": 2, "set": list(overrides), "arm": arm})


def test_controls_differ_from_ours_by_the_mask_alone() -> None:
    plan = on_mini("policy.crop_least=64", "policy.draws=2", arm=["ours", "random-mask", "oracle-mask"])
    ours = {key: value for key, value in arm(plan, "ours")["policy"].items() if key != "use"}
    for name in ("random-mask", "oracle-mask"):
        assert arm(plan, name)["policy"] == {"use": name, **ours}


def test_published_recipes_take_nothing_from_the_preset() -> None:
    plan = on_mini("policy.wording=user", arm=["paper-regenerate", "best-of-n"])
    assert arm(plan, "paper-regenerate")["policy"] == {"use": "paper-regenerate", "rounds": 2, "wording": "revised"}
    assert arm(plan, "best-of-n")["policy"] == {"use": "best-of-n", "n": 64}


def test_an_arms_own_settings_win_over_what_it_takes_from_the_base(tmp_path: Path) -> None:
    own = suite(tmp_path, "  ours: {}\n  mine: {config: {policy: {use: redraw, redraws: 5}}}\n")
    policy = arm(command.plan_of(BASE | {"suite": own, "set": ["policy.draws=2"]}), "mine")["policy"]
    assert (policy["use"], policy["redraws"], policy["draws"]) == ("redraw", 5, 2)


# Steering


def steers(base: list[str], own: list[str]) -> frozenset[str]:
    return arms.steering(config.load(["mini"], [*base, *own]).tree, config.load(["mini"], base).tree)


@pytest.mark.parametrize(
    ("base", "own", "expected"),
    [
        ([], ["controller.batch_size=1"], "controller"),
        ([], ["controller={use: union, members: {legion: {source: 'mini:legion'}, none: {use: blind}}}"], "controller"),
        ([], ["controller.use=refine.controllers.legion.controller:LegionController", "controller.source=mini:legion"], "controller"),
        ([], ["rewards.hps.dtype=bfloat16"], "reward:hps"),
        (["rewards.copy={use: hps, source: 'mini:hps'}"], ["rewards.copy=null"], "reward:copy"),
        ([], ["controller={use: union, members: {a: {use: oracle}, b: {use: blind}}}"], "truth"),
        ([], ["controller=refine.stilllife.oracle:Oracle"], "truth"),
    ],
)
def test_what_steers_is_told_by_model_and_weights(base: list[str], own: list[str], expected: str) -> None:
    assert expected in steers(base, own)


def test_other_weights_do_not_steer() -> None:
    assert "controller" not in steers([], ["controller=blind"])
    assert "reward:hps" not in steers([], ["rewards.hps.source=elsewhere"])


def test_a_reward_within_the_controller_steers() -> None:
    grader = "{use: reward, reward: {use: hps, source: 'mini:hps'}, middle: 0, scale: 1}"
    own = [f"controller={{use: detector, finder: {{use: blind}}, grader: {grader}}}", "rewards.hps=null"]
    assert "reward:hps" in steers([], own)


# A bench that goes on


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder with 3 prompts of each of two sets, planned and not computed."""
    return planned(tmp_path, {"n": "prompts=3,damaged=3", "arm": ["best-of-n"]})


def planned(where: Path, asked: dict[str, Any]) -> Path:
    folder.create(where / "out", command.plan_of(BASE | asked))
    return where / "out"


def go_on(out: Path, *more: str) -> Plan:
    args = cli.parser().parse_args(["bench", "--out", str(out), "--resume", *more])
    return command.plan_of(command.planned(args)[0])


def sizes(plan: Plan) -> dict[str, int]:
    return {name: len(group) for name, group in plan.sets.items()}


def test_fewer_samples_are_refused_with_their_number(begun: Path) -> None:
    kept = (begun / "samples.jsonl").read_bytes(), (begun / "bench.yaml").read_bytes()
    with pytest.raises(ConfigError, match="1 of the 3 samples of prompts would be missing") as caught:
        go_on(begun, "--n", "2")
    text = str(caught.value)
    assert "1 of the 3 samples of damaged would be missing" in text
    assert "2000002-0" in text
    assert "may only grow" in text
    assert "arms." not in text
    assert ((begun / "samples.jsonl").read_bytes(), (begun / "bench.yaml").read_bytes()) == kept


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bench.yaml", b"\xff\xfe", "bench.yaml cannot be read"),
        ("bench.yaml", b"request: 3\n", "bench.yaml lacks request, plan"),
        ("bench.yaml", b"request: {suite: stilllife}\n", "bench.yaml lacks plan"),
        ("samples.jsonl", b"nonsense\n", "samples.jsonl is damaged"),
        ("samples.jsonl", b'{"a": 1}\n', "samples.jsonl is damaged"),
    ],
)
def test_damaged_files_of_a_bench_are_named(begun: Path, name: str, content: bytes, message: str) -> None:
    (begun / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        go_on(begun)


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"evaluations": "many", "flops": {}}'])
def test_a_damaged_budget_is_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "cost.json").write_text(content)
    with pytest.raises(InputError, match="Delete it"):
        work.limit(tmp_path)


def test_a_set_that_is_named_alone_is_one_more(tmp_path: Path) -> None:
    out = planned(tmp_path, {"n": "prompts=4", "arm": ["ours"]})
    assert sizes(go_on(out, "--n", "damaged=2")) == {"prompts": 4, "damaged": 2}
    assert sizes(go_on(out, "--n", "prompts=6")) == {"prompts": 6, "damaged": 2}
    assert sizes(go_on(out)) == {"prompts": 6, "damaged": 2}
    assert sizes(go_on(out, "--n", "6")) == {"prompts": 6, "damaged": 6, "clean": 6}


def test_more_arms_and_more_seeds_are_welcome(begun: Path) -> None:
    plan = go_on(begun, "--arm", "ours", "--seeds", "2")
    assert {one.name for one in plan.arms} == {"first", "ours", "best-of-n"}
    assert sizes(plan) == {"prompts": 6, "damaged": 6}
    with pytest.raises(ConfigError, match="3 of the 6 samples of prompts would be missing"):
        go_on(begun, "--seeds", "1")


def test_more_seeds_change_no_batch_and_more_prompts_none_that_was_full(tmp_path: Path) -> None:
    out = planned(tmp_path, {"n": "prompts=3", "arm": ["ours"], "set": ["batch=2"]})

    def cut(*more: str) -> list[list[str]]:
        return [[sample.key for sample in batch] for batch in work.cut(go_on(out, *more), "prompts")]

    full, rest = before = cut()
    assert (len(full), len(rest)) == (2, 1)
    assert cut("--seeds", "2") == [*before, *([key.replace("-0", "-1") for key in batch] for batch in before)]
    assert cut("--n", "5")[0] == full


def test_an_arm_brings_the_set_that_had_none(tmp_path: Path) -> None:
    out = planned(tmp_path, {"arm": ["oracle-mask"]})
    assert sizes(go_on(out, "--arm", "ours")) == {"prompts": 2, "damaged": 2, "clean": 2}


def test_another_suite_or_prompt_file_is_refused(begun: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat\na dog\n")
    with pytest.raises(ConfigError, match=r"--prompts is .*p.txt, and this bench was begun with still life"):
        go_on(begun, "--prompts", str(tmp_path / "p.txt"))
    with pytest.raises(ConfigError, match=r"--suite is .*yaml, and this bench was begun with stilllife"):
        go_on(begun, "--suite", suite(tmp_path))


@pytest.mark.parametrize(
    ("after", "message"),
    [
        ("id,prompt\na,one\nx,two\n", "1 of the 2 samples of prompts would be missing"),
        ("id,prompt\na,one\nb,three\n", "sample prompts/b was 'two'"),
    ],
)
def test_an_edited_prompt_file_is_refused(tmp_path: Path, after: str, message: str) -> None:
    (tmp_path / "p.csv").write_text("id,prompt\na,one\nb,two\n")
    out = planned(tmp_path, {"prompts": str(tmp_path / "p.csv"), **SHY})
    (tmp_path / "p.csv").write_text(after)
    with pytest.raises(ConfigError, match=message):
        go_on(out)


def test_an_edited_suite_is_refused_with_the_difference(tmp_path: Path) -> None:
    out = planned(tmp_path, {"suite": suite(tmp_path, "  ours: {}\n  mine: {config: {policy: {feather: 0}}}\n")})
    suite(tmp_path, "  ours: {}\n  mine: {config: {policy: {feather: 0}}}\n", SUITE.replace("ours: ours", "ours: mine"))
    with pytest.raises(ConfigError, match="ours: ours → mine"):
        go_on(out)
    suite(tmp_path)
    with pytest.raises(ConfigError, match="arm mine is not in the suite any more"):
        go_on(out)


# Files


def test_a_table_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "drawbench.csv").write_bytes("Prompts,Category\nun café,Colors\nb,Colors\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"drawbench\.csv.*must be UTF-8"):
        samples.load(tmp_path / "drawbench.csv", (), 2, 1)


@pytest.mark.parametrize("prompt", ["", "  "])
def test_an_empty_prompt_of_imagereward_is_refused(tmp_path: Path, prompt: str) -> None:
    (tmp_path / "benchmark-prompts.json").write_text(json.dumps([{"id": "1", "prompt": "a"}, {"id": "2", "prompt": prompt}]))
    with pytest.raises(InputError, match="entry 1 is"):
        samples.load(tmp_path / "benchmark-prompts.json", (), 2, 1)


def test_one_style_alone_leads_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "anime.json").write_text('["a girl", "a boy"]')
    with pytest.raises(InputError, match=r"HPDv2.*give its folder"):
        samples.load(tmp_path / "anime.json", (), 2, 1)


def published(where: Path, n: int) -> Plan:
    """A plan on HPDv2's folder of two styles with two prompts each, and the pictures of ours but not all of first's."""
    source = where / "benchmark"
    source.mkdir()
    for style in ("anime", "photo"):
        (source / f"{style}.json").write_text(json.dumps([f"{style} {index}" for index in range(2)]))
    plan = command.plan_of(BASE | {"prompts": str(source), "n": n, **SHY})
    for name, count in (("ours", n), ("first", n - 1)):
        for sample in plan.sets["prompts"][:count]:
            folder.png(folder.picture(where, name, sample), PIL.Image.new("RGB", (24, 16)))
    return plan


def test_pictures_are_handed_on_where_every_prompt_has_one(tmp_path: Path) -> None:
    told = "\n".join(publish.export(tmp_path, published(tmp_path, 4)))
    assert len(list((tmp_path / "hpdv2" / "ours").rglob("*.jpg"))) == 4
    assert not (tmp_path / "hpdv2" / "first").exists()
    assert "1 of 4 pictures of first are missing; the tool would score others in their place" in told
    assert "failed" in told
    assert "layout of hpdv2" in told


def test_a_part_of_a_published_set_is_not_handed_on(tmp_path: Path) -> None:
    told = "\n".join(publish.export(tmp_path, published(tmp_path, 3)))
    assert not (tmp_path / "hpdv2").exists()
    assert "1 of 4 pictures of ours are missing; the tool would score others in their place" in told
    assert "--resume --n 4" in told
    assert "layout of" not in told


def test_a_part_of_imagereward_is_handed_on(tmp_path: Path) -> None:
    """Its own tool knows pictures by their ids."""
    source = tmp_path / "benchmark-prompts.json"
    source.write_text(json.dumps([{"id": f"00-{index}", "prompt": f"a {index}"} for index in range(3)]))
    plan = command.plan_of(BASE | {"prompts": str(source), **SHY})
    folder.png(folder.picture(tmp_path, "ours", plan.sets["prompts"][0]), PIL.Image.new("RGB", (24, 16)))
    assert "layout of imagereward" in "\n".join(publish.export(tmp_path, plan))
    assert [path.name for path in (tmp_path / "imagereward" / "ours").iterdir()] == ["00-0_0.png"]
