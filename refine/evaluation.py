"""A controller measured on a set, in a folder that can be stopped and resumed at any time.

eval.yaml      what was asked for, the settings that may not change in a resumed evaluation, versions
images.jsonl   append-only, synced after each batch: one line per picture and condition, or per entry that was left out
images.csv     the same as a table
table.md       the measures with their intervals, beside published figures

What an entry could not give is tried again in a resumed evaluation; what was measured is kept.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from refine import durable
from refine.errors import ConfigError, InputError, OutputError, RefineError, going_on
from refine.evals import controller_table
from refine.evals.controller import PER_PICTURE, UNTOUCHED, Row, measure
from refine.evals.controller_table import Report
from refine.evals.datasets.items import Dataset, Entry, Fault, Item
from refine.evals.perturb import Perturbation
from refine.evals.sentences import Encoder, similarities
from refine.store import writing
from refine.trees import Tree, differences, dump, load
from refine.types import Controller, Image
from refine.versions import versions

HEAD, LINES, CSV, TABLE = "eval.yaml", "images.jsonl", "images.csv", "table.md"
Key = tuple[str, str]  # condition, id


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a folder holds: the rows that were measured, and the entries that were left out."""

    rows: Mapping[Key, Row]
    faults: Mapping[Key, Fault]


@dataclass(frozen=True, slots=True)
class Work:
    """What an evaluation has to do: every entry under every condition (None: as it is), ``batch`` pictures at a time."""

    entries: tuple[Entry, ...]
    conditions: tuple[Perturbation | None, ...]
    batch: int

    @property
    def total(self) -> int:
        return len(self.entries) * len(self.conditions)


def settings(dataset: Dataset, controller: Tree, encoder: str | None) -> Tree:
    """What rows of one folder must have in common; rows of two controllers, or of two versions of a set, are a sample of neither."""
    return {
        "dataset": dataset.name,
        "split": dataset.split,
        "annotations": dataset.fingerprint,
        "encoder": encoder,
        "controller": controller,
    }


