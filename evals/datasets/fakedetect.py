"""UniversalFakeDetect's test pictures (arXiv 2302.10174): per generator a folder with ``0_real`` and ``1_fake``.

Layouts that are understood, alone or side by side below the root: ``<generator>/{0_real,1_fake}``; ``<generator>/<class>/{0_real,
1_fake}`` (ProGAN, StyleGAN, CycleGAN); and the diffusion archive, whose generators have fakes only and share the real pictures of
``imagenet`` (guided) or ``laion`` (the others). A shared picture is looked at once and counts for each of its generators.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from refine import images
from refine.errors import InputError
from refine.evals.datasets.items import Dataset, Entry, Fault, Item, picture, unique

NAME = "UniversalFakeDetect"
REAL, FAKE = "0_real", "1_fake"
SHARED: Mapping[str, str] = {
    "guided": "imagenet",
    **dict.fromkeys(("ldm_200", "ldm_200_cfg", "ldm_100", "glide_100_27", "glide_50_27", "glide_100_10", "dalle"), "laion"),
}
GENERATORS = frozenset(
    {*SHARED, "progan", "cyclegan", "biggan", "stylegan", "gaugan", "stargan", "deepfake", "seeingdark", "san", "crn", "imle"}
)


def load(root: Path, split: str = "test") -> Dataset:
    """Every picture, by path. Raises InputError where no folder is called 0_real or 1_fake."""
    folders = [path for path in sorted(root.rglob("[01]_*")) if path.name in (REAL, FAKE) and path.is_dir()]
    if not folders:
        raise InputError(f"There is no folder {REAL} or {FAKE} below {root}: each generator must have these two.")
    entries, faults = unique(entry for folder in folders for entry in _entries(folder, root, _groups(folder, folders, root)))
    names = hashlib.sha256("\n".join(entry.id for entry in entries).encode()).hexdigest()
    return Dataset(NAME, split, names, entries, faults, tuple(_remarks(folders, root)))


def generator(folder: Path, root: Path) -> str:
    """Whose pictures a folder 0_real or 1_fake holds: the nearest known name above it, else the first below the root."""
    above = [part.lower() for part in folder.relative_to(root).parts[:-1]]
    known = [part for part in above if part in GENERATORS or part in SHARED.values()]
    return known[-1] if known else (above[0] if above else root.name.lower())


def _groups(folder: Path, folders: list[Path], root: Path) -> tuple[str, ...]:
    """The generators that a folder counts for."""
    own = generator(folder, root)
    if own not in SHARED.values() or folder.name == FAKE:
        return (own,)
    present = {generator(other, root) for other in folders if other.name == FAKE}
    return tuple(name for name, real in SHARED.items() if real == own and name in present)


def _entries(folder: Path, root: Path, groups: tuple[str, ...]) -> Iterator[Entry | Fault]:
    for path in sorted(folder.rglob("*")):
        id = path.relative_to(root).as_posix()
        if path.is_dir() or path.name.startswith("."):
            continue
        if path.suffix.lower() not in images.SUFFIXES:
            yield Fault(id, "form", f"{path.suffix or 'no ending'} is not an image")
        else:
            yield Entry(id, partial(_read, id, path, folder.name == FAKE, groups))


def _read(id: str, path: Path, fake: bool, groups: tuple[str, ...]) -> Item | Fault:
    opened = picture(id, path)
    return opened if isinstance(opened, Fault) else Item(id, opened[0], fake=fake, groups=groups, notes=opened[1])


def _remarks(folders: list[Path], root: Path) -> Iterator[str]:
    have = {name: {group for folder in folders if folder.name == name for group in _groups(folder, folders, root)} for name in (REAL, FAKE)}
    for name, other in ((FAKE, REAL), (REAL, FAKE)):
        if alone := sorted(have[name] - have[other]):
            yield f"No {other} pictures for {', '.join(alone)}: accuracy is over {name} alone, and there is no average precision."
    if idle := sorted({generator(f, root) for f in folders if not _groups(f, folders, root)}):
        yield f"The pictures of {', '.join(idle)} belong to no generator that is present; they count only in the whole."
