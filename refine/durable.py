"""Files that a crash, a full disk or a power cut leaves whole."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def replace(path: Path, content: str | bytes) -> None:
    """Write a whole file through a synced temporary one, so that readers never see half of it. Texts are UTF-8, line ends as they are."""
    made = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with made.open("wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
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


def lines(path: Path) -> list[str]:
    """The lines that ``append`` wrote, none where there is no file. Only a line feed ends one: JSON may hold other separators."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return [line for line in text.split("\n") if line]


def sync_tree(folder: Path) -> None:
    """Make all files of a folder, and their names, survive a power cut."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    if os.name == "nt" and path.is_dir():  # Windows cannot open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
