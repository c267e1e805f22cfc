"""Tables of a bench: one CSV row per picture and arm, and markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from refine.bench import folder
from refine.bench.folder import Plan
from refine.bench.metrics import Metric
from refine.bench.summary import Cost, Duel, Harm, Row, Table
from refine.evals.statistics import Interval

STEERED = "†"
NONE = "–"
COST_HEADS = (
    "arm", "what it is", "pictures", "failed", "blank", "denoiser evaluations, mean (most)", "generator, s", "controller, s", "rewards, s",
    "TFLOP", "accepted / tried",
)  # fmt: skip
HARM_NOTE = (
    "What it made worse, by the judge: the artifact area rose by more than 0.1 % of the picture, or count, colours, shapes and order are "
    "not all right any more. The intervals (Wilson's) count pictures and repairs, not prompts: more seeds narrow them without new prompts."
)
HARM_HEADS = (
    "arm", "accepted repairs", "of these, judged worse", "pictures judged worse than unrefined", "pixels changed outside the masks",
)  # fmt: skip
DETAIL_HEADS = (
    "arm", "baseline → arm", "change [95 % CI]", "ratio of means", "mean of ratios", "better, of those that differ", "p (sign)",
    "p (Holm)", "n", "pictures", "failed or blank", "arm not a number",
)  # fmt: skip


def rows(where: Path, plan: Plan) -> str:
    """CSV of every sample of every arm: what was measured, spent and decided. Empty cells: failed, or not a number."""
    ledgers = {arm.name: folder.ledger(where, arm.name) for arm in plan.arms}
    made = []
    for name, group in plan.sets.items():
        for sample in group:
            for arm in plan.arms_of(name):
                line = ledgers[arm.name].get((name, sample.key))
                if line is None:
                    continue
                head = {"set": name, "id": sample.id, "seed": sample.seed, "category": sample.category, "arm": arm.name}
                plain = {key: line.get(key) for key in ("failed", "blank", "evaluations", "attempts", "accepted", "stop")}
                seconds = {f"seconds_{key}": value for key, value in line.get("seconds", {}).items()}
                made.append(head | plain | seconds | line.get("metrics", {}) | {"prompt": sample.prompt})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in made for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(made)
    return text.getvalue()


def markdown(title: str, plan: Plan, tables: Sequence[Table], budget: int) -> str:
    """The whole report as text."""
    return "\n\n".join([f"# {title}", *notes(plan, budget), *(text for table in tables for text in section(table))]) + "\n"


def section(table: Table) -> list[str]:
    """Paragraphs and grids of one set; a set without anything to compare is named, with the reason."""
    head = [f"## {table.set}: {count(table)}"]
    if not table.metrics:
        return [*head, *remarks(table)]
    return [
        *head,
        "Change against the unrefined picture, mean [95 % CI].",
        grid(*overview(table)),
        *glossary(table),
        *remarks(table),
        "What it cost, per picture:",
        grid(COST_HEADS, [cost_row(cost) for cost in table.costs]),
        HARM_NOTE,
        grid(HARM_HEADS, [harm_row(harm) for harm in table.harm]),
        *(part for title, heads, body in details(table) for part in (f"### {table.set}: {title}", grid(heads, body))),
        *ids(table),
    ]


def details(table: Table) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """(title, heads, rows) of every metric's statistics; after the first one's, ours against the other arms."""
    made = [(heading(table, one), DETAIL_HEADS, [detail(row, one) for row in table.rows[one.name]]) for one in table.metrics]
    first, ours = table.metrics[0], table.ours
    heads = ("arm", f"{ours} − arm [95 % CI]", f"{ours} better, of those that differ", "p (sign)", "p (Holm)")
    title = f"{ours} against the other arms: {titled(table, first)} ({better(first)})"
    duels = [(title, heads, [duel_row(duel, first) for duel in table.duels])] if table.duels else []
    return [*made[:1], *duels, *made[1:]]


def heading(table: Table, metric: Metric) -> str:
    """ "hps (higher is better; baseline not a number: 4)"."""
    lacking = missing(table, metric)
    return f"{metric.title} ({better(metric)}{f'; baseline not a number: {lacking}' if lacking else ''})"


def titled(table: Table, metric: Metric, *arms: str) -> str:
    """The metric's title, marked where it steered one of these arms (none named: any arm)."""
    steered = any(row.steered for row in table.rows[metric.name] if not arms or row.arm in arms)
    return f"{metric.title}{' ' + STEERED if steered else ''}"


