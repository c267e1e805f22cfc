"""The bench as one page that works offline: tables, plots, and a gallery of the best, the median and the worst cases alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

from refine.bench import folder, plots, tables
from refine.bench.folder import Plan
from refine.bench.metrics import Metric
from refine.bench.summary import Row, Table
from refine.evals.statistics import settled
from refine.report.markup import Html, element, join
from refine.report.pictures import data_uri
from refine.trees import dump

STYLE = Path(__file__).with_name("bench.css")
SHOWN = 3  # cases of each kind
SIDE = 256  # pixels
KEY = (
    "Change against the unrefined picture, mean [95 % CI]. Green: the interval excludes zero, for the better; red: for the worse; "
    "grey: the metric steered the arm."
)


def page(title: str, where: Path, plan: Plan, made: Sequence[Table], budget: int) -> str:
    """The whole document."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    notes = [element("p", text.replace("\\*", "*").replace("`", ""), class_="note") for text in tables.notes(plan, budget)]
    asked = dump({"request": plan.request, **plan.tree})
    settings = element("details", element("summary", "Request and configuration"), element("pre", asked))
    body = element(
        "body", element("p", "refine bench", class_="brand"), element("h1", title.partition(": ")[2]), *notes,
        *(section(where, table, budget) for table in made), settings,
    )  # fmt: skip
    return "<!doctype html>\n" + element("html", head, body, lang="en").text + "\n"


def section(where: Path, table: Table, budget: int) -> Html:
    """One set: change by every metric, plots, gallery, cost, and the whole statistics folded away."""
    remarks = [element("p", text, class_="note") for text in tables.remarks(table)]
    if not table.metrics:
        return element("section", element("h2", table.set), element("p", f"{tables.count(table)}.", class_="note"), *remarks)
    details = [join((element("h3", title), grid(heads, body))) for title, heads, body in tables.details(table)]
    pictures = (plots.compute(table, budget), plots.categories(table), plots.wins(table))
    ids = [element("p", text, class_="note") for text in tables.ids(table)]
    return element(
        "section",
        element("h2", table.set),
        element("p", f"{tables.count(table)}. {KEY}", class_="note"),
        overview(table),
        *(element("p", text, class_="note") for text in tables.glossary(table)),
        *remarks,
        *(element("div", plot, class_="plot") for plot in pictures if plot is not None),
        gallery(where, table),
        element("h3", "What it cost, per picture"),
        grid(tables.COST_HEADS, [tables.cost_row(cost) for cost in table.costs], words=1),
        element("h3", "What it made worse"),
        element("p", tables.HARM_NOTE, class_="note"),
        grid(tables.HARM_HEADS, [tables.harm_row(harm) for harm in table.harm]),
        element("details", element("summary", "All statistics, and the ids of the prompts"), *details, *ids),
    )


def overview(table: Table) -> Html:
    """An arm per row, a metric per column; what is sure is coloured, what steered is grey."""
    heads, body = tables.overview(table)
    first, *others = body
    rows = [element("tr", *(element("td", cell) for cell in first))]
    for index, cells in enumerate(others):
        arm = cells[0]
        kinds = [None, *(kind(table.rows[metric.name][index], metric) for metric in table.metrics)]
        row = (element("td", *stacked(cell.replace("\\*", "*")), class_=name) for cell, name in zip(cells, kinds, strict=True))
        rows.append(element("tr", *row, class_="ours" if arm == table.ours else None))
    return scroll([head.replace(" ↑", "\u00a0↑").replace(" ↓", "\u00a0↓") for head in heads], rows)


def stacked(cell: str) -> tuple[str | Html, ...]:
    """An estimate with its marks, and below them its interval: so all columns fit side by side."""
    value, bracket, rest = cell.partition(" [")
    bounds, _, marks = rest.partition("]")
    return (value + marks, element("small", f" [{bounds}]")) if bracket else (cell,)


def kind(row: Row, metric: Metric) -> str | None:
    """The class of a cell: steered, or good and bad where the interval excludes zero."""
    if row.steered:
        return "steered"
    return None if not row.gain.excludes_zero else "good" if (row.gain.estimate > 0) == metric.higher_is_better else "bad"


def grid(heads: Sequence[str], body: Sequence[Sequence[str]], words: int | None = None) -> Html:
    """A table; ``words``: the column that holds sentences."""
    kinds = ["words" if index == words else None for index in range(len(heads))]
    lines = ((element("td", cell, class_=kind) for cell, kind in zip(line, kinds, strict=True)) for line in body)
    return scroll(heads, [element("tr", *line) for line in lines])


def scroll(heads: Sequence[str], rows: Sequence[Html]) -> Html:
    head = element("thead", element("tr", *(element("th", text, scope="col") for text in heads)))
    return element("div", element("table", head, element("tbody", *rows)), class_="scroll")


def gallery(where: Path, table: Table) -> Html:
    """Before and after of ``ours``: the best, the median and the worst by the first metric; never the best alone."""
    metric = table.metrics[0]
    return join(
        join((
            element("h3", f"{name} of {table.ours} by {tables.titled(table, metric, table.ours)}"),
            element("div", *(case(where, table, index) for index in chosen), class_="cases"),
        ))
        for name, chosen in cases(table).items()
    )  # fmt: skip


def cases(table: Table) -> dict[str, list[int]]:
    """Indices of samples, most improved first; a sample is shown once."""
    metric = table.metrics[0]
    pairs = settled(np.stack([table.values[arm, metric.name] for arm in (table.baseline, table.ours)], 1))
    gains = metric.sign * (pairs[:, 1] - pairs[:, 0])
    order = [int(i) for i in np.argsort(-gains, kind="stable") if np.isfinite(gains[i])]
    count = min(SHOWN, max(1, len(order) // 3))
    best, worst = order[:count], order[max(count, len(order) - count) :]
    middle = [i for i in order if i not in best and i not in worst]
    start = max(0, (len(middle) - count) // 2)
    return {"Best": best, "Median": middle[start : start + count], "Worst": worst}


def case(where: Path, table: Table, index: int) -> Html:
    """One pair of pictures with the numbers that chose it."""
    sample, metric = table.samples[index], table.metrics[0]
    files = [folder.picture(where, arm, sample) for arm in (table.baseline, table.ours)]
    images = [shown(path, alt) for path, alt in zip(files, ("before", "after"), strict=True)]
    before, after = (table.values[arm, metric.name][index] for arm in (table.baseline, table.ours))
    numbers = element("b", f"{tables.number(before, metric)} → {tables.number(after, metric)}")
    return element("figure", *images, element("figcaption", numbers, f" {sample.prompt} ({sample.key})"), class_="case")


def shown(path: Path, alt: str) -> Html:
    if not path.exists():
        return element("span", "failed: no picture")
    with PIL.Image.open(path) as image:
        return element("img", src=data_uri(image.convert("RGB"), SIDE), alt=alt, width=image.width, height=image.height)
