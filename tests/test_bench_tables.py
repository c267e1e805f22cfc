"""What a bench tells: nothing that is missing goes unsaid, no number flatters, and no plot contradicts its table."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refine import cli
from refine.bench import folder, page, plots, publish, summary, tables, work
from refine.bench.arms import Arm
from refine.bench.folder import Plan
from refine.bench.metrics import BY_SET, Metric
from refine.bench.samples import Sample
from refine.bench.summary import Table
from refine.commands import bench as command
from refine.evals import statistics
from tests.html_pages import Page

X = Metric("x", "x", "judge", True)
Y = Metric("y", "y", "reward:y", True)
Values = Sequence[float | None]


def line(value: float | None, curve: Values | None = None, **more: object) -> folder.Line:
    """A ledger's line; −1 stands for a failure."""
    steps = [(4 * index, number) for index, number in enumerate([value] if curve is None else curve)]
    spent = {"seconds": {}, "calls": {}, "evaluations": 1, "blank": False, "attempts": 0, "accepted": 0}
    return {"failed": "x"} if value == -1 else {"metrics": {"x": value}, "curve": steps, "curve_of": "x", **spent, **more}


def table(ledgers: dict[str, list[folder.Line]], columns: Sequence[Metric] = (X,), ours: str = "arm") -> Table:
    """The set ``prompts`` of these lines by arm; the first arm is the baseline."""
    group = [Sample("prompts", str(index), "p", index, 0, "kind") for index in range(len(next(iter(ledgers.values()))))]
    made = tuple(Arm(name, "", {"budget": {"rounds": 0}}) for name in ledgers)
    plan = Plan({}, made[0].name, ours, 4, {"rewards": {}}, made, {"prompts": group})
    lines = {name: {("prompts", s.key): one for s, one in zip(group, column, strict=True)} for name, column in ledgers.items()}
    return summary.table("prompts", plan, columns, lines, {"evaluation": None, "controller": None, "rewards": None})


def paired(**columns: Values) -> Table:
    return table({name: [line(value) for value in column] for name, column in columns.items()})


def report(one: Table) -> str:
    plan = Plan({}, one.baseline, one.ours, 4, {}, (), {})
    return tables.markdown("bench", plan, [one], 16)


# Arms that do not run everywhere


def test_a_bench_whose_arms_run_on_some_sets_is_published(tmp_path: Path) -> None:
    asked = ["bench", "--preset", "painter", "--n", "prompts=2,damaged=2", "--arm", "one-draw", "--arm", "random-mask"]
    assert cli.main([*asked, "--out", str(tmp_path / "out")]) == 0
    made = summary.summarise(tmp_path / "out", command.plan_of(folder.request(tmp_path / "out")))
    assert {one.set: one.ours for one in made} == {"prompts": "one-draw", "damaged": "random-mask"}


def test_a_set_of_the_baseline_alone_says_so(tmp_path: Path) -> None:
    alone = paired(first=[1.0, 2.0])
    assert "nothing to compare" in report(alone)
    assert "first alone" in report(alone)
    assert "nothing to compare" in page.section(tmp_path, alone, 16).text
    (tmp_path / "prompts-wins.svg").write_text("of an earlier state")
    publish.draw(tmp_path, alone, 16)
    assert not list(tmp_path.glob("*.svg"))


# What is missing


def test_a_set_whose_baseline_failed_everywhere_is_reported() -> None:
    text = report(paired(first=[-1, -1, -1], arm=[1.0, 2.0, 3.0]))
    assert "## prompts: nothing to compare: 0 prompts, 0 pictures per arm, 3 left out: 3 failed or blank unrefined" in text


def test_samples_that_are_left_out_are_counted_by_reason() -> None:
    ledgers = {"first": [line(1.0), line(-1), line(1.0), line(2.0)], "arm": [summary.MISSING, line(1.0), line(1.0), line(2.0)]}
    assert tables.count(table(ledgers)).endswith("2 left out: 1 not finished by every arm, 1 failed or blank unrefined")


