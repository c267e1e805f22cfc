"""``refine fetch``: a preset's weights into the hub's cache."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from refine import config as configuration
from refine import display, needs
from refine.errors import CheckpointError, InputError, OutputError
from refine.evals.hub import explain
from refine.needs import Need
from refine.sizes import GB

SPARE = 1.0  # gigabytes that stay free on the disk


@dataclass(frozen=True, slots=True)
class Parcel:
    """The files of one repository: how many bytes they are, and how many of them are to be downloaded."""

    need: Need
    files: tuple[str, ...]
    size: int
    missing: int


def execute(args: Namespace) -> None:
    """List with sizes, check the disk, download. Raises CheckpointError and OutputError."""
    wanted = needs.needs(configuration.load(args.preset, args.set).tree)
    screen = display.console()
    if not wanted:
        screen.print("Nothing is needed from the hub.")
        return
    parcels = [measure(need) for need in wanted]
    screen.print(table(parcels))
    if args.dry_run:
        return
    check_disk(parcels)
    args.left = "What has come is kept. The same command goes on."
    for parcel in parcels:
        if parcel.missing:
            screen.print(f"fetching {parcel.need.repo}: {parcel.missing / GB:.2f} GB")
        download(parcel)
    screen.print("Everything is there. To keep off the network from now on: export HF_HUB_OFFLINE=1")


def measure(need: Need) -> Parcel:
    """What the hub holds of it, and what of that is missing here. Raises CheckpointError."""
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars, enable_progress_bars

    disable_progress_bars()
    try:
        with explained(need.repo, "the list of files"):
            listed: Any = snapshot_download(need.repo, dry_run=True)
        known = {file.filename: file for file in listed}
        folders: Sequence[str] = ()
        if need.kind == "pipeline":
            if "model_index.json" not in known:
                raise CheckpointError(f"{need.repo} holds no model_index.json, so it is no pipeline of diffusers ({need.where}).")
            with explained(need.repo, "model_index.json"):
                index = json.loads(Path(hf_hub_download(need.repo, "model_index.json")).read_text(encoding="utf-8"))
            folders = [name for name, kind in index.items() if isinstance(kind, list) and kind[0]]
    finally:
        enable_progress_bars()
    chosen = need.choose(known, folders)
    if not chosen:
        raise CheckpointError(f"{need.repo} holds none of the files that {need.where} needs ({', '.join(need.patterns) or 'weights'}).")
    missing = sum(known[file].file_size for file in chosen if known[file].will_download)
    return Parcel(need, tuple(chosen), sum(known[file].file_size for file in chosen), missing)


def download(parcel: Parcel) -> None:
    """Take what is missing. Raises CheckpointError and OutputError."""
    from huggingface_hub import snapshot_download

    with explained(parcel.need.repo, "its files"):
        snapshot_download(parcel.need.repo, allow_patterns=list(parcel.need.patterns) or [escaped(file) for file in parcel.files])


def escaped(file: str) -> str:
    """A file's name as a pattern that fits nothing else."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in file)


@contextmanager
def explained(repo: str, what: str) -> Iterator[None]:
    """Errors of the network, the login and the disk, as what a person can do; no token is ever shown."""
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError

    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, CheckpointError | InputError | OutputError):
            raise
        if getattr(error, "errno", None) == 28:
            raise OutputError(f"The disk is full; what has come is kept. Make room in {cache()} and run the command again.") from error
        gated = isinstance(error, GatedRepoError) and not isinstance(error, HFValidationError)
        page = f" Its page: {constants.ENDPOINT}/{repo}" if gated else ""
        raise CheckpointError(explain(repo, what, error) + page) from error


def check_disk(parcels: Sequence[Parcel]) -> None:
    """Raises OutputError where the disk of the cache is too small for what is missing."""
    missing, free = sum(parcel.missing for parcel in parcels) / GB, shutil.disk_usage(existing(cache())).free / GB
    if missing + SPARE > free:
        raise OutputError(
            f"{missing:.1f} GB are to be downloaded and {free:.1f} GB are free at {cache()}. "
            "Make room, or set HF_HOME to a folder on another disk."
        )


def cache() -> Path:
    """The hub's cache on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())


def table(parcels: Sequence[Parcel]) -> Table:
    """Repository, what it is for, files, gigabytes, of which missing."""
    made = Table(title=f"{sum(one.missing for one in parcels) / GB:.2f} GB to download", title_justify="left")
    for heading, side in (("repository", "left"), ("for", "left"), ("files", "right"), ("GB", "right"), ("missing", "right")):
        made.add_column(heading, justify=side, overflow="fold")  # type: ignore[arg-type]
    for one in parcels:
        made.add_row(one.need.repo, one.need.where, str(len(one.files)), f"{one.size / GB:.2f}", f"{one.missing / GB:.2f}")
    return made
