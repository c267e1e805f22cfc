"""Everything about one image: before and after, faults with their explanations, measures, attempts."""

from __future__ import annotations

from collections.abc import Sequence

from refine.report.attempts import starts, strip
from refine.report.item import Item, Json
from refine.report.markup import Html, element
from refine.report.pictures import LARGE, hue, shape, svg, thumbnail
from refine.report.words import percent, prompt_of, score, stop_of
from refine.types import Image


def article(item: Item, unfolded: bool) -> Html:
    """Everything about one image."""
    data = item.data
    first, final = item.picture(data["first"]["image"]), item.picture(data["best"]["image"])
    figures = element(
        "div",
        compare(first, final),
        found(first, data["first"]["critique"], "Found", "first"),
        found(final, data["best"]["critique"], "Left", "final"),
        class_="figures",
    )
    rounds = [strip(item, turn, start) for turn, start in zip(data["rounds"], starts(item), strict=True)]
    story = element("details", element("summary", "Every attempt"), *rounds, class_="rounds", open=unfolded) if item.attempts else None
    return element(
        "article",
        heading(item),
        figures,
        element("div", explanations(data["first"]["critique"]["regions"]), measures(item), class_="notes"),
        story,
        id=f"image-{item.number}",
    )


def heading(item: Item) -> Html:
    """Prompt, outcome and the small facts."""
    data = item.data
    small = [f"seed {data['seed']}", f"{data['size'][0]} × {data['size'][1]} px"]
    small += [f"given: {data['source']['name']}"] if data.get("source") else []
    small += [stop_of(item), f"{data['evaluations']} denoiser evaluations", f"{data['seconds']:.1f} s"]
    notes = [element("p", note, class_="note") for note in data.get("notes", [])]
    title = element("h2", element("span", item.number, class_="index"), element("span", prompt_of(item)))
    return element("div", element("div", title, outcome(item), class_="title"), element("p", " · ".join(small), class_="small"), *notes)


def outcome(item: Item) -> Html:
    tried = len(item.attempts)
    if item.kept:
        return element("span", f"{item.kept} of {tried} {'repair' if tried == 1 else 'repairs'} kept", class_="badge good")
    return element("span", "unchanged: no repair was better" if tried else stop_of(item), class_="badge")


def compare(first: Image, final: Image) -> Html:
    """Before and after under one slider."""
    slider = element("input", type="range", min=0, max=100, value=50, step=1, aria_label="Show less or more of the image after repair")
    stage = element(
        "div",
        thumbnail(first, LARGE, "before repair"),
        thumbnail(final, LARGE, "after repair", class_="after"),
        element("span", class_="knob", aria_hidden="true"),
        element("span", "before", class_="tag left", aria_hidden="true"),
        element("span", "after", class_="tag right", aria_hidden="true"),
        slider,
        class_="stage compare",
    )
    return element("figure", stage, element("figcaption", "Before and after"))


def found(image: Image, critique: Json, word: str, name: str) -> Html:
    """An image under the outlines of its faults."""
    regions = critique["regions"]
    shapes = [shape(region, index, f"{name}-{index}") for index, region in enumerate(regions, 1)]
    tips = [tip(region, index, f"{name}-{index}") for index, region in enumerate(regions, 1)]
    faults = f"{len(regions) or 'no'} {'fault' if len(regions) == 1 else 'faults'}"
    stage = element("div", thumbnail(image, LARGE, f"{faults} marked"), svg(critique["size"], shapes), *tips, class_="stage")
    share = f", {percent(critique['area'])} of the image" if regions else ""
    return element("figure", stage, element("figcaption", f"{word}: {faults}{share}"))


def tip(region: Json, index: int, name: str) -> Html:
    """What is shown while a fault is pointed at or in focus."""
    return element("div", *words_of(region, index), class_=f"tip {hue(index)}", data_tip=name, aria_hidden="true")


def words_of(region: Json, index: int) -> list[Html]:
    kind = element("span", region["category"], class_="kind") if region["category"] else None
    head = element("p", element("span", index, class_="chip"), element("strong", region["phrase"]), kind, class_="phrase")
    return [head, element("p", region["explanation"])] if region["explanation"] else [head]


def explanations(regions: Sequence[Json]) -> Html:
    """What is wrong, fault by fault."""
    if not regions:
        return element("p", "The controller found nothing wrong with this image.", class_="quiet")
    entries = [
        element("li", *words_of(region, index), class_=hue(index), data_region=f"first-{index}") for index, region in enumerate(regions, 1)
    ]
    return element("ol", *entries, class_="faults")


def measures(item: Item) -> Html:
    """Artifact area and rewards, before → after."""
    first, best = item.data["first"], item.data["best"]
    rows = [measure("Artifact area", percent(first["critique"]["area"]), percent(best["critique"]["area"]))]
    rows += [measure(name, score(value), score(best["scores"].get(name))) for name, value in first["scores"].items()]
    if first["critique"]["fake_probability"] is not None:
        rows.append(measure("Looks generated", *(percent(end["critique"]["fake_probability"]) for end in (first, best))))
    return element("dl", *rows, class_="measures")


def measure(name: str, before: str, after: str) -> Html:
    return element("div", element("dt", name), element("dd", before, class_="was"), element("dd", "→ " + after))
