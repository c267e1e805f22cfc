"""Reading foreign weights safely: where the file is, what is in it, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from refine.embedded import resolve
from refine.errors import CheckpointError, RefineError, UnknownName
from refine.evals.hub import explain, first_line

Module = TypeVar("Module", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype by its name, as configurations write it."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    return DTYPES[dtype]


def local(source: str | Path) -> Path:
    """The path that ``source`` means here: an embedded model's folder, or the path itself, which need not exist."""
    return Path(resolve(str(source))).expanduser()


def locate(source: str | Path, filename: str, *, local_files_only: bool = False) -> Path:
    """A checkpoint file, or a folder that has a ``config.json``.

    ``source`` is a file, a folder in our layout, a folder that holds ``filename``, an embedded model, or a hub id (``filename`` is
    then downloaded or taken from the hub's cache).
    """
    path = local(source)
    if path.is_file() or (path / "config.json").is_file():
        return path
    if (path / filename).is_file():
        return path / filename
    if path.exists():
        raise CheckpointError(f"{path} holds neither config.json nor {filename}. Give a checkpoint file or a folder with one of the two.")
    return download(str(source), filename, local_files_only=local_files_only)


def download(repo: str, filename: str, *, local_files_only: bool = False) -> Path:
    """A file of a hub repository, from the hub or its cache."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, filename, local_files_only=local_files_only))
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(explain(repo, filename, error)) from error


@contextmanager
def reading(what: str | Path) -> Iterator[None]:
    """Whatever a parser of foreign bytes stumbles over becomes one CheckpointError."""
    try:
        yield
    except RefineError:
        raise
    except Exception as error:  # a hostile file can make a parser raise anything
        advice = "It may be truncated, foreign, or hold code; get it again."
        raise CheckpointError(f"{what} is not a readable checkpoint ({first_line(error)}). {advice}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file or of a PyTorch file (read without executing code), unwrapped from ``state_dict``."""
    with reading(path):
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    while isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no mapping of names to tensors; a model's state dict is needed.")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def unfilled(make: Callable[[], Module]) -> Module:
    """A module on the CPU whose weights are not drawn, only reserved: a checkpoint must fill them.

    Position counters are no part of a checkpoint, so they are counted here.
    """
    with torch.device("meta"):
        module = make()
    module = module.to_empty(device="cpu")
    for part in module.modules():
        ids = getattr(part, "position_ids", None)
        if isinstance(ids, Tensor):
            ids.copy_(torch.arange(ids.shape[-1]).expand_as(ids))
    return module


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load, or say which tensors are missing, left over, or of another shape."""
    own = module.state_dict()
    mismatched = {key for key in own.keys() & state.keys() if own[key].shape != state[key].shape}
    require_match(what, own.keys() - state.keys(), state.keys() - own.keys(), mismatched)
    module.load_state_dict(dict(state))


def require_match(what: str, missing: set[str], unexpected: set[str], mismatched: set[str]) -> None:
    """CheckpointError where any of the three is not empty."""
    faults = [_listing("missing", missing), _listing("unexpected", unexpected), _listing("wrong shape", mismatched)]
    if any(faults):
        raise CheckpointError(f"These weights are not {what}: {'; '.join(filter(None, faults))}. Check the file and its version.")


def _listing(label: str, keys: set[str], most: int = 3) -> str:
    names = sorted(keys)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{label} {', '.join(names[:most])}{more}" if names else ""


def need(state: Mapping[str, Tensor], key: str, what: str, dimensions: int) -> Tensor:
    """One tensor that decides an architecture, or an error that names it."""
    if key not in state:
        raise CheckpointError(f"These weights are not {what}: {key} is missing. Check the file and its version.")
    if state[key].ndim != dimensions:
        shape = tuple(state[key].shape)
        raise CheckpointError(f"These weights are not {what}: {key} has the shape {shape}, not {dimensions} dimensions. Check the file.")
    return state[key]


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks follow ``prefix``."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def require_heads(width: int, heads: int, what: str, option: str) -> None:
    """A width that its heads do not divide would fail deep inside a model; a checkpoint does not say how many there are."""
    if heads < 1 or width % heads:
        raise CheckpointError(
            f"{what} of width {width} cannot have {heads} attention heads. Set {option} to the number it was trained with."
        )