def create(folder: Path, asked: Tree, fixed: Tree) -> None:
    """A new folder. Raises OutputError where there is something in it already."""
    with writing(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists already. Choose another --out, or go on with it: {going_on(folder)}.")
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(folder / HEAD, dump({"asked": asked, "settings": fixed, "versions": versions()}))


def asked_for(folder: Path) -> Tree:
    """What an evaluation was asked for. Raises InputError where the folder is none."""
    return dict(_head(folder)["asked"])


def must_match(folder: Path, fixed: Tree) -> None:
    """Raises ConfigError, with every difference, where the folder holds rows of other settings."""
    if changed := differences(_head(folder)["settings"], fixed):
        faults = [f"{folder} was made with other settings ({line})" for line in changed]
        raise ConfigError(faults, "Leave the options out to go on as it was, or choose another --out.")


def _head(folder: Path) -> Tree:
    try:
        head = load((folder / HEAD).read_text(encoding="utf-8"), str(folder / HEAD))
        return {"asked": head["asked"], "settings": head["settings"]}
    except (OSError, KeyError) as error:
        raise InputError(f"{folder} is not the folder of an evaluation ({HEAD} cannot be read: {error}).") from error


def ledger(folder: Path) -> Ledger:
    """Every finished line; the last one of a picture counts, one that a crash cut short does not."""
    rows: dict[Key, Row] = {}
    faults: dict[Key, Fault] = {}
    for text in durable.lines(folder / LINES):
        try:
            line = json.loads(text)
            key = (line["condition"], line["id"])
            if "fault" in line:
                faults[key] = Fault(line["id"], line["fault"], line["detail"])
            else:
                rows[key] = Row.from_json(line)
        except (ValueError, TypeError, KeyError):
            continue
    return Ledger(rows, {key: fault for key, fault in faults.items() if key not in rows})


def run(folder: Path, work: Work, controller: Controller, encoder: Encoder | None, advance: Callable[[int], None]) -> None:
    """Look at every picture that has no row yet. ``advance`` is told how many entries each batch has finished."""
    finished = ledger(folder).rows
    for condition in work.conditions:
        name = str(condition or UNTOUCHED)
        todo = [entry for entry in work.entries if (name, entry.id) not in finished]
        for start in range(0, len(todo), work.batch):
            chunk = todo[start : start + work.batch]
            read = [entry.read() for entry in chunk]
            items = [one for one in read if isinstance(one, Item)]
            lines = [row.to_json() for row in look(items, condition, controller, encoder)]
            lines += [
                {"id": entry.id, "condition": name, "fault": one.kind, "detail": one.detail}
                for entry, one in zip(chunk, read, strict=True)
                if isinstance(one, Fault)
            ]
            with writing(folder):
                durable.append(folder / LINES, [json.dumps(line, ensure_ascii=False, allow_nan=False) for line in lines])
            advance(len(chunk))


def look(items: Sequence[Item], condition: Perturbation | None, controller: Controller, encoder: Encoder | None) -> list[Row]:
    """The rows of one batch. Raises RefineError where the controller does not answer for every picture."""
    if not items:
        return []
    name = str(condition or UNTOUCHED)
    critiques = controller.inspect([_shown(item, condition) for item in items])
    if len(critiques) != len(items):
        raise RefineError(f"The controller gave {len(critiques)} critiques for {len(items)} pictures; it must give one for each.")
    rows = [measure(item, critique, name) for item, critique in zip(items, critiques, strict=True)]
    if encoder is None:
        return rows
    explained = [row for row in rows if row.rouge_l is not None]
    cosines = similarities(encoder, [row.answer for row in explained], [row.reference for row in explained])
    css = {row.id: cosine for row, cosine in zip(explained, cosines, strict=True)}
    return [replace(row, css=css.get(row.id)) for row in rows]


def _shown(item: Item, condition: Perturbation | None) -> Image:
    """What the controller gets to see; the noise of a picture is the same in every run."""
    return item.image if condition is None else condition(item.image, zlib.crc32(f"{condition} {item.id}".encode()))


def publish(folder: Path, dataset: Dataset, work: Work, about: Sequence[str]) -> str:
    """Write images.csv and table.md from the ledger; return the table. Raises InputError where not one picture was measured."""
    kept = ledger(folder)
    wanted = {(str(condition or UNTOUCHED), entry.id) for condition in work.conditions for entry in work.entries}
    rows = [row for key, row in kept.rows.items() if key in wanted]
    faults = [*dataset.faults, *{fault.id: fault for key, fault in kept.faults.items() if key in wanted}.values()]
    if not rows:
        first = "; ".join(f"{fault.id}: {fault.detail}" for fault in faults[:3])
        raise InputError(f"No picture of {dataset.name} could be measured: {len(faults)} entries were left out ({first}).")
    conditions = [str(condition or UNTOUCHED) for condition in work.conditions]
    order = {entry.id: index for index, entry in enumerate(work.entries)}
    rows.sort(key=lambda row: (conditions.index(row.condition), order[row.id]))
    report = Report(
        dataset=dataset,
        asked=len(work.entries),
        rows={name: [row for row in rows if row.condition == name] for name in conditions},
        faults=tuple(faults),
        about=tuple(about),
    )
    table = controller_table.markdown(report)
    with writing(folder):
        durable.replace(folder / CSV, _csv(rows, faults))
        durable.replace(folder / TABLE, table)
    return table


def _csv(rows: Sequence[Row], faults: Sequence[Fault]) -> str:
    """One row per picture and condition, then one per entry that was left out."""
    lines: list[dict[str, Any]] = [_csv_row(row) for row in rows]
    lines += [{"id": fault.id, "left out": f"{fault.kind}: {fault.detail}"} for fault in faults]
    names = dict.fromkeys(["id", "condition", "left out", *(name for line in lines for name in line)])
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_row(row: Row) -> dict[str, Any]:
    measures = {name: of(one) for name, of in PER_PICTURE.items()} if (one := row.overlap) else {}
    words = {"groups": "; ".join(row.groups), "notes": "; ".join(f"{kind}: {detail}" for kind, detail in row.notes)}
    return {**row.to_json(), **words, **measures}
