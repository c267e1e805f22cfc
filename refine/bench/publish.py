"""Everything that is made from a finished (or half finished) bench."""

from __future__ import annotations

from pathlib import Path

import PIL.Image

from refine import durable
from refine.bench import folder, layouts, page, plots, summary, tables
from refine.bench.folder import Plan
from refine.bench.summary import Table
from refine.bench.work import limit

ROWS, MARKDOWN, HTML, PLOTS = "rows.csv", "report.md", "report.html", "plots"


def everything(where: Path, plan: Plan) -> str:
    """Write rows.csv, report.md, report.html and plots/; pictures of a published set in its own layout. Returns what to say."""
    made = summary.summarise(where, plan)
    budget = limit(where)
    title = f"refine bench: {plan.request['suite']}"
    durable.replace(where / ROWS, tables.rows(where, plan))
    durable.replace(where / MARKDOWN, tables.markdown(title, plan, made, budget))
    durable.replace(where / HTML, page.page(title, where, plan, made, budget))
    for table in made:
        draw(where / PLOTS, table, budget)
    exported = export(where, plan)
    lines = [f"{table.set}: {tables.count(table)}" for table in made] or ["no set has two finished prompts yet"]
    return "\n".join([*lines, *exported, f"rows: {where / ROWS}", f"tables: {where / MARKDOWN}", f"page: {where / HTML}"])


def draw(where: Path, table: Table, budget: int) -> None:
    """Every plot of a set as a file of its own."""
    where.mkdir(parents=True, exist_ok=True)
    made = {"compute": plots.compute(table, budget), "categories": plots.categories(table), "wins": plots.wins(table)}
    for name, plot in made.items():
        if plot is not None:
            durable.replace(where / f"{table.set}-{name}.svg", plot.text)


def export(where: Path, plan: Plan) -> list[str]:
    """The pictures of each arm as the published set's own tool reads them; nothing for other prompts."""
    source = plan.request["prompts"]
    layout = layouts.kind(Path(source)) if source else None
    if layout is None:
        return []
    roots = {}
    for arm in plan.arms_of("prompts"):
        files = ((s, folder.picture(where, arm.name, s)) for s in plan.sets["prompts"])
        pictures = ((s.id, s.copy, PIL.Image.open(path)) for s, path in files if path.exists())
        roots[arm.name] = layouts.write(where / layout, layout, arm.name, pictures)
    return [f"pictures in the layout of {layout}: {', '.join(str(root) for root in dict.fromkeys(roots.values()))}"]
