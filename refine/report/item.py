"""What the report reads: one finished image of a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import PIL.Image

from refine.errors import InputError
from refine.record import read_json
from refine.store import ITEMS, RUN, Line, item_folder, ledger
from refine.types import Image

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One finished image: its position on the page (from 1), folder and record.

    ``address``: its folder as the page sees it, with a slash at the end; None where pictures lie inside the page.
    """

    number: int
    folder: Path
    data: Json
    address: str | None = None

    @property
    def attempts(self) -> list[Json]:
        return [attempt for turn in self.data["rounds"] for attempt in turn["attempts"]]

    @property
    def repairs(self) -> list[Json]:
        """The attempts to make the image better; a choice among first drawings is none."""
        return [attempt for attempt in self.attempts if not attempt["action"].get("first")]

    @property
    def drawings(self) -> int:
        """How many first drawings there were; 1 where the user's own seed was kept."""
        chosen = (one for one in self.attempts if one["action"].get("first") and one["kept"] is not None)
        return 1 + next((len(one["candidates"]) for one in chosen), 0)

    @property
    def kept(self) -> int:
        return sum(attempt["kept"] is not None for attempt in self.repairs)

    @property
    def changed(self) -> bool:
        """The final image is not the first one: it was repaired, or another drawing was chosen."""
        return any(attempt["kept"] is not None for attempt in self.attempts)

    @property
    def gate(self) -> Json:
        """The gate's margins as they were configured; empty for a record without."""
        gate: Json = self.data.get("config", {}).get("gate", {})
        return gate

    def picture(self, name: str) -> Image:
        """Raises InputError where the file is missing or no image."""
        return opened(self.folder / name)

    def link(self, name: str) -> str | None:
        """The relative address of one of the item's files; None where pictures lie inside the page."""
        return None if self.address is None else self.address + quote(name)


def opened(path: Path) -> Image:
    """A picture of a run folder, RGB or RGBA. Raises InputError where the file is missing or no image."""
    try:
        with PIL.Image.open(path) as image:
            return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except OSError as error:
        raise InputError(f"Cannot read {path} ({error}). The folder of this run is not whole.") from error


def finished(run_dir: Path) -> list[Line]:
    """The lines of the finished images. Raises InputError where the folder is not that of a run."""
    if not (run_dir / RUN).is_file():
        raise InputError(f"{run_dir} holds no {RUN}: it is not the folder of a run. Give the folder that refine run wrote.")
    return ledger(run_dir)


def read_items(run_dir: Path, linked: bool) -> Iterator[Item]:
    """The finished images of a run, in the order of its prompts, one in memory at a time."""
    for number, line in enumerate(finished(run_dir), 1):
        folder = item_folder(run_dir, line["key"])
        yield Item(number, folder, read_json(folder), f"{ITEMS}/{quote(line['key'])}/" if linked else None)
