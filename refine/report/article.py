"""One image of the run: a row that unfolds into its whole story."""

from __future__ import annotations

from refine.report.item import Item
from refine.report.markup import Child, Html, element
from refine.report.pictures import LARGE, TINY, shown, thumbnail
from refine.report.plots import course
from refine.report.rounds import judged, legend, marked, starts, strip
from refine.report.words import NO_CATEGORY, arrow, outcome_of, percent, plural, prompt_of, score, stop_of

KEY = "Attempt by attempt: the line is what was kept so far, dots are candidates (green: kept), shaded is too low for the gate."
SEPARATOR = "\n"  # between the values of a data attribute: reasons of foreign plug-ins may hold blanks


def article(item: Item, unfolded: bool) -> Html:
    """Row and story of one image. The data attributes are what the page filters by."""
    return element(
        "details",
        row(item),
        story(item),
        class_="item",
        id=f"image-{item.number}",
        open=unfolded,
        data_outcome=outcome_of(item),
        data_reasons=SEPARATOR.join(reasons(item)),
        data_categories=SEPARATOR.join(categories(item)),
    )


def reasons(item: Item) -> list[str]:
    """``stop:CODE`` for why the loop ended, and ``reject:CODE`` for every reason that a candidate was rejected for."""
    refused = {verdict["reason"] for attempt in item.attempts for verdict in attempt["verdicts"] if not verdict["accepted"]}
    return [f"stop:{item.data['stop_reason']}", *(f"reject:{reason}" for reason in sorted(refused))]


def categories(item: Item) -> list[str]:
    """The categories of all faults that were found at any point."""
    critiques = [item.data["first"]["critique"], *(turn["critique"] for turn in item.data["rounds"])]
    return sorted({region["category"] or NO_CATEGORY for critique in critiques for region in critique["regions"]})


def row(item: Item) -> Html:
    """What is seen of a folded image: pictures, prompt, measures before → after, outcome."""
    first, best = item.data["first"], item.data["best"]
    ends = [(first, "before repair"), *([(best, "after repair")] if item.changed else [])]
    pictures = [thumbnail(item.picture(end["image"]), TINY, f"{alt}: {prompt_of(item)}") for end, alt in ends]
    numbers = [pair("artifacts", arrow(percent(first["critique"]["area"]), percent(best["critique"]["area"])))]
    numbers += [pair(name, arrow(score(value), score(best["scores"].get(name)))) for name, value in first["scores"].items()]
    return element(
        "summary",
        element("span", item.number, class_="index"),
        element("span", *pictures, class_="pair"),
        element("h2", prompt_of(item)),
        element("span", *numbers, class_="numbers"),
        badge(item),
    )


def pair(label: str, value: str) -> Html:
    return element("span", element("span", label, class_="label"), value)


def badge(item: Item) -> Html:
    tried = len(item.repairs)
    if item.kept:
        return element("span", f"{item.kept} of {plural(tried, 'repair')} kept", class_="badge good")
    if item.changed:
        more = ", no repair was better" if tried else ""
        return element("span", f"the cleanest of {item.drawings} drawings{more}", class_="badge good")
    return element("span", "unchanged: no repair was better" if tried else stop_of(item), class_="badge")


def story(item: Item) -> Html:
    """Before and after with the measures, every round, and what is left at the end."""
    best = item.data["best"]
    rounds = [strip(item, turn, files) for turn, files in zip(item.data["rounds"], starts(item), strict=True)]
    head = element("h3", "At the end", element("span", stop_of(item), class_="small"))
    same = element("p", "The image stays as it was.", class_="quiet")
    last = judged(item, best["image"], best["critique"], "end") if item.changed else same
    top = element("div", compared(item), measures(item), class_="top judged")
    return element("article", facts(item), top, *rounds, element("section", head, last) if item.attempts else None)


def facts(item: Item) -> Html:
    """The small facts, and what the store had to say of the image."""
    data = item.data
    small: list[Child] = [f"seed {data['seed']}", f"{data['size'][0]} × {data['size'][1]} px"]
    small += [f"given: {data['source']['name']}"] if data.get("source") else []
    small += [f"{data['evaluations']} denoiser evaluations", f"{data['seconds']:.1f} s", f"items/{data['key']}"]
    parts = [element("span", part) for part in small]
    parts += [element("a", name, href=link) for name in ("first.png", "final.png", "record.json") if (link := item.link(name))]
    notes = [element("p", note, class_="note") for note in data.get("notes", [])]
    return element("div", element("p", *parts, class_="small facts-line"), *notes)


def compared(item: Item) -> Html:
    """The first and the final image under one slider; the one picture where nothing changed."""
    first, best = item.data["first"]["image"], item.data["best"]["image"]
    if not item.changed:
        return element("figure", marked(item, best, item.data["best"]["critique"], "top", LARGE), element("figcaption", "Unchanged"))
    slider = element(
        "input",
        type="range",
        min=0,
        max=100,
        value=50,
        step=1,
        autocomplete="off",
        aria_label="How much is covered by the image before repair",
    )
    stage = element(
        "div",
        shown(item, first, LARGE, f"before repair: {prompt_of(item)}"),
        shown(item, best, LARGE, f"after repair: {prompt_of(item)}", class_="after"),
        element("span", class_="knob", aria_hidden="true"),
        element("span", "before", class_="tag left", aria_hidden="true"),
        element("span", "after", class_="tag right", aria_hidden="true"),
        slider,
        class_="stage compare",
    )
    return element("figure", stage, element("figcaption", "Before and after: drag, or press ← and →"))


def measures(item: Item) -> Html:
    """Artifact area and rewards, before → after, each with its course over the attempts."""
    first, best = item.data["first"], item.data["best"]
    rows = [measure("Artifact area", percent(first["critique"]["area"]), percent(best["critique"]["area"]), course(item, "area"))]
    rows += [measure(name, score(value), score(best["scores"].get(name)), course(item, name)) for name, value in first["scores"].items()]
    if first["critique"]["fake_probability"] is not None:
        before, after = (percent(end["critique"]["fake_probability"]) for end in (first, best))
        rows.append(measure("Looks generated", before, after))
    said = None if item.attempts else legend(best["critique"], "top")
    return element("div", element("dl", *rows, class_="measures"), element("p", KEY, class_="small") if item.attempts else None, said)


def measure(name: str, before: str, after: str, plot: Html | None = None) -> Html:
    change = [element("dd", before if before != after else None, class_="was"), element("dd", f"→ {after}" if before != after else after)]
    return element("div", element("dt", name), *change, element("dd", plot, class_="plot") if plot else None)
