"""Several runs side by side as one page: what they did with the same prompts and seeds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from urllib.parse import quote

from refine.errors import OutputError
from refine.record import FINAL, FIRST
from refine.report import pairing
from refine.report.article import SEPARATOR
from refine.report.document import MARK, bar, choice, closing, opening, options
from refine.report.item import opened
from refine.report.markup import Html, element, join
from refine.report.pairing import Case, Side
from refine.report.pictures import SMALL, thumbnail
from refine.report.words import plural
from refine.store import Line, item_folder, writing

INSIDE = 48  # up to so many pictures are inside the page
HEAD = 1024  # characters within which a page of ours says that it is one


def write_comparison(page: Path, runs: Sequence[Side], differences: Sequence[Sequence[str]]) -> Path:
    """Write the page that compares runs by what all of them have. ``differences``: per run after the first, how its configuration differs.

    Large comparisons link the pictures in the runs' folders, relative to the page. Raises OutputError where the page cannot be
    written or would replace a file that is not such a page.
    """
    if page.exists() and not (page.is_file() and MARK.text in page.read_text(encoding="utf-8", errors="replace")[:HEAD]):
        raise OutputError(f"{page} exists and is not a page of refine. Choose another --out.")
    cases = pairing.shared(runs)
    linked = len(cases) * (len(runs) + 1) > INSIDE
    names = pairing.measures(runs, cases)
    title = " | ".join(run.name for run in runs)
    made = page.with_name(f".{page.name}")
    with writing(page.parent, resumes=False):
        page.parent.mkdir(parents=True, exist_ok=True)
        try:
            with made.open("w", encoding="utf-8") as file:
                file.write(opening(title, linked) + head(title, runs, cases, names, differences).text)
                file.write(tools(runs, cases, names).text + "<main>\n")
                for index, case in enumerate(cases, 1):
                    file.write(row(index, case, runs, names, page.parent, linked).text + "\n")
                lists = join(alone(run, runs) for run in runs)
                file.write("</main>" + lists.text + closing(data(runs, cases)))
            made.replace(page)
        finally:
            made.unlink(missing_ok=True)
    return page


def data(runs: Sequence[Side], cases: Sequence[Case]) -> dict[str, object]:
    """The ledger's lines, case by case and run by run, for programs."""
    return {"runs": [run.name for run in runs], "cases": [[run.lines[case] for run in runs] for case in cases]}


def head(title: str, runs: Sequence[Side], cases: Sequence[Case], names: Sequence[str], differences: Sequence[Sequence[str]]) -> Html:
    """Title, the means with the differences to the first run, and what was configured otherwise."""
    note = f"{plural(len(cases), 'image')} with the same prompt and seed, final results; differences are to {runs[0].name}, image by image."
    changed = [settings(run, runs[0], lines) for run, lines in zip(runs[1:], differences, strict=True)]
    brand = element("p", "refine compare", class_="brand")
    return element("header", brand, element("h1", title), element("p", note, class_="small"), means(runs, cases, names), *changed)


def settings(run: Side, first: Side, lines: Sequence[str]) -> Html:
    words = f"Settings of {run.name} that differ from {first.name}: {len(lines)}"
    return element("details", element("summary", words), element("pre", "\n".join(lines)), class_="settings")


def means(runs: Sequence[Side], cases: Sequence[Case], names: Sequence[str]) -> Html:
    """One row per measure: the mean of every run, and on how many images a run is better or worse than the first."""
    heads = element("tr", element("th", "mean of the final images", scope="col"), *(element("th", run.name, scope="col") for run in runs))
    rows = [element("tr", element("th", name, scope="row"), *(cell(name, run, runs[0], cases) for run in runs)) for name in names]
    return element("div", element("table", element("thead", heads), element("tbody", *rows)), class_="scroll")


def cell(name: str, run: Side, first: Side, cases: Sequence[Case]) -> Html:
    value = pairing.written(name, pairing.mean([pairing.number(run.lines[case], name) for case in cases]))
    if run is first:
        return element("td", value)
    change = pairing.change(first, run, cases, name)
    return element("td", value, " ", element("span", pairing.told(name, change), class_="small"))


