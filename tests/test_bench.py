"""The bench: samples, arms, what steers them, the run with its failures, and tables that cannot flatter."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine import cli
from refine.bench import arms, cost, folder, layouts, metrics, page, plots, samples, summary, tables, work
from refine.bench.arms import Arm
from refine.bench.folder import Plan
from refine.bench.samples import Sample
from refine.commands import bench as command
from refine.errors import ConfigError, InputError
from refine.trees import Tree

BASE = {**command.DEFAULTS, "preset": ["painter"], "n": 2}


def bench(out: Path, *more: str) -> int:
    """The command on the painter, two arms beside the baseline."""
    return cli.main(["bench", "--preset", "painter", "--out", str(out), "--n", "3", "--arm", "ours", "--arm", "best-of-n", *more])


def rows(out: Path, drop: str = "seconds") -> list[dict[str, str]]:
    """rows.csv without what no two runs share."""
    with (out / "rows.csv").open(newline="", encoding="utf-8") as file:
        return [{key: value for key, value in row.items() if not key.startswith(drop)} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "whole"
    assert bench(out) == 0
    return out


# Samples


def test_still_life_sets_are_held_out_and_carry_their_truth() -> None:
    sets = samples.load(None, ("prompts", "damaged", "clean"), 3, 2)
    assert {name: len(group) for name, group in sets.items()} == {"prompts": 6, "damaged": 6, "clean": 6}
    assert min(sample.seed for group in sets.values() for sample in group) >= samples.HELD_OUT
    for group in sets.values():
        assert len({(sample.id, sample.seed) for sample in group}) == len(group), "two copies of a prompt share a seed"
    for sample in sets["damaged"]:
        truth = samples.truth(sample)
        assert truth is not None
        gap = np.abs(np.asarray(truth.image, int) - np.asarray(truth.clean, int)).max(2)
        assert truth.mask.any()
        assert not gap[~truth.mask].any()
        assert gap[truth.mask].any()
    assert all(samples.truth(sample) is None for sample in sets["prompts"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "holds no prompt"),
        ("a.txt", "one prompt\n", "at least 2"),
        ("a.csv", "id,prompt\nx,one\nx,two\n", "id 'x' is on line 2 already"),
        ("a.csv", "id,prompt\na/b,one\nc,two\n", "cannot be a file's name"),
        ("a.json", "[]", "with something in it"),
        ("a.json", '[{"id": "1", "prompt": "one"}, {"id": "1", "prompt": "two"}]', "ids come more than once: 1"),
        ("drawbench.json", '["one", ""]', "entry 1 is ''"),
        ("drawbench.csv", "Prompts,Category\none,Colors\n,Colors\n", "row 3 has no prompt"),
    ],
)
def test_bad_prompt_files_are_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        samples.load(tmp_path / name, (), 8, 1)


def test_missing_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not HPDv2's benchmark folder"):
        samples.load(tmp_path, (), 8, 1)
    with pytest.raises(InputError, match="There is no prompt file"):
        samples.load(tmp_path / "none.json", (), 8, 1)
    with pytest.raises(InputError, match="--n is 1"):
        samples.load(None, ("prompts",), 1, 1)


def test_hpdv2_is_read_in_turns_and_written_for_its_tool(tmp_path: Path) -> None:
    for style in ("anime", "photo"):
        (tmp_path / f"{style}.json").write_text(json.dumps([f"{style} {index}" for index in range(3)]))
    found = samples.load(tmp_path, (), 4, 1)["prompts"]
    assert [sample.prompt for sample in found] == ["anime 0", "photo 0", "anime 1", "photo 1"]
    assert {sample.category for sample in found} == {"anime", "photo"}
    image = PIL.Image.new("RGB", (24, 16), "red")
    root = layouts.write(tmp_path / "out", "hpdv2", "ours", [(sample.id, 0, image) for sample in found])
    written = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    assert written == ["anime/00000.jpg", "anime/00001.jpg", "photo/00000.jpg", "photo/00001.jpg"]
    assert sorted(path.name for path in root.iterdir()) == ["anime", "photo"], "hpsv2.evaluate takes every entry for a style"


def test_other_layouts(tmp_path: Path) -> None:
    (tmp_path / "benchmark-prompts.json").write_text('[{"id": "000904-0035", "prompt": "a"}, {"id": "000905-0044", "prompt": "b"}]')
    (tmp_path / "drawbench.json").write_text('["a", "b"]')
    (tmp_path / "table.csv").write_text("Prompts,Category\n a ,Colors\nb,Counting\n")
    image = PIL.Image.new("RGB", (24, 16))
    pairs = samples.load(tmp_path / "benchmark-prompts.json", (), 2, 2)["prompts"]
    root = layouts.write(tmp_path / "ir", "imagereward", "ours", [(s.id, s.copy, image) for s in pairs])
    names = [f"{name}_{copy}.png" for name in ("000904-0035", "000905-0044") for copy in (0, 1)]
    assert sorted(path.name for path in (root / "ours").iterdir()) == names
    bench = samples.load(tmp_path / "table.csv", (), 2, 1)["prompts"]
    assert [(s.id, s.prompt, s.category) for s in bench] == [("00000", "a", "Colors"), ("00001", "b", "Counting")]
    assert [s.id for s in samples.load(tmp_path / "drawbench.json", (), 2, 1)["prompts"]] == ["00000", "00001"]
    root = layouts.write(tmp_path / "db", "drawbench", "ours", [(s.id, 0, image) for s in bench])
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*.jpg")) == ["ours/00000.jpg", "ours/00001.jpg"]


# Arms


def test_every_arm_of_the_shipped_suite_is_a_configuration_of_its_own() -> None:
    plan = command.plan_of(BASE | {"set": ["policy.draws=2"]})  # as in preset mini; the arm one-draw undoes it
    trees = [json.dumps(arm.tree, sort_keys=True) for arm in plan.arms]
    assert len(set(trees)) == len(trees) == len(arms.read("stilllife").arms)


def test_faults_of_a_suite_come_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "about: x\nsets: [prompts]\ndraws: 0\nbaseline: frist\nours: b\narms:\n  first: {config: {budget: {rounds: 0}}}\n  b: {confg: {}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        arms.read(str(tmp_path / "mine.yaml"))
    text = str(caught.value)
    for part in ("draws is 0", "Did you mean 'first'", "Did you mean 'config'"):
        assert part in text
    with pytest.raises(ConfigError, match="Did you mean 'stilllife'"):
        arms.read("stillife")


def test_faults_of_arms_come_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(tmp_path / "out", "--arm", "best-of-m") == 2
    assert "Did you mean 'best-of-n'" in capsys.readouterr().err
    assert bench(tmp_path / "out", "--held-out", "hps") == 2
    assert "reward to hold out 'hps'" in capsys.readouterr().err
    assert bench(tmp_path / "out", "--set", "gate.fal=1") == 2
    assert not (tmp_path / "out").exists()


def tree(*overrides: str) -> tuple[Tree, Tree]:
    """An arm's configuration and the base it stands on, for the preset mini."""
    from refine import config

    return config.load(["mini"], overrides).tree, config.load(["mini"]).tree


