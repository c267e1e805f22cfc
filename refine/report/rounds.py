"""What was tried on one image, round by round, and why it was kept or not."""

from __future__ import annotations

from collections.abc import Sequence

from refine.record import unrle
from refine.report.diff import revision
from refine.report.item import Item, Json
from refine.report.markup import Html, element
from refine.report.masks import drawn, hue, shape, svg
from refine.report.pictures import MEDIUM, cropped, shown
from refine.report.verdicts import evidence, state, why
from refine.report.words import NO_CATEGORY, percent, plural
from refine.types import Box


def starts(item: Item) -> list[list[str]]:
    """Per round, the file of the image before each attempt, and at the end that of the image after the last one."""
    current, table = item.data["first"]["image"], []
    for turn in item.data["rounds"]:
        row = [current]
        for attempt in turn["attempts"]:
            if attempt["kept"] is not None:
                current = attempt["candidates"][attempt["kept"]]["image"]
            row.append(current)
        table.append(row)
    return table


def strip(item: Item, turn: Json, files: Sequence[str]) -> Html:
    """One round: the faults it started from, then its attempts, each with everything that was tried."""
    number = turn["index"] + 1
    critique = turn["critique"]
    small = element("span", f"starts from {faults(critique)}", class_="small")
    attempts = [attempt_row(item, one, file) for one, file in zip(turn["attempts"], files, strict=False)]
    return element("section", element("h3", f"Round {number}", small), judged(item, files[0], critique, f"r{number}"), *attempts)


def faults(critique: Json) -> str:
    found = len(critique["regions"])
    return f"{plural(found, 'fault')} on {percent(critique['area'])} of the image" if found else "no fault"


def judged(item: Item, file: str, critique: Json, name: str) -> Html:
    """An image under the outlines of its faults, with the legend beside it: what is wrong where, and why."""
    figure = element("figure", marked(item, file, critique, name, MEDIUM))
    return element("div", figure, legend(critique, name), class_="judged")


def marked(item: Item, file: str, critique: Json, name: str, side: int) -> Html:
    """An image under the outlines of its faults."""
    shapes = [shape(region, index, f"{name}-{index}") for index, region in enumerate(critique["regions"], 1)]
    picture = shown(item, file, side, f"the image at this point, {faults(critique)} marked")
    return element("div", picture, svg(critique["size"], shapes), class_="stage")


def legend(critique: Json, name: str) -> Html:
    """What is wrong, fault by fault, and the controller's own words of the whole."""
    regions = enumerate(critique["regions"], 1)
    entries = [element("li", *words_of(region, index), class_=hue(index), data_region=f"{name}-{index}") for index, region in regions]
    nothing = element("p", "The controller marks nothing here.", class_="quiet")
    summary = element("p", f"In its words: {critique['summary']}", class_="small") if critique["summary"] else None
    return element("div", element("ol", *entries, class_="faults") if entries else nothing, summary, class_="judgement")


def words_of(region: Json, index: int) -> list[Html | None]:
    """A fault in words: number, phrase, category, size, explanation."""
    kind = element("span", region["category"] or NO_CATEGORY, class_="kind")
    sure = "–" if region["score"] is None else f"{region['score']:.2f}"  # null: it was no number
    size = element("span", f"{percent(region['area'])}, score {sure}", class_="small")
    head = element("p", element("span", index, class_="chip"), element("strong", region["phrase"]), kind, size, class_="phrase")
    return [head, element("p", region["explanation"]) if region["explanation"] else None]


def attempt_row(item: Item, attempt: Json, file: str) -> Html:
    """What was asked, the pixels it started from, and the candidates with their verdicts."""
    action = attempt["action"]
    box = next((tuple(one["box"]) for one in attempt["candidates"] if one["box"]), None)
    whole = "More first drawings to choose from" if action.get("first") else "Draw the whole image again"
    title = f"Repair: {action['region']['phrase']}" if action["kind"] == "inpaint" else whole
    same = action["prompt"] == item.data["prompt"]
    words = [
        element("h4", title),
        asked("prompt", "as given" if same else revision(item.data["prompt"], action["prompt"])),
        asked("not", action["negative_prompt"]),
        asked("cut, beyond the text encoder's budget", action["dropped"]),
        asked("note", action.get("note", "")),
    ]
    tried = zip(attempt["candidates"], attempt["verdicts"], strict=True)
    options = [candidate(item, one, verdict, box, attempt["kept"] == index) for index, (one, verdict) in enumerate(tried)]
    pictures = element("div", start(item, attempt, file, box), *options, class_="strip")
    return element("div", element("div", *words, class_="asked"), pictures, class_="attempt")


def asked(label: str, text: Html | str) -> Html | None:
    return element("p", element("span", label, class_="label"), text) if text else None


def start(item: Item, attempt: Json, file: str, box: Box | None) -> Html:
    """Where an attempt started: the pixels, and the border of what it may change."""
    size = (box[2] - box[0], box[3] - box[1]) if box else tuple(item.data["size"])
    mask = unrle(attempt["mask"]) if attempt["mask"] else None
    inside = mask[box[1] : box[3], box[0] : box[2]] if mask is not None and box else mask
    marks = svg(size, [drawn(inside, "where")]) if inside is not None else None
    picture = cropped(item, file, box, "where the attempt started, with the border of what it may change")
    return element("figure", element("div", picture, marks, class_="stage"), element("figcaption", "from"), class_="candidate start")


def candidate(item: Item, data: Json, verdict: Json, box: Box | None, kept: bool) -> Html:
    """One candidate: the repaired crop, what became of it and why, and the numbers."""
    word = state(verdict, kept)
    reason = None if verdict["accepted"] else element("p", why(verdict, item.gate), class_="reason")
    how = [("strength", f"{data['strength']:g}" if data["strength"] else "new image"), ("seed", data["seed"])]
    rows = [element("div", element("dt", name), element("dd", value)) for name, value in [*evidence(verdict["numbers"]), *how]]
    picture = element("div", cropped(item, data["image"], box, f"candidate, {word}"), class_="stage")
    link = item.link(data["image"])
    whole = element("a", "whole picture", href=link) if link and box else None
    caption = element("figcaption", element("p", word, class_="state"), reason, element("dl", *rows, class_="evidence"), whole)
    return element("figure", picture, caption, class_="candidate" + (" kept" if kept else ""))