def notes(plan: Plan, budget: int) -> list[str]:
    """How to read the tables; what was done, and with what."""
    return [
        f"Every arm gets the same prompts, seeds and at most {budget} denoiser evaluations per picture. Each is compared, picture by "
        f"picture, with the arm `{plan.baseline}`. The unit is the prompt; intervals of changes are 95 % BCa bootstrap (10,000 resamples) "
        "over prompts, wins have Wilson's interval, p-values are exact sign tests, adjusted for the number of arms by Holm's method.",
        f"{STEERED} this metric steered the arm (in a title: an arm shown there), so it proves nothing about it. \\* more prompts improved "
        "than got worse, or the reverse (sign test, Holm-adjusted p < 0.05), and the mean points the same way. The change of a share is in "
        "points, a relative one in %. A change of at most a millionth is none. A sample that an arm failed on or left blank, or whose "
        "score is not a number, counts as the unrefined picture: zero gain.",
    ]


def count(table: Table) -> str:
    """ "64 prompts, 64 pictures per arm", and what was left out."""
    prompts = len({sample.id for sample in table.samples})
    reasons = ", ".join(f"{number} {reason}" for reason, number in table.left_out.items() if number)
    out = f", {sum(table.left_out.values())} left out: {reasons}" if reasons else ""
    whose = "per arm" if len(table.costs) > 1 else f"of {table.baseline} alone"
    return f"{'' if table.metrics else 'nothing to compare: '}{prompts} prompts, {len(table.samples)} pictures {whose}{out}"


def missing(table: Table, metric: Metric) -> int:
    """Pictures of the baseline without a number, which leave the metric's table."""
    return int(np.isnan(table.values[table.baseline, metric.name]).sum())


def glossary(table: Table) -> list[str]:
    """What the columns are, in one line; none where they are rewards alone."""
    told = [f"{metric.title}: {metric.about}" for metric in table.metrics if metric.about]
    return [f"{'; '.join(told)}."] if told else []


def remarks(table: Table) -> list[str]:
    """What to know beside the numbers."""
    return [text for text in (gaps(table), twins(table)) if text]


def gaps(table: Table) -> str:
    """A warning where the baseline lacks a number, metric by metric. Empty without."""
    lacking = {metric: missing(table, metric) for metric in (*table.metrics, *table.dropped)}
    kept = {metric: f"{table.rows[metric.name][0].n} prompts counted" for metric in table.metrics}
    told = [
        f"{metric.title} on {number} of {len(table.samples)} pictures, {kept.get(metric, 'not shown')}"
        for metric, number in lacking.items()
        if number
    ]
    return f"Baseline not a number: {'; '.join(told)}." if told else ""


def ids(table: Table) -> list[str]:
    """The prompts that were compared; and by which metric fewer."""
    known = [np.isfinite(table.values[table.baseline, metric.name]) for metric in table.metrics]
    lines = [f"ids: {_ids(table, np.logical_or.reduce(known).tolist())}"]
    return lines + [
        f"ids with a baseline by {metric.title}: {_ids(table, there.tolist())}"
        for metric, there in zip(table.metrics, known, strict=True)
        if not there.all()
    ]


def _ids(table: Table, chosen: Sequence[bool]) -> str:
    return ", ".join(dict.fromkeys(sample.id for sample, there in zip(table.samples, chosen, strict=True) if there))


def twins(table: Table) -> str:
    """A warning where arms have the same numbers on every picture: what they change was not in use. Empty without."""
    if not table.metrics:
        return ""
    groups: dict[tuple[bytes, ...], list[str]] = {}
    drawn = [cost for cost in table.costs if cost.pictures > cost.blank]  # what is lost everywhere stands at the baseline's values
    for cost in drawn:
        groups.setdefault(tuple(table.values[cost.arm, metric.name].tobytes() for metric in table.metrics), []).append(cost.arm)
    same = [" = ".join(names) for names in groups.values() if len(names) > 1]
    return f"Equal on every picture (what these arms change made no difference here): {'; '.join(same)}." if same else ""