@pytest.mark.parametrize(
    ("overrides", "steers"),
    [
        ([], {"controller", "reward:hps", "reward:imagereward"}),
        (["budget.rounds=0"], set()),
        (["rewards.hps=null"], {"controller", "reward:imagereward"}),
        (["policy=paper-inpaint"], {"controller"}),
        (["policy=paper-regenerate"], {"controller"}),
        (["policy=best-of-n"], {"controller", "reward:hps", "reward:imagereward"}),
        (["gate.rule=random"], {"controller", "reward:hps", "reward:imagereward"}),  # they choose among first drawings
        (["gate.rule=random", "policy.draws=1"], {"controller"}),
        (["gate.rule='off'"], {"controller", "reward:hps", "reward:imagereward"}),
        (["gate.rule='off'", "policy.strengths=[0.8]", "policy.redraws=1", "policy.draws=1"], {"controller"}),
        (["controller=oracle"], {"truth", "reward:hps", "reward:imagereward"}),
        (["policy=oracle-mask"], {"truth", "controller", "reward:hps", "reward:imagereward"}),
    ],
)
def test_what_steers_follows_from_the_configuration(overrides: list[str], steers: set[str]) -> None:
    assert arms.steering(*tree(*overrides)) == steers


def test_a_table_of_steering_metrics_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts that the judge cannot read leave rewards and controller, and all of them steered ours."""
    (tmp_path / "p.txt").write_text("a cat on a sofa\na violinist\n")
    asked = {**command.DEFAULTS, "preset": ["mini"], "prompts": str(tmp_path / "p.txt"), "arm": ["ours"]}
    with pytest.raises(ConfigError, match=r"only what steered.*steered ours.*--held-out"):
        command.plan_of(asked)
    plan = command.plan_of({**asked, "held_out": ["imagereward"]})
    assert "imagereward" not in plan.arms[1].tree["rewards"]
    assert "reward:imagereward" in {metric.source for metric in work.tables(plan)["prompts"]} - arms.steering(plan.arms[1].tree, plan.base)


# The run


def test_a_bench_writes_all_its_files_and_respects_the_budget(finished: Path) -> None:
    limit = json.loads((finished / "cost.json").read_text())["evaluations"]
    table = rows(finished)
    assert len(table) == 3 * 3 * 3
    assert {row["arm"] for row in table} == {"first", "ours", "best-of-n"}
    assert max(int(row["evaluations"]) for row in table) <= limit
    assert sum(int(row["evaluations"]) for row in table if row["arm"] == "best-of-n" and row["set"] == "prompts") == 3 * limit
    ours = [row for row in table if row["arm"] == "ours" and row["set"] == "prompts"]
    first = [row for row in table if row["arm"] == "first" and row["set"] == "prompts"]
    assert sum(float(row["controller"]) for row in ours) < sum(float(row["controller"]) for row in first)
    text = (finished / "report.md").read_text()
    assert "| ours |" in text
    assert "2000002" in text, "the ids are part of the report"
    assert all(path.stat().st_size for path in (finished / "plots").glob("*.svg"))


def test_the_page_asks_for_nothing_and_shows_the_worst_too(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    assert "default-src &#x27;none&#x27;" in text
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    for kind in ("Best of ours", "Median of ours", "Worst of ours"):
        assert kind in text


def test_an_interrupted_bench_goes_on_to_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "cut"
    assert bench(out, "--set", "batch=2") == 0
    whole = rows(out)
    for path in out.glob("arms/*/ledger.jsonl"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[: len(lines) // 2]) + '\n{"set": "clean", "k')
    (out / "rows.csv").unlink()
    assert cli.main(["bench", "--out", str(out), "--resume"]) == 0
    assert rows(out) == whole


def test_more_of_the_same_keeps_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "grown"
    assert bench(out, "--n", "2", "--arm", "ours") == 0
    before = [row for row in rows(out) if row["set"] == "damaged"]
    assert cli.main(["bench", "--out", str(out), "--resume", "--n", "3"]) == 0
    after = [row for row in rows(out) if row["set"] == "damaged"]
    assert [row for row in after if row["id"] != "2000002"] == before
    assert len(after) == len(before) * 3 // 2


def test_more_arms_keep_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "widened"
    assert cli.main(["bench", "--preset", "painter", "--out", str(out), "--n", "damaged=2", "--arm", "ours"]) == 0
    before = rows(out)
    assert {row["set"] for row in before} == {"damaged"}
    assert cli.main(["bench", "--out", str(out), "--resume", "--arm", "paper-inpaint", "--n", "damaged=2,clean=2"]) == 0
    after = rows(out)
    assert {row["arm"] for row in after} == {"first", "ours", "paper-inpaint"}
    same = [row for row in after if row["set"] == "damaged" and row["arm"] != "paper-inpaint"]
    assert [{name: row[name] for name in before[0]} for row in same] == before, "the other set only adds columns of its own"
    damaged = summary.summarise(out, command.plan_of(folder.request(out)))[0]
    harm = {one.arm: one for one in damaged.harm}
    assert harm["ours"].accepted > 0
    assert harm["ours"].strayed == 0, "every pixel outside a mask is put back"
    assert "| paper-inpaint |" in (out / "report.md").read_text()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [(3, {"a": 3, "b": 3}), ("3", {"a": 3, "b": 3}), ("b=2", {"b": 2}), ("b=2, a=4", {"a": 4, "b": 2})],
)
def test_numbers_of_prompts_are_one_for_all_or_one_each(text: int | str, wanted: dict[str, int]) -> None:
    assert samples.counts(text, ("a", "b")) == wanted


@pytest.mark.parametrize("text", ["1", "x", "", "a=1", "a=2,a=3", "a", "damagd=2", "2,3"])
def test_other_numbers_of_prompts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--n"):
        samples.counts(text, ("a", "damaged"))


def test_another_configuration_is_refused_with_the_difference(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--out", str(finished), "--resume", "--set", "gate.fall=0.5"]) == 2
    assert "arms.ours.gate.fall: 0.3 → 0.5" in capsys.readouterr().err
    assert bench(finished) == 3
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["bench", "--out", str(finished.parent), "--resume"]) == 2
    assert "not the folder of a bench" in capsys.readouterr().err


FLAWED = """
about: arms with a flaw
sets: [prompts]
draws: 4
baseline: first
ours: black
arms:
  first: {config: {budget: {rounds: 0}}}
  black: {config: {generator: {use: "bench_parts:Flawed"}, policy: {use: paper-inpaint, wording: user}}}
  dark: {config: {generator: {use: "bench_parts:Flawed", draws: true}, budget: {rounds: 0}}}
  broken: {config: {generator: {use: "bench_parts:Flawed", breaks: true}, policy: {use: paper-inpaint, wording: user}}}
