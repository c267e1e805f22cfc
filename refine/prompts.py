"""Prompts from the command line or from a .txt, .csv or .jsonl file.

.txt     one prompt per line; empty lines and lines that start with # are skipped
.csv     a header with the column ``prompt``; ``id`` and ``seed`` are optional; other columns are ignored
.jsonl   one object per line with the same keys, or one string per line
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine.errors import InputError

MAX_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, its own id and seed (None: not given), and where it was written ("line 3")."""

    text: str
    id: str | None = None
    seed: int | None = None
    where: str = ""


Row = tuple[int, Mapping[str, Any]]


def read(path: Path) -> list[Prompt]:
    """The prompts of a file. Raises InputError with every empty, duplicate or malformed line."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}; a prompt file ends in {', '.join(READERS)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"There is no prompt file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Cannot read {path}: {error}. It must be UTF-8 text.") from error
    faults: list[str] = []
    prompts = [prompt for line, row in reader(text, faults) if (prompt := _prompt(line, row, faults))]
    faults += repeated(prompts)
    if faults:
        more = [f"... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise InputError("\n  - ".join([f"{path} has faults:", *faults[:MAX_FAULTS], *more]))
    if not prompts:
        raise InputError(f"{path} holds no prompt.")
    return prompts


def _txt(text: str, faults: list[str]) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, {"prompt": line}


def _csv(text: str, faults: list[str]) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    try:
        if "prompt" not in (reader.fieldnames or []):
            faults.append(f"line 1: the header is {', '.join(reader.fieldnames or []) or 'empty'}; it must name the column 'prompt'")
            return
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        faults.append(f"line {reader.line_num}: {error}")


def _jsonl(text: str, faults: list[str]) -> Iterator[Row]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            faults.append(f"line {number}: not JSON ({error})")
            continue
        if isinstance(value, str | dict):
            yield number, {"prompt": value} if isinstance(value, str) else value
        else:
            faults.append(f"line {number}: {type(value).__name__}; it must be an object with the key 'prompt', or a string")


READERS: Mapping[str, Callable[[str, list[str]], Iterator[Row]]] = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl}


def _prompt(line: int, row: Mapping[str, Any], faults: list[str]) -> Prompt | None:
    """One row as a prompt; None, and a fault, where it cannot be one."""
    text, seed, name = row.get("prompt"), row.get("seed"), row.get("id")
    if not isinstance(text, str) or not text.strip():
        faults.append(f"line {line}: the prompt is {'empty' if isinstance(text, str) or text is None else repr(text)}")
        return None
    try:
        number = None if seed in (None, "") else int(str(seed))
    except ValueError:
        faults.append(f"line {line}: seed {seed!r} is not a whole number")
        return None
    return Prompt(" ".join(text.split()), str(name) if name not in (None, "") else None, number, f"line {line}")


def repeated(prompts: Sequence[Prompt]) -> list[str]:
    """A fault for each id used twice, and for each prompt that comes twice without ids or seeds that tell them apart."""
    seen: dict[tuple[str, object], str] = {}
    faults = []
    for prompt in prompts:
        key = ("id", prompt.id) if prompt.id is not None else ("prompt", (prompt.text, prompt.seed))
        if key in seen:
            faults.append(f"{prompt.where}: {key[0]} {prompt.id or prompt.text!r} is on {seen[key]} already")
        seen.setdefault(key, prompt.where)
    return faults
