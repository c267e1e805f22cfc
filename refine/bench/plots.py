"""Plots as SVG text, drawn by a few small functions: no plotting library, sharp at any size, readable in light and dark pages.

Frame: a plot is ``WIDTH`` × its height in user units; data is mapped to it by ``Axis``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from refine.bench.metrics import Metric
from refine.bench.summary import Table, by_category, over_compute, win_matrix
from refine.bench.tables import STEERED, titled
from refine.evals.statistics import Interval
from refine.report.markup import Html, element, join

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 860, 84, 190, 44, 52
HUES = ("#6b7280", "#1d6fd8", "#d9480f", "#2b8a3e", "#a845c4", "#cb3165", "#0e7f92", "#a86a00", "#7a5cf0", "#8a6a52", "#5c8f0d", "#9c4f8a")
STYLE = (
    "text{font:12px ui-sans-serif,system-ui,sans-serif;fill:light-dark(#1f2023,#e8e6e1)}.soft{fill:light-dark(#6a6b70,#9b9ca3)}"
    ".title{font-size:14px;font-weight:600}.axis{stroke:light-dark(#d8d6d0,#33353c);fill:none}.zero{stroke:light-dark(#8a8b90,#7b7c83);fill:none}"
    ".whisker{stroke:light-dark(#1f2023,#e8e6e1);stroke-width:1.5}"
)


@dataclass(frozen=True, slots=True)
class Axis:
    """A linear map from data to user units, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self, count: int = 5) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten, at most ``count`` + 1 of them."""
        rough = (self.high - self.low) / count
        power = 10 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
        return [index * step for index in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def spanning(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that shows zero and all values, with a little room."""
    low, high = min(0.0, *values), max(0.0, *values)
    room = (high - low) * 0.06 or 1.0
    return Axis(low - room, high + room, start, end)


def svg(height: float, title: str, *shapes: Html | None) -> Html:
    """A whole picture, with its own style and a name for screen readers."""
    head = element("text", title, x=12, y=22, class_="title")
    size = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 0 {WIDTH} {height:g}", "style": "color-scheme:light dark"}
    return element("svg", element("style", Html(STYLE)), head, *shapes, role="img", aria_label=title, **size)


def text(content: str, x: float, y: float, anchor: str = "start", class_: str | None = None, **more: str) -> Html:
    return element("text", content, x=f"{x:g}", y=f"{y:g}", text_anchor=anchor, class_=class_, **more)


def line(x1: float, y1: float, x2: float, y2: float, class_: str | None = None, **more: str | float) -> Html:
    return element("line", x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}", class_=class_, **more)


def mark(value: float) -> str:
    """A round number under a tick."""
    return f"{value:g}".replace("-", "−")


def change(metric: Metric) -> str:
    """The name of an axis."""
    return f"change{f' ({metric.change_unit})' if metric.unit else ''}"


def compute(table: Table, most: int) -> Html | None:
    """Mean change by the first metric against denoiser evaluations spent, one line with its 95 % band per arm; None without curves."""
    if not table.curves:
        return None
    metric = table.metrics[0]
    height = 440
    curves = {row.arm: over_compute(table, row.arm, most) for row in table.rows[metric.name]}
    steered = {row.arm for row in table.rows[metric.name] if row.steered}
    values = [value * metric.scale for curve in curves.values() for _, gain in curve for value in (gain.low, gain.high)]
    y = spanning(values, height - BOTTOM, TOP)
    x = Axis(0, most, LEFT, WIDTH - RIGHT)
    bands, lines, ends = [], [], []
    for index, (arm, curve) in enumerate(curves.items()):
        hue = HUES[(index + 1) % len(HUES)]
        steps = stairs([(x(point), *(y(v * metric.scale) for v in (gain.estimate, gain.low, gain.high))) for point, gain in curve])
        upper, lower = (" ".join(f"{step[0]},{step[k]}" for step in steps) for k in (3, 2))
        back = " ".join(reversed(lower.split(" ")))
        bands.append(element("polygon", points=f"{upper} {back}", fill=hue, fill_opacity=0.08))
        points = " ".join(f"{step[0]},{step[1]}" for step in steps)
        lines.append(element("polyline", points=points, fill="none", stroke=hue, stroke_width=2, stroke_linejoin="round"))
        ends.append((steps[-1][1], f"{arm}{' ' + STEERED if arm in steered else ''}", hue))
    labels = [text(name, WIDTH - RIGHT + 12, at + 4, style=f"fill:{hue}") for at, name, hue in spread(ends)]
    below = "denoiser evaluations per picture (bands: 95 % percentile bootstrap, 2,000 resamples)"
    frame = axes(x, y, height, below, change(metric))
    direction = "up is better" if metric.higher_is_better else "down is better"
    return svg(height, f"{table.set}: {metric.title} against compute, {direction}", frame, *bands, *lines, *labels)


