"""What went wrong with a download, said so that a person knows the next step. Never shows a token. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

SECRETS = (
    (re.compile(r"\bhf_\w+|\bapi_org_\w+"), "hf_***"),
    (re.compile(r"(?i)\b(bearer|basic)\s+\S+"), r"\1 ***"),
    (re.compile(r"://[^/\s@]+@"), "://***@"),
    (re.compile(r"(https?://[^\s?]+)\?\S*"), r"\1"),  # signed addresses carry their secret in the query
)


def redact(text: str) -> str:
    """The text without access tokens, passwords and signatures."""
    for pattern, shown in SECRETS:
        text = pattern.sub(shown, text)
    return text


def first_line(error: BaseException) -> str:
    """The first line of an error's text (its class where it has none), without secrets."""
    return redact((str(error).strip() or type(error).__name__).splitlines()[0])


def explain(repo: str, filename: str, error: BaseException) -> str:
    """Why a file of a hub repository could not be had, and what to do. Looks through the causes of ``error``."""
    from huggingface_hub import errors

    wanted = f"Cannot get {filename} of {repo!r}"
    named = f" {filename}" if " " not in filename else ""  # "its files", "the list of files": the whole repository
    by_hand = f"Download it where there is a connection (hf download {repo}{named}) and give its path."
    chain = list(_causes(error))

    def found(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in chain)

    if found(errors.HFValidationError):
        return f"{repo!r} is no file or folder here, and no hub id (owner/name). Check the path{_nearest(repo)}."
    if found(errors.GatedRepoError):
        return f"{wanted}: its licence must be accepted first. Open the model's page on the hub, accept, then run: hf auth login"
    if found(errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        return f"{wanted}: the hub shows no such repository to this login. Check the name; if it is private, run: hf auth login"
    if any(getattr(getattr(one, "response", None), "status_code", None) in (401, 403) for one in chain):
        return f"{wanted}: the hub refused the login. Run: hf auth login (or renew HF_TOKEN)"
    if found(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError):
        return f"{wanted}: it is not in the hub's cache, and the hub is out of reach or switched off (HF_HUB_OFFLINE). {by_hand}"
    if found(errors.EntryNotFoundError):
        return f"{wanted}: the repository holds no such file. Check the name, or give the path of a file or folder."
    return f"{wanted}: {first_line(error)} {by_hand}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what caused it, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _nearest(source: str) -> str:
    """How much of a path exists."""
    parent = next((folder for folder in Path(source).expanduser().parents if folder.is_dir() and folder != Path()), None)
    return f" (the nearest folder that exists is {parent})" if parent else ""
