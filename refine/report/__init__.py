"""A run as one page that works offline: ``write_report(folder)`` → ``report.html``.

Read from the run folder alone (``ledger.jsonl``, ``items/<key>/record.json`` with its pictures, ``run.yaml``), one image at a time, so
that memory stays flat. A small run is one file with every picture inside; in a larger one the page holds thumbnails and links to the
pictures in the folder, which may be moved as a whole. Text is escaped by construction (``markup``), and a content security policy
forbids every request that leaves the folder and any script but the page's own.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile

from refine.report.article import article
from refine.report.document import KEYS, STORY_KEYS, closing, opening
from refine.report.item import finished, read_items
from refine.report.page import Tally, footer, overview, toolbar
from refine.store import RUN, writing

__all__ = ["write_report"]

REPORT = "report.html"
INSIDE = 16  # runs of at most so many images are one file, pictures and all
UNFOLDED = 6  # and of so few, every image is open at once


def write_report(run_dir: Path, embed: bool | None = None) -> Path:
    """Write ``report.html`` into a run folder and return its path. ``embed``: all pictures inside (None: where the run is small).

    Raises InputError where the folder holds no run or a record is damaged, OutputError where it cannot be written.
    """
    lines = finished(run_dir)
    linked = not (len(lines) <= INSIDE if embed is None else embed)
    name, config = run_dir.resolve().name, (run_dir / RUN).read_text(encoding="utf-8")
    path, made = run_dir / REPORT, run_dir / f".{REPORT}"
    tally = Tally()
    with writing(run_dir), TemporaryFile("w+", encoding="utf-8") as body:
        for item, line in zip(read_items(run_dir, linked), lines, strict=True):
            body.write(article(item, len(lines) <= UNFOLDED).text + "\n")
            tally.add(item, line)
        body.seek(0)
        try:
            with made.open("w", encoding="utf-8") as file:
                file.write(opening(name, linked) + overview(name, tally).text + toolbar(tally).text + "<main>\n")
                shutil.copyfileobj(body, file)
                data = {"run": name, "images": tally.images}
                file.write("</main>" + footer(config).text + closing(data, (*STORY_KEYS, *KEYS)))
            made.replace(path)
        finally:
            with suppress(OSError):
                made.unlink(missing_ok=True)
    return path