def test_what_has_no_number_on_the_baseline_is_counted_by_metric(tmp_path: Path) -> None:
    first = [line(1.0, metrics={"x": 1.0 if i > 3 else None, "y": 1.0}) for i in range(6)]
    arm = [line(1.0, metrics={"x": 2.0, "y": 1.0}) for _ in range(6)]
    none = Metric("z", "zeta", "judge", True)
    made = table({"first": first, "arm": arm}, (X, none, Y))
    text = report(made)
    assert "Baseline not a number: x on 4 of 6 pictures, 2 prompts counted; zeta on 6 of 6 pictures, not shown." in text
    assert "x (higher is better; baseline not a number: 4)" in text
    assert text.endswith("ids: 0, 1, 2, 3, 4, 5\n\nids with a baseline by x: 4, 5\n")
    shown = page.section(tmp_path, made, 16).text
    assert "zeta on 6 of 6 pictures, not shown" in shown
    assert "ids with a baseline by x: 4, 5" in shown
    assert tables.gaps(paired(first=[1.0, 2.0], arm=[1.0, 2.0])) == ""


# What steers


def test_what_steered_no_arm_is_looked_at_first(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a cat on a sofa\na violinist\n")
    asked = {**command.DEFAULTS, "preset": ["mini"], "arm": ["ours"], "held_out": ["imagereward"]}
    free = work.tables(command.plan_of({**asked, "prompts": str(tmp_path / "p.txt")}))
    assert [metric.name for metric in free["prompts"]] == ["reward:imagereward", "reward:hps", "controller"]
    still = work.tables(command.plan_of(asked))
    assert {name: found[0].name for name, found in still.items()} == {"prompts": "area", "damaged": "inside", "clean": "harm"}


def test_a_ceiling_does_not_push_the_truth_back() -> None:
    plan = command.plan_of({**command.DEFAULTS, "preset": ["mini"], "arm": ["ours", "oracle-mask"], "n": "damaged=2"})
    assert work.tables(plan)["damaged"][0].name == "inside"


def test_titles_mark_what_steered_a_shown_arm(tmp_path: Path) -> None:
    made = paired(first=[1.0, 2.0, 3.0], arm=[1.0, 2.5, 3.0], other=[1.0, 2.0, 2.0])
    rows = tuple(dataclasses.replace(row, steered=row.arm == "other") for row in made.rows["x"])
    mixed = dataclasses.replace(made, rows={"x": rows})
    assert "x †, how often" in str(plots.wins(mixed))
    assert "†" not in page.gallery(tmp_path, mixed).text
    own = dataclasses.replace(mixed, ours="other")
    assert "by x †" in page.gallery(tmp_path, own).text
    assert "x † of other" in str(plots.categories(own))


# Numbers that do not flatter


def test_a_star_stands_only_where_wins_and_mean_agree() -> None:
    first = [6.0] * 45
    against = paired(first=first, arm=[6.1] * 40 + [1.0] * 5)
    row = against.rows["x"][0]
    assert row.p_holm < 0.05
    assert row.gain.estimate == pytest.approx(-0.4667, abs=1e-4)
    assert "*" not in tables.change(row, X)
    assert "*" in tables.change(paired(first=first, arm=[6.1] * 40 + [5.99] * 5).rows["x"][0], X)
    down = dataclasses.replace(X, higher_is_better=False)
    fallen = table({"first": [line(6.0)] * 9, "arm": [line(5.0)] * 9}, (down,)).rows["x"][0]
    assert "*" in tables.change(fallen, down)


@pytest.mark.parametrize("noise", [1e-7, -1e-7])
def test_the_last_bits_of_a_score_are_no_win(noise: float) -> None:
    count = 12
    base = [0.5 * index for index in range(count)]
    made = paired(first=base, arm=[value + noise for value in base])
    row = made.rows["x"][0]
    assert (row.changed, row.p, row.gain.estimate, row.wins.low) == (0, 1.0, 0.0, 0.0)
    assert summary.win_matrix(made, X)[1][0] == statistics.Interval(0.5, 0.0, 1.0)


def test_changes_of_shares_are_points_and_levels_are_percent() -> None:
    share = Metric("x", "area", "judge", False, 100, "%")
    made = table({"first": [line(0.5), line(0.25)], "arm": [line(0.25), line(0.125)]}, (share,))
    row = made.rows["x"][0]
    assert tables.change(row, share).startswith("−18.8 points [")
    detail = tables.detail(row, share)
    assert detail[1] == "37.5 % → 18.8 %"
    assert detail[2].startswith("−18.8 points [")
    assert detail[3].startswith("−50.0 % ["), "a ratio is relative"
    assert "change (points)" in str(plots.categories(made))
    assert "change (points)" in str(plots.compute(made, 16))


def test_every_column_that_is_no_reward_is_explained(tmp_path: Path) -> None:
    for name, own in BY_SET.items():
        made = table({"first": [line(1.0)] * 2, "arm": [line(2.0)] * 2})
        rows = {metric.name: made.rows["x"] for metric in own}
        values = {(arm, metric.name): made.values[arm, "x"] for arm in ("first", "arm") for metric in own}
        shown = dataclasses.replace(made, metrics=own, rows=rows, values=values)
        for text in (report(shown), Page(page.section(tmp_path, shown, 16).text).words):
            assert all(f"{metric.title}: {metric.about}" in text for metric in own), name
            assert "in levels of 255" in text or name == "prompts"
    assert tables.glossary(paired(first=[1.0, 2.0], arm=[1.0, 2.0])) == []


def test_a_cell_of_the_page_holds_what_the_table_says() -> None:
    for cell in ("0 %", "+1.20 points [0.40, 2.00] * †", "−0.5 [−0.9, −0.1]"):
        words = "".join(part if isinstance(part, str) else re.sub("<[^>]*>", "", part.text) for part in page.stacked(cell))
        assert sorted(words.split()) == sorted(cell.split())


def test_a_cell_is_one_line_of_a_table() -> None:
    assert tables.grid(["arm"], [["a\n b|c"]]).splitlines()[-1] == "| a b\\|c |"


def test_an_arm_without_pictures_is_no_twin() -> None:
    lost = paired(first=[1.0, 2.0], arm=[-1, -1], same=[1.0, 2.0])
    assert "first = same" in tables.twins(lost)
    assert "= arm" not in tables.twins(lost)


def test_the_harm_table_says_what_it_counts() -> None:
    assert "pictures and repairs, not prompts" in tables.HARM_NOTE


# Ours against the others


def test_ours_is_compared_with_every_other_arm_pair_by_pair(tmp_path: Path) -> None:
    first = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    made = paired(first=first, arm=[v + 1 for v in first], other=[v + 0.5 for v in first], same=[v + 1 for v in first])
    other, same = made.duels
    assert (other.arm, same.arm) == ("other", "same")
    assert (other.gain.estimate, other.gain.low, other.wins.estimate, other.changed) == (0.5, 0.5, 1.0, 7)
    assert other.p == pytest.approx(2 / 2**7)
    assert other.p_holm == pytest.approx(4 / 2**7), "adjusted for two comparisons"
    assert (same.changed, same.p_holm) == (0, 1.0)
    for text in (report(made), page.section(tmp_path, made, 16).text):
        assert "arm against the other arms: x" in text
        assert "+0.500 [0.500, 0.500]" in text
    assert "against the other arms" not in report(paired(first=first, arm=first)), "there is no other arm"


def test_duels_use_the_prompt_as_their_unit_and_the_metrics_direction() -> None:
    down = dataclasses.replace(X, higher_is_better=False)
    ledgers = {"first": [1.0, 2.0, 3.0], "arm": [0.5, 1.0, 3.0], "other": [1.0, 2.0, None]}
    (duel,) = table({name: [line(v) for v in column] for name, column in ledgers.items()}, (down,)).duels
    assert duel.gain.estimate == pytest.approx(-0.5), "what has no number counts as the unrefined picture"
    assert (duel.wins.estimate, duel.changed) == (1.0, 2)


# Compute


def test_a_value_holds_until_the_next_is_paid_for() -> None:
    assert plots.stairs([(0.0, 5.0), (10.0, 7.0), (20.0, 7.0)]) == [(0.0, 5.0), (10.0, 5.0), (10.0, 7.0), (20.0, 7.0), (20.0, 7.0)]


@given(st.lists(st.floats(plots.TOP, 440 - plots.BOTTOM), min_size=1, max_size=12))
def test_labels_keep_apart_inside_and_near_their_lines(heights: list[float]) -> None:
    ends = sorted((at, str(index), "") for index, at in enumerate(heights))
    placed = plots.spread(ends)
    assert all(after[0] - before[0] >= 15 - 1e-6 for before, after in pairwise(placed))
    assert placed[-1][0] <= 440 - plots.BOTTOM
    gaps = [math.inf, *(after[0] - before[0] for before, after in pairwise(ends)), math.inf]
    crowd = 15 * len(ends)
    for index, ((at, _, _), (now, _, _)) in enumerate(zip(ends, placed, strict=True)):
        if min(gaps[index : index + 2]) > crowd and at <= 440 - plots.BOTTOM:
            assert now == at, "what stands alone is not moved"


def test_lines_are_seen_on_light_and_on_dark_cards() -> None:
    style = page.STYLE.read_text(encoding="utf-8")
    cards = re.search(r"--card: light-dark\((#\w{6}), (#\w{6})\)", style)
    assert cards is not None

    def light(hue: str) -> float:
        parts = [int(hue[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.03928 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for hue in plots.HUES:
        for card in cards.groups():
            low, high = sorted((light(hue), light(card)))
            assert (high + 0.05) / (low + 0.05) >= 3, (hue, card)


def test_lost_pictures_are_flat_over_compute_as_they_are_in_the_table() -> None:
    first = [line(1.0), line(1.0), line(1.0)]
    made = table({"first": first, "arm": [line(3.0, [1.0, 3.0]), line(1.0, [5.0, 9.0], blank=True), line(-1)]})
    last = summary.over_compute(made, "arm", 16)[-1][1]
    assert last.estimate == pytest.approx(made.rows["x"][0].gain.estimate) == pytest.approx(2 / 3)
    assert "95 % percentile bootstrap, 2,000 resamples" in str(plots.compute(made, 16))


@pytest.mark.parametrize(
    "other",
    [{"curve_of": "y"}, {"curve_of": None}, {"curve": [None]}],
    ids=["of another metric", "of an unknown one", "without numbers"],
)
def test_curves_of_another_metric_are_not_drawn(other: dict[str, object]) -> None:
    first = [line(1.0), line(2.0)]
    made = table({"first": first, "arm": [line(1.0), line(2.0, **other)]})
    assert plots.compute(made, 16) is None
    assert plots.compute(table({"first": first, "arm": first}), 16) is not None


def test_a_real_bench_draws_its_curves(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.main(["bench", "--preset", "painter", "--n", "damaged=2", "--arm", "ours", "--out", str(out)]) == 0
    assert (out / "plots" / "damaged-compute.svg").exists()
    (made,) = summary.summarise(out, command.plan_of(folder.request(out)))
    points = summary.over_compute(made, "ours", 16)
    gain = made.rows[made.metrics[0].name][0].gain
    assert points[-1][1].estimate == pytest.approx(gain.estimate, abs=1e-6)
    assert made.metrics[0].name == "inside" and gain.estimate != 0