"""


def test_failures_black_pictures_and_missing_numbers_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flawed.yaml").write_text(FLAWED)
    out = tmp_path / "out"
    asked = ["bench", "--suite", str(tmp_path / "flawed.yaml"), "--preset", "painter", "--n", "8", "--out", str(out)]
    assert cli.main([*asked, "--set", "rewards.shy={use: 'bench_parts:Shy', word: sphere}"]) == 0
    assert "broken fails on prompts/" in capsys.readouterr().err
    plan = command.plan_of(folder.request(out))
    (table,) = summary.summarise(out, plan)
    costs = {cost.arm: cost for cost in table.costs}
    cubes, spheres = (sum(word in sample.prompt for sample in table.samples) for word in ("cube", "sphere"))
    assert 0 < cubes < 8 > spheres > 0
    assert costs["broken"].failed == cubes, "one bad picture costs itself, not its batch"
    assert costs["black"].blank == 0, "a blank candidate is not accepted, whatever the rule"
    assert costs["dark"].blank == cubes
    shy = {row.arm: row for row in table.rows["reward:shy"]}
    assert shy["black"].pictures == 8 - spheres, "where the unrefined picture has no number, nothing can be said"
    area = {row.arm: row for row in table.rows["area"]}
    assert (area["broken"].n, area["broken"].failed) == (8, cubes)
    assert (area["dark"].n, area["dark"].failed) == (8, cubes)
    for name in ("broken", "dark"):
        both = zip(table.samples, table.values["first", "area"], table.values[name, "area"], strict=True)
        assert all(before == after for sample, before, after in both if "cube" in sample.prompt), "a lost picture is zero gain"
    assert "the decoder gave up" in (out / "rows.csv").read_text()
    assert "failed: no picture" in page.gallery(out, dataclasses.replace(table, ours="broken")).text


@pytest.mark.slow
def test_two_processes_give_what_one_gives(finished: Path, tmp_path: Path) -> None:
    assert bench(tmp_path / "two", "--processes", "2", "--set", "batch=2") == 0
    assert bench(tmp_path / "one", "--set", "batch=2") == 0
    assert rows(tmp_path / "two") == rows(tmp_path / "one")
    assert len(list((tmp_path / "two").glob("arms/ours/ledger*.jsonl"))) == 2


# Statistics


def arm(name: str) -> Arm:
    neutral = {"budget": {"rounds": 0}}
    return Arm(name, "", neutral)


METRIC = metrics.Metric("x", "x", "judge", True)


def line(value: float | None) -> folder.Line:
    """A ledger's line; −1 stands for a failure."""
    spent = {"seconds": {}, "calls": {}, "evaluations": 1, "blank": False, "attempts": 0, "accepted": 0}
    return {"failed": "x"} if value == -1 else {"metrics": {"x": value}, **spent}