def tools(runs: Sequence[Side], cases: Sequence[Case], names: Sequence[str]) -> Html:
    """Search, and the images that a run did better or worse than the first."""
    rows = []
    for (index, run), name in product(list(enumerate(runs))[1:], names):
        change = pairing.change(runs[0], run, cases, name)
        counts = (("better", change.better), ("worse", change.worse))
        rows += [(f"{index}:{name}:{word}", f"{run.name} {word}: {name}", number) for word, number in counts if number]
    return bar("Search prompts", [choice("outcome", "Any difference", options(rows))], len(cases), masks=False)


def row(number: int, case: Case, runs: Sequence[Side], names: Sequence[str], base: Path, linked: bool) -> Html:
    """One prompt and seed: where it started and what became of it in each run."""
    lines = [run.lines[case] for run in runs]
    first = [(name, pairing.number(lines[0], name)) for name in names]
    marks = [
        f"{index}:{name}:{'better' if gain > 0 else 'worse'}"
        for index, line in enumerate(lines[1:], 1)
        for name, value in first
        if (gain := pairing.gain(name, value, pairing.number(line, name)))
    ]
    place = partial(picture, base=base, linked=linked)
    same = same_start([item_folder(run.folder, line["key"]) / FIRST for run, line in zip(runs, lines, strict=True)])
    before = element("figcaption", "before, in every run")
    start = element("figure", place(runs[0], lines[0]["key"], FIRST, "before repair"), before) if same else None
    ends = []
    for run, line in zip(runs, lines, strict=True):
        caption = element("figcaption", element("strong", run.name), numbers(line, lines[0], names))
        ends.append(element("figure", place(run, line["key"], FINAL, f"final image of {run.name}"), caption))
    title = element("h2", element("span", number, class_="index"), " ", case[0] or "(no prompt)")
    small = f"seed {case[1]}" + ("" if same else " · the runs started from different pictures")
    body = element("div", start, *ends, class_="sides")
    parts = (title, element("p", small, class_="small"), body)
    return element("section", *parts, class_="item case", id=f"image-{number}", tabindex=-1, data_outcome=SEPARATOR.join(marks))


def numbers(line: Line, first: Line, names: Sequence[str]) -> Html:
    """A run's measures of one image, with the difference to the first run's coloured by whether it is for the better."""
    rows = []
    for name in names:
        value, other = pairing.number(line, name), pairing.number(first, name)
        sign = None
        if gain := pairing.gain(name, other, value):
            change = pairing.difference(name, gain * pairing.direction(name))
            sign = element("span", f"{change} better" if gain > 0 else f"{change} worse", class_="better" if gain > 0 else "worse")
        rows.append(element("div", element("dt", name), element("dd", pairing.written(name, value)), element("dd", sign)))
    return element("dl", *rows, class_="against")


def picture(run: Side, key: str, file: str, alt: str, base: Path, linked: bool) -> Html:
    """An image of a run: embedded, or linked from the page's folder ``base``."""
    path = item_folder(run.folder, key) / file
    image = opened(path)
    if not linked:
        return thumbnail(image, SMALL, alt)
    link = quote(Path(os.path.relpath(path, base)).as_posix())
    shown = element("img", src=link, alt=alt, width=image.width, height=image.height, loading="lazy", decoding="async")
    return element("a", shown, href=link)


def same_start(paths: Sequence[Path]) -> bool:
    """True where the first images hold the same pixels."""
    images = map(opened, paths)
    return len({(image.mode, image.size, image.tobytes()) for image in images}) == 1


def alone(run: Side, runs: Sequence[Side]) -> Html | None:
    """What a run has that not all of them have."""
    cases = [case for case in run.lines if not all(case in other.lines for other in runs)]
    if not cases:
        return None
    rows = [element("li", case[0] or "(no prompt)", element("span", f" seed {case[1]}", class_="small")) for case in cases]
    words = f"{plural(len(cases), 'image')} of {run.name} not in every run"
    return element("details", element("summary", words), element("ol", *rows), class_="settings")
