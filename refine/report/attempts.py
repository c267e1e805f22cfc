"""What was tried on one image, round by round, and why it was kept or not."""

from __future__ import annotations

from collections.abc import Sequence

from refine.gate import REASONS
from refine.report.item import Item, Json
from refine.report.markup import Html, element
from refine.report.pictures import cropped
from refine.report.words import count, percent, score
from refine.types import Box


def starts(item: Item) -> list[list[str]]:
    """Per round and attempt, the file of the image that the attempt started from."""
    current, table = item.data["first"]["image"], []
    for turn in item.data["rounds"]:
        row = []
        for attempt in turn["attempts"]:
            row.append(current)
            if attempt["kept"] is not None:
                current = attempt["candidates"][attempt["kept"]]["image"]
        table.append(row)
    return table


def strip(item: Item, turn: Json, files: Sequence[str]) -> Html:
    """One round: its attempts, each with everything that was tried."""
    area = percent(turn["critique"]["area"])
    head = element("h3", f"Round {turn['index'] + 1}", element("span", f"starts at {area} artifact area", class_="small"))
    return element("section", head, *(attempt_row(item, one, file) for one, file in zip(turn["attempts"], files, strict=True)))


def attempt_row(item: Item, attempt: Json, file: str) -> Html:
    """What was asked, the pixels it started from, and the candidates with their verdicts."""
    action = attempt["action"]
    boxes = [one["box"] for one in attempt["candidates"] if one["box"]]
    box = tuple(boxes[0]) if boxes else None
    title = f"Repair: {action['region']['phrase']}" if action["kind"] == "inpaint" else "Draw the whole image again"
    words = [element("p", element("strong", title)), asked("prompt", action["prompt"]), asked("not", action["negative_prompt"])]
    words += [asked("cut, beyond the text encoder's budget", action["dropped"]), asked("note", action.get("note", ""))]
    start = element("figure", cropped(item.picture(file), box, attempt["mask"]), element("figcaption", "from"), class_="candidate start")
    options = [
        candidate(item, one, verdict, box, attempt["kept"] == index)
        for index, (one, verdict) in enumerate(zip(attempt["candidates"], attempt["verdicts"], strict=True))
    ]
    return element("div", element("div", *words, class_="asked"), element("div", start, *options, class_="strip"), class_="attempt")


def asked(label: str, text: str) -> Html | None:
    return element("p", element("span", label, class_="label"), text) if text else None


def candidate(item: Item, data: Json, verdict: Json, box: Box | None, kept: bool) -> Html:
    """One candidate: the repaired crop, what became of it and why, and the numbers."""
    word = "✓ kept" if kept else "better, but not the best" if verdict["accepted"] else "✕ rejected"
    reason = None if verdict["accepted"] else element("p", REASONS.get(verdict["reason"], verdict["reason"]), class_="reason")
    rows = [
        *evidence(verdict["numbers"]),
        ("strength", f"{data['strength']:g}" if data["strength"] else "new image"),
        ("seed", data["seed"]),
    ]
    numbers = element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in rows), class_="evidence")
    picture = cropped(item.picture(data["image"]), box, None, word)
    caption = element("figcaption", element("p", word, class_="state"), reason, numbers)
    return element("figure", picture, caption, class_="candidate" + (" kept" if kept else ""))


def evidence(numbers: Json) -> list[tuple[str, str]]:
    """The numbers a verdict was decided on: artifact mass in pixels, and how far each reward moved."""
    rows = []
    for place, label in (("inside", "fault"), ("outside", "elsewhere")):
        if f"{place}_before" in numbers:
            rows.append((label, f"{count(numbers[f'{place}_before'])} → {count(numbers[f'{place}_after'])} px"))
    for key, drop in numbers.items():
        kind, colon, name = key.partition(":")
        if colon and kind in ("drop", "crop_drop"):
            rows.append((name + (", crop" if kind == "crop_drop" else ""), score(None if drop is None else -drop, signed=True)))
    return rows
