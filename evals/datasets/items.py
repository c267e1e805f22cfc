"""What every evaluation set is read as: entries in a stable order, each read when its turn comes, and faults as data.

An entry that cannot be used is a ``Fault`` with its kind, never an exception and never silence: the table counts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from refine import images
from refine.errors import InputError
from refine.types import Image, Mask

# An entry with one of these faults is left out.
DROPPED: Mapping[str, str] = {
    "form": "the entry is not of the published form",
    "duplicate id": "an earlier entry has the same id",
    "missing image": "its image file is not there",
    "unreadable image": "its image cannot be decoded, or is too small or too large",
    "no usable region": "regions are annotated, but none covers a pixel",
    "broken heat map": "its heat map cannot be decoded",
    "damaged record": "a checksum in the TFRecord file does not fit",
}
# An entry with one of these is measured; the table says how many there are.
NOTED: Mapping[str, str] = {
    "region dropped": "one of its regions has no polygon of three corners, or covers no pixel",
    "no explanation": "one of its regions has no explanation",
    "no region": "it is annotated with no region at all",
    "beyond the border": "a region reaches more than a pixel beyond the image, and was cut",
    "same picture": "an earlier entry names the same picture",
    "converted": "the image was converted or turned when it was read",
    "another shape": "its heat map and its image have different aspects; the map was stretched",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an entry: a kind of ``DROPPED`` or ``NOTED``, and the particulars."""

    id: str
    kind: str
    detail: str

    def __post_init__(self) -> None:
        assert self.kind in DROPPED or self.kind in NOTED, self.kind


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One picture with its truth.

    mask    (H, W) bool in the frame of the image, the union of all faults; None where places are not annotated
    text    the reference answer, whole; empty where there is none
    parts   (phrase, explanation) of each annotated fault, in the file's order
    fake    what a detector should say (True: generated); None where it is not annotated
    clean   known to have no fault: counted for false alarms and kept out of the means of localisation and explanation
    groups  what the table breaks down by: generators, kinds of fault; one picture may belong to several
    """

    id: str
    image: Image
    mask: Mask | None = None
    text: str = ""
    parts: tuple[tuple[str, str], ...] = ()
    fake: bool | None = None
    clean: bool = False
    groups: tuple[str, ...] = ()
    notes: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One line of a set. ``read`` decodes the image and draws the mask; it is called when the entry's turn comes."""

    id: str
    read: Callable[[], Item | Fault]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A set as it lies on disk. ``fingerprint`` changes with the annotations; ``faults`` are entries that could not even be listed.

    ``remarks``: what a reader of the figures must know about the truth.
    """

    name: str
    split: str
    fingerprint: str
    entries: tuple[Entry, ...]
    faults: tuple[Fault, ...] = ()
    remarks: tuple[str, ...] = ()


def unique(entries: Iterable[Entry | Fault]) -> tuple[tuple[Entry, ...], tuple[Fault, ...]]:
    """The usable entries, the first of each id, and the faults, in order."""
    kept: dict[str, Entry] = {}
    faults: list[Fault] = []
    for entry in entries:
        if isinstance(entry, Fault):
            faults.append(entry)
        elif entry.id in kept:
            faults.append(Fault(entry.id, "duplicate id", f"{entry.id} comes twice; the first is used"))
        else:
            kept[entry.id] = entry
    return tuple(kept.values()), tuple(faults)


def picture(id: str, path: Path | None, name: str = "") -> tuple[Image, tuple[Fault, ...]] | Fault:
    """The image of an entry and what was converted, or why there is none. ``name``: how the file was called where it is missing."""
    if path is None or not path.is_file():
        return Fault(id, "missing image", f"no file {path or name!s}")
    try:
        found = images.read(path)
    except InputError as error:
        return Fault(id, "unreadable image", str(error))
    return found.image, tuple(Fault(id, "converted", note) for note in found.notes)
