"""A run as one page that works offline: ``write_report(folder)`` → ``report.html``.

Read from the run folder alone (``ledger.jsonl``, ``items/<key>/record.json`` with its pictures, ``run.yaml``). Pictures are
embedded, text is escaped by construction (``markup``), and a content security policy forbids the page every request and any script but
its own.
"""

from __future__ import annotations

from pathlib import Path

from refine.report.item import read_config, read_items
from refine.report.page import page
from refine.store import writing

__all__ = ["write_report"]


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path.

    Raises InputError where the folder holds no run or a record is damaged, OutputError where it cannot be written.
    """
    text = page(run_dir.resolve().name, read_items(run_dir), read_config(run_dir)).text
    path = run_dir / "report.html"
    with writing(run_dir):
        path.with_suffix(".tmp").write_text("<!doctype html>\n" + text, encoding="utf-8")
        path.with_suffix(".tmp").replace(path)
    return path