def stairs(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """The points with a corner before each: a value holds until the next one is paid for."""
    corners = ((after[0], *before[1:]) for before, after in pairwise(points))
    return [points[0], *(one for pair in zip(corners, points[1:], strict=True) for one in pair)]


def spread(ends: Sequence[tuple[float, str, str]], gap: float = 15, lowest: float = 440 - BOTTOM) -> list[tuple[float, str, str]]:
    """Labels in the order of their heights, moved apart where they would overlap, and up where they would be below ``lowest``."""
    placed: list[tuple[float, str, str]] = []
    for at, name, hue in sorted(ends):
        placed.append((max(at, placed[-1][0] + gap) if placed else at, name, hue))
    for index, (at, name, hue) in reversed(list(enumerate(placed))):
        placed[index] = min(at, lowest), name, hue
        lowest = placed[index][0] - gap
    return placed


def axes(x: Axis, y: Axis, height: float, below: str, beside: str) -> Html:
    """Grid lines with their numbers, the line of no change, and what the axes are."""
    rows = [
        join((line(x.start, y(v), x.end, y(v), "axis" if v else "zero"), text(mark(v), x.start - 8, y(v) + 4, "end", "soft")))
        for v in y.ticks()
    ]
    columns = [text(mark(v), x(v), height - BOTTOM + 18, "middle", "soft") for v in x.ticks()]
    middle = (y.start + y.end) / 2
    names = [
        text(below, (x.start + x.end) / 2, height - 12, "middle", "soft"),
        text(beside, 20, middle, "middle", "soft", transform=f"rotate(-90 20 {middle:g})"),
    ]
    return join((*rows, *columns, *names))


def categories(table: Table) -> Html | None:
    """Bars of the mean change of ``ours`` by category of the samples, with 95 % intervals; None without categories."""
    if not table.metrics:
        return None
    metric = table.metrics[0]
    found = by_category(table, metric, table.ours)
    if not found:
        return None
    height = TOP + 40 * len(found) + BOTTOM
    bounds = [v * metric.scale for _, gain in found.values() if gain for v in (gain.low, gain.high)]
    x = spanning(bounds or [1.0], LEFT + 90, WIDTH - 60)
    shapes = []
    for index, (name, (count, gain)) in enumerate(found.items()):
        middle = TOP + 40 * index + 22
        shapes.append(text(name, LEFT + 78, middle - 1, "end"))
        shapes.append(text(f"n = {count}", LEFT + 78, middle + 13, "end", "soft"))
        if gain is None:
            shapes.append(text("too few prompts for an interval", x.start + 8, middle + 4, "start", "soft"))
            continue
        low, at, high = (x(v * metric.scale) for v in (gain.low, gain.estimate, gain.high))
        good = (gain.estimate > 0) == metric.higher_is_better
        fill = "#2b8a3e" if good else "#d9480f"
        left, wide = min(x(0), at), abs(at - x(0))
        shapes.append(element("rect", x=f"{left:g}", y=middle - 9, width=f"{wide:g}", height=18, rx=3, fill=fill, fill_opacity=0.75))
        shapes.append(line(low, middle, high, middle, "whisker"))
    base = height - BOTTOM + 4
    ticks = [
        join((line(x(v), TOP, x(v), base, "axis" if v else "zero"), text(mark(v), x(v), base + 16, "middle", "soft"))) for v in x.ticks()
    ]
    below = text(f"mean {change(metric)}, with 95 % BCa intervals; n: prompts", (x.start + x.end) / 2, height - 10, "middle", "soft")
    return svg(height, f"{table.set}: {titled(table, metric, table.ours)} of {table.ours} by category", *ticks, *shapes, below)


def wins(table: Table) -> Html | None:
    """Every arm against every other: the share of prompts, of those that differ, where the arm of the row is better; None without."""
    if not table.metrics:
        return None
    metric = table.metrics[0]
    names, cells = [cost.arm for cost in table.costs], win_matrix(table, metric)
    side, left, top = min(52.0, 620 / len(names)), 150, 118
    height = top + 30 * len(names) + 30
    shapes = []
    for row, name in enumerate(names):
        y = top + 30 * row
        shapes.append(text(name, left - 10, y + 19, "end"))
        x = left + side * (row + 0.5)
        shapes.append(text(name, x, top - 10, "start", transform=f"rotate(-38 {x:g} {top - 10})"))
        for column, cell in enumerate(cells[row]):
            if cell is not None:
                shapes.append(cell_of(cell, left + side * column, y, side))
    key = "of the prompts that differ; pale: the 95 % interval (Wilson's) holds 50 %; =: none differs"
    shapes.append(text(key, 12, height - 8, class_="soft"))
    return svg(height, f"{table.set}: {titled(table, metric)}, how often the row beats the column (%)", *shapes)


def cell_of(cell: Interval, x: float, y: float, side: float) -> Html:
    """One square: green where the row wins, red where it loses, pale where the interval holds one half."""
    open_ = cell.low <= 0.5 <= cell.high
    fill = "#8a8b90" if cell.estimate == 0.5 else "#2b8a3e" if cell.estimate > 0.5 else "#d9480f"
    strength = 0.12 if open_ else 0.2 + abs(cell.estimate - 0.5)
    box = element("rect", x=f"{x + 1:g}", y=y + 1, width=f"{side - 2:g}", height=28, rx=4, fill=fill, fill_opacity=round(strength, 2))
    nothing = cell.low == 0.0 and cell.high == 1.0
    return join((box, text("=" if nothing else f"{100 * cell.estimate:.0f}", x + side / 2, y + 19, "middle")))
