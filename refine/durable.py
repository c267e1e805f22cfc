"""Files that a crash, a full disk or a power cut leaves whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Write a whole file through a synced temporary one, so that readers never see half of it."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with made.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)


def append(path: Path, lines: Iterable[str]) -> None:
    """Add lines and sync once; a line that a crash left unfinished is closed first, and a write that fails is taken back."""
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        torn = file.read(1) not in (b"", b"\n")
        try:
            file.write((b"\n" if torn else b"") + "".join(f"{line}\n" for line in lines).encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.truncate(path, size)
            raise
