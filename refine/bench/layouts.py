"""The published prompt sets, read and written exactly as their own tools lay them out.

HPDv2        ``benchmark/{anime,concept-art,paintings,photo}.json``, a list of strings each; pictures ``<out>/<style>/<00000>.jpg``, which
             ``hpsv2.evaluate(out)`` reads (nothing else may lie in the folder)
DrawBench    HPDv2's ``drawbench.json`` (a list of strings) or the original table (columns Prompts, Category); pictures
             ``<out>/<model>/<00000>.jpg``
ImageReward  ``benchmark-prompts.json``, a list of {id, prompt}; pictures ``<out>/<model>/<id>_<k>.png`` for the k-th seed

The tools' own examples save JPEG files at Pillow's default quality; so does ``write``, because other pixels give other scores. The first
two count pictures by place: where one is missing, they score the next one against its prompt.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from refine.errors import InputError
from refine.types import Image

STYLES = ("anime", "concept-art", "paintings", "photo")
Layout = Literal["hpdv2", "drawbench", "imagereward"]
BY_PLACE = frozenset({"hpdv2", "drawbench"})  # a part of such a set would be given a score that is false


@dataclass(frozen=True, slots=True)
class Entry:
    """One prompt of a set. ``id`` is unique and can be a file's name; a seed of None is chosen by the reader."""

    id: str
    text: str
    category: str = ""
    seed: int | None = None


def kind(source: Path) -> Layout | None:
    """Which published set lies at a path; None: none of them."""
    if source.is_dir():
        return "hpdv2" if any((source / f"{style}.json").is_file() for style in STYLES) else None
    if source.suffix.lower() == ".json":
        return "drawbench" if source.stem.lower() == "drawbench" else "imagereward"
    if source.suffix.lower() == ".csv" and source.is_file():
        return "drawbench" if "Prompts" in (_table(source).fieldnames or ()) else None
    return None


def is_layout(source: Path) -> bool:
    return kind(source) is not None or source.is_dir()


def read(source: Path) -> list[Entry]:
    """The prompts of a published set; HPDv2's styles take turns, so that any beginning is balanced. Raises InputError."""
    layout = kind(source)
    if layout is None:
        raise InputError(f"{source} holds none of {', '.join(f'{style}.json' for style in STYLES)}: it is not HPDv2's benchmark folder.")
    if layout == "hpdv2":
        columns = [_strings(path, style) for style in STYLES if (path := source / f"{style}.json").is_file()]
        return [entry for row in zip_longest(*columns) for entry in row if entry is not None]
    if layout == "drawbench":
        return _drawbench(source) if source.suffix.lower() == ".csv" else _strings(source, "")
    return [_pair(source, index, item) for index, item in enumerate(_list(source))]


def _strings(path: Path, category: str) -> list[Entry]:
    items = _list(path)
    if wrong := [index for index, item in enumerate(items) if not isinstance(item, str) or not item.strip()]:
        raise InputError(f"{path}: entry {wrong[0]} is {items[wrong[0]]!r}; it must be a prompt ({len(wrong)} such entries).")
    return [Entry(f"{category}-{index:05d}" if category else f"{index:05d}", item, category) for index, item in enumerate(items)]


def _drawbench(path: Path) -> list[Entry]:
    rows = list(_table(path))
    if wrong := [index for index, row in enumerate(rows) if not (row["Prompts"] or "").strip()]:
        raise InputError(f"{path}: row {wrong[0] + 2} has no prompt ({len(wrong)} such rows).")
    return [Entry(f"{index:05d}", row["Prompts"].strip(), (row.get("Category") or "").strip()) for index, row in enumerate(rows)]


def _table(path: Path) -> csv.DictReader[str]:
    try:
        return csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline=""))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}. It must be UTF-8 text; save it as such, or convert it with iconv.") from error


def _pair(path: Path, index: int, item: Any) -> Entry:
    if isinstance(item, str):
        raise InputError(
            f"{path}: entry {index} is the text {item[:80]!r}, and ImageReward's are objects with a 'prompt' and an 'id'. "
            f"If it is a style of HPDv2 ({', '.join(STYLES)}), give its folder; DrawBench's list is called drawbench.json."
        )
    named = isinstance(item, dict) and is_file_name(str(item.get("id", "")))
    if not named or not isinstance(item.get("prompt"), str) or not item["prompt"].strip():
        raise InputError(f"{path}: entry {index} is {str(item)[:80]!r}; it must be an object with a text 'prompt' and an 'id'.")
    return Entry(str(item["id"]), item["prompt"])


def _list(path: Path) -> list[Any]:
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"There is no prompt file {path}.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path} as JSON: {error}.") from error
    if not isinstance(items, list) or not items:
        raise InputError(f"{path} must hold a list of prompts with something in it.")
    return items


def is_file_name(text: str) -> bool:
    """True for a name that is safe on every system."""
    return bool(re.fullmatch(r"[\w-][\w.-]*", text)) and len(text) <= 120


def picture_path(layout: Layout, model: str, entry_id: str, copy: int) -> Path:
    """Where the tool looks for the picture of a prompt, relative to the folder it is given.

    One picture per prompt in HPDv2's layout and DrawBench's (``copy`` must be 0). ``model``: the name of what made the pictures.
    """
    assert copy == 0 or layout == "imagereward", "these tools read one picture per prompt"
    if layout == "imagereward":
        return Path(model) / f"{entry_id}_{copy}.png"
    style, _, number = entry_id.rpartition("-")
    return Path(style or model) / f"{number}.jpg"


def write(folder: Path, layout: Layout, model: str, pictures: Iterable[tuple[str, int, Image]]) -> Path:
    """Write (id, copy, picture) as the set's own tool reads them; return the folder to give it.

    HPDv2's tool scores one model per folder, so each model gets a folder of its own; the others read all models below one.
    """
    root = folder / model if layout == "hpdv2" else folder
    for entry_id, copy, image in pictures:
        if copy and layout != "imagereward":
            continue
        path = root / picture_path(layout, model, entry_id, copy)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    return root
