"""Everything that is made from a finished (or half finished) bench."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import PIL.Image

from refine import durable
from refine.bench import folder, layouts, page, plots, summary, tables
from refine.bench.folder import Plan
from refine.bench.summary import Cost, Table
from refine.bench.work import limit
from refine.errors import going_on

COUNTED = ("generator", "controller", "rewards")  # roles whose operations are counted
ROWS, MARKDOWN, HTML, PLOTS = "rows.csv", "report.md", "report.html", "plots"


def everything(where: Path, plan: Plan) -> str:
    """Write rows.csv, report.md, report.html and plots/; pictures of a published set in its own layout. Returns what to say."""
    made = [replace(table, costs=same_models(table.costs, plan)) for table in summary.summarise(where, plan)]
    budget = limit(where)
    title = f"refine bench: {plan.request['suite']}"
    durable.replace(where / ROWS, tables.rows(where, plan))
    durable.replace(where / MARKDOWN, tables.markdown(title, plan, made, budget))
    durable.replace(where / HTML, page.page(title, where, plan, made, budget))
    for table in made:
        draw(where / PLOTS, table, budget)
    exported = export(where, plan)
    lines = [f"{table.set}: {tables.count(table)}" for table in made]
    return "\n".join([*lines, *exported, f"rows: {where / ROWS}", f"tables: {where / MARKDOWN}", f"page: {where / HTML}"])


def draw(where: Path, table: Table, budget: int) -> None:
    """Every plot of a set as a file of its own."""
    where.mkdir(parents=True, exist_ok=True)
    made = {"compute": plots.compute(table, budget), "categories": plots.categories(table), "wins": plots.wins(table)}
    for name, plot in made.items():
        path = where / f"{table.set}-{name}.svg"
        if plot is None:
            path.unlink(missing_ok=True)  # of an earlier state of the bench
        else:
            durable.replace(path, plot.text)


def same_models(costs: Sequence[Cost], plan: Plan) -> tuple[Cost, ...]:
    """The costs, without operations where an arm has other models than the base, whose calls were counted."""
    same = {arm.name for arm in plan.arms if all(arm.tree[role] == plan.common[role] for role in COUNTED)}
    return tuple(cost if cost.arm in same else replace(cost, flops=None) for cost in costs)


def export(where: Path, plan: Plan) -> list[str]:
    """The pictures of each arm as the published set's own tool reads them; nothing for other prompts."""
    source = plan.request["prompts"]
    layout = layouts.kind(Path(source)) if source else None
    if layout is None:
        return []
    wanted = {entry.id for entry in layouts.read(Path(source))} if layout in layouts.BY_PLACE else set()
    roots, told = {}, []
    for arm in plan.arms_of("prompts"):
        files = [(s, path) for s in plan.sets["prompts"] if (path := folder.picture(where, arm.name, s)).exists()]
        if missing := wanted - {sample.id for sample, _ in files if not sample.copy}:
            told.append(lacking(where, plan, arm.name, len(missing), len(wanted)))
            continue
        roots[arm.name] = layouts.write(where / layout, layout, arm.name, ((s.id, s.copy, PIL.Image.open(path)) for s, path in files))
    written = [f"pictures in the layout of {layout}: {', '.join(str(root) for root in dict.fromkeys(roots.values()))}"] if roots else []
    return [*written, *told]


def lacking(where: Path, plan: Plan, arm: str, missing: int, wanted: int) -> str:
    """Why an arm's pictures are not written for the set's own tool, and what to do."""
    planned = len({sample.id for sample in plan.sets["prompts"]})
    more = f"Go on with: refine bench {going_on(where)} --n {wanted}"
    way = more if planned < wanted else f"See the column failed of {where / ROWS}."
    return f"{missing} of {wanted} pictures of {arm} are missing; the tool would score others in their place, so none is written. {way}"
