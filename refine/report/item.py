"""What the report reads: the finished images of a run folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from refine.errors import InputError
from refine.record import read_json
from refine.store import RUN, item_folder, ledger
from refine.types import Image

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One finished image of the run: its position on the page (from 1), folder and record."""

    number: int
    folder: Path
    data: Json

    @property
    def attempts(self) -> list[Json]:
        return [attempt for turn in self.data["rounds"] for attempt in turn["attempts"]]

    @property
    def kept(self) -> int:
        return sum(attempt["kept"] is not None for attempt in self.attempts)

    def picture(self, name: str) -> Image:
        with PIL.Image.open(self.folder / name) as image:
            return image.convert("RGBA" if image.has_transparency_data else "RGB")


def read_items(run_dir: Path) -> list[Item]:
    """The finished images of a run, in the order of its prompts."""
    if not (run_dir / RUN).is_file():
        raise InputError(f"{run_dir} holds no {RUN}: it is not the folder of a run. Give the folder that refine run wrote.")
    folders = [item_folder(run_dir, line["key"]) for line in ledger(run_dir)]
    return [Item(number, folder, read_json(folder)) for number, folder in enumerate(folders, 1)]


def read_config(run_dir: Path) -> str:
    return (run_dir / RUN).read_text(encoding="utf-8")