def table_of(values: dict[str, list[float | None]], copies: int = 1) -> summary.Row:
    """The row of a set whose lines hold ``values`` by arm."""
    count = len(values["first"])
    group = [Sample("prompts", str(i // copies), "p", i, i % copies) for i in range(count)]
    plan = Plan({}, "first", "arm", 4, {"rewards": {}}, (arm("first"), arm("arm")), {"prompts": group})
    ledgers = {name: {("prompts", s.key): line(v) for s, v in zip(group, column, strict=True)} for name, column in values.items()}
    made = summary.table("prompts", plan, [METRIC], ledgers, {"evaluation": None, "controller": None, "rewards": None})
    return made.rows["x"][0]


def test_dropped_samples_are_zero_gain() -> None:
    row = table_of({"first": [1.0, 2.0, 3.0, 4.0], "arm": [2.0, None, -1, 4.0]})
    assert (row.n, row.pictures, row.failed, row.nan) == (4, 4, 1, 1)
    assert row.gain.estimate == pytest.approx(0.25)
    assert row.changed == 1


def test_what_the_baseline_lacks_leaves_the_table() -> None:
    row = table_of({"first": [1.0, None, -1, 4.0], "arm": [2.0, 9.0, 9.0, 4.0]})
    assert (row.n, row.pictures, row.failed, row.nan) == (2, 2, 0, 0)
    assert row.gain.estimate == pytest.approx(0.5)


def test_what_got_worse_is_counted_by_repair_and_by_picture() -> None:
    def drawn(areas: list[float], strayed: list[float], core: float = 1.0) -> folder.Line:
        judged = [(area, core) for area in areas]
        metrics = {"area": areas[-1], "core": core}
        return {"metrics": metrics, "judged": judged, "accepted": len(areas) - 1, "strayed": strayed}

    base = [drawn([0.5], []), drawn([0.1], []), drawn([0.0], [])]
    lines = [drawn([0.5, 0.2, 0.3], [0.0, 0.5]), drawn([0.1, 0.4], []), {"failed": "x"}]
    assert not summary.is_worse((0.1, 1.0), (0.1009, 1.0)), "a handful of pixels"
    assert summary.is_worse((0.1, 1.0), (0.0, 0.0)), "a solid is lost"
    harm = summary.harmed("arm", lines, base)
    assert (harm.accepted, harm.strayed) == (3, 0.25)
    assert harm.repairs is not None
    assert harm.pictures is not None
    assert harm.repairs.estimate == pytest.approx(2 / 3)
    assert harm.pictures.estimate == pytest.approx(1 / 3), "a lost picture counts as the unrefined one"
    assert summary.harmed("arm", [line(1.0)], [line(1.0)]).repairs is None


def test_both_averages_of_growth_and_seeds_within_a_prompt() -> None:
    row = table_of({"first": [1.0, 1.0, 4.0, 4.0], "arm": [1.0, 3.0, 4.0, 4.0]}, copies=2)
    assert row.n == 2
    assert row.pictures == 4
    assert row.ratio is not None
    assert row.mean_ratio is not None
    assert row.ratio.estimate == pytest.approx((2 + 4) / (1 + 4) - 1)
    assert row.mean_ratio.estimate == pytest.approx((2 / 1 + 4 / 4) / 2 - 1)
    assert table_of({"first": [0.0, 1.0], "arm": [1.0, 1.0]}).ratio is None
    sparse = table_of({"first": [0.0, 1.0] * summary.SOLID, "arm": [0.0, 0.5] * summary.SOLID})
    assert sparse.ratio is not None and sparse.mean_ratio is None
    assert sparse.ratio.estimate == sparse.ratio.low == sparse.ratio.high == pytest.approx(-0.5)
    assert table_of({"first": [0.0, 1.0] * summary.SOLID, "arm": [-0.5, 1.0] * summary.SOLID}).ratio is None


# Pictures and cost


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_ticks_are_few_round_and_inside(low: float, width: float) -> None:
    axis = plots.Axis(low, low + width, 0, 100)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7
    assert all(low - 1e-6 * width <= tick <= low + width * 1.000001 for tick in ticks)


@pytest.mark.parametrize("count", [2, 3, 7, 20])
def test_cases_show_best_median_and_worst_once_each(count: int) -> None:
    group = tuple(Sample("prompts", str(i), "p", i) for i in range(count))
    gains = np.random.default_rng(count).permutation(count).astype(float)
    values = {("first", "x"): np.zeros(count), ("ours", "x"): gains}
    table = summary.Table("prompts", "first", "ours", group, {}, (METRIC,), (), {"x": ()}, (), (), (), values, {})
    shown = page.cases(table)
    assert gains[shown["Best"][0]] == count - 1
    assert gains[shown["Worst"][-1]] == 0
    every = [index for chosen in shown.values() for index in chosen]
    assert len(every) == len(set(every))


def test_plots_are_whole_and_escape_names(finished: Path) -> None:
    for path in (finished / "plots").glob("*.svg"):
        ElementTree.fromstring(path.read_text())
    shape = plots.svg(10, "<b> & 'c'", plots.text("a < b", 0, 0))
    assert ElementTree.fromstring(shape.text).attrib["aria-label"] == "<b> & 'c'"


def test_operations_are_counted_where_torch_works() -> None:
    import torch

    _, counted = cost._counted(lambda: torch.ones(3, 5) @ torch.ones(5, 7))
    assert counted == 2 * 3 * 5 * 7
    assert cost._counted(lambda: None) == (None, None)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.004, "−0.00400"), (0.00024, "0.000240"), (1e-7, "0"), (1234.5, "1234"), (12.34, "12.3"), (float("nan"), "–")],
)
def test_numbers_read_well(value: float, text: str) -> None:
    assert tables.digits(value) == text


def test_arms_without_a_difference_are_named(finished: Path) -> None:
    (table, *_) = summary.summarise(finished, command.plan_of(folder.request(finished)))
    assert tables.twins(table) == ""
    values = {**table.values, **{("ours", metric.name): table.values["first", metric.name] for metric in table.metrics}}
    assert "first = ours" in tables.twins(dataclasses.replace(table, values=values))


def test_no_arm_profits_from_what_another_has_looked_at() -> None:
    plan = command.plan_of({**command.DEFAULTS, "preset": ["mini"], "n": 2})
    assert {one.tree["controller"].get("remember") for one in plan.arms} == {0}