def better(metric: Metric) -> str:
    return "higher is better" if metric.higher_is_better else "lower is better"


def overview(table: Table) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: an arm per row, a metric per column; the baseline's row holds its means."""
    heads = ["arm", *(f"{metric.title} {'↑' if metric.higher_is_better else '↓'}" for metric in table.metrics)]
    first = [table.baseline, *(number(table.rows[metric.name][0].baseline, metric) for metric in table.metrics)]
    body = [
        [arm.arm, *(change(table.rows[metric.name][index], metric) for metric in table.metrics)]
        for index, arm in enumerate(table.rows[table.metrics[0].name])
    ]
    return heads, [first, *body]


def change(row: Row, metric: Metric) -> str:
    """ "−1.20 points [−2.0, −0.4] *". The star needs more wins than losses where the mean is a gain, and more losses where it is none."""
    agree = (row.wins.estimate - 0.5) * metric.sign * row.gain.estimate > 0
    star = " \\*" if row.p_holm < 0.05 and agree else ""
    return f"{interval(row.gain, metric.scale, metric.change_unit)}{star}{' ' + STEERED if row.steered else ''}"


def detail(row: Row, metric: Metric) -> list[str]:
    """Cells under ``DETAIL_HEADS``."""
    return [
        row.arm + (f" {STEERED}" if row.steered else ""),
        f"{number(row.baseline, metric)} → {number(row.mean, metric)}",
        interval(row.gain, metric.scale, metric.change_unit),
        interval(row.ratio, 100, "%") if row.ratio else NONE,
        interval(row.mean_ratio, 100, "%") if row.mean_ratio else NONE,
        *sign_cells(row),
        *(str(value) for value in (row.n, row.pictures, row.failed, row.nan)),
    ]


def duel_row(duel: Duel, metric: Metric) -> list[str]:
    """Cells under the heads of ours against the other arms."""
    return [duel.arm, interval(duel.gain, metric.scale, metric.change_unit), *sign_cells(duel)]


def sign_cells(row: Row | Duel) -> list[str]:
    """Wins, and the sign test's p-values."""
    wins = f"{interval(row.wins, 100, '%', signed=False)} of {row.changed}" if row.changed else "none differs"
    return [wins, f"{row.p:.2g}", f"{row.p_holm:.2g}"]


def cost_row(cost: Cost) -> list[str]:
    """Cells under ``COST_HEADS``."""
    seconds = [f"{cost.seconds[name]:.2f}" for name in ("generator", "controller", "rewards")]
    counts = [str(value) for value in (cost.pictures, cost.failed, cost.blank)]
    spent = f"{cost.evaluations:.1f} ({cost.most_evaluations})"
    tera = f"{cost.flops / 1e12:.3g}" if cost.flops else NONE
    return [cost.arm, cost.about, *counts, spent, *seconds, tera, f"{cost.accepted} / {cost.tried}"]


def harm_row(harm: Harm) -> list[str]:
    """Cells under ``HARM_HEADS``."""
    shares = [interval(one, 100, "%", signed=False) if one else NONE for one in (harm.repairs, harm.pictures)]
    return [harm.arm, str(harm.accepted), *shares, NONE if harm.strayed is None else f"{digits(100 * harm.strayed)} %"]


def number(value: float, metric: Metric) -> str:
    return f"{digits(value * metric.scale)}{' ' + metric.unit if metric.unit else ''}"


def interval(value: Interval, scale: float, unit: str, signed: bool = True) -> str:
    """ "+1.20 % [0.40, 2.00]"."""
    middle = digits(value.estimate * scale)
    plus = "+" if signed and value.estimate > 0 else ""
    return f"{plus}{middle}{' ' + unit if unit else ''} [{digits(value.low * scale)}, {digits(value.high * scale)}]"


def digits(value: float) -> str:
    """Three figures, at most six decimals, with a true minus sign."""
    if not math.isfinite(value):
        return NONE
    places = next((places for places in range(6) if abs(value) >= 10 ** (2 - places)), 6)
    text = f"{value:.{places}f}"
    return text.replace("-", "−") if float(text) else "0"


def grid(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [heads, ["---"] * len(heads), *body]
    return "\n".join("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines)
