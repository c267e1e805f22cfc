"""Reading foreign weights safely: where the file is, what is in it, and whether it fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from refine.embedded import resolve
from refine.errors import CheckpointError, UnknownName

Module = TypeVar("Module", bound=nn.Module)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def precision(dtype: str | torch.dtype) -> torch.dtype:
    """A dtype by its name, as configurations write it."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise UnknownName("dtype", dtype, DTYPES)
    return DTYPES[dtype]


def locate(source: str | Path, filename: str, *, local_files_only: bool = False) -> Path:
    """A checkpoint file, or a folder that has a ``config.json``.

    ``source`` is a file, a folder in our layout, a folder that holds ``filename``, an embedded model, or a hub id (``filename`` is
    then downloaded or taken from the hub's cache).
    """
    path = Path(resolve(str(source))).expanduser()
    if path.is_file() or (path / "config.json").is_file():
        return path
    if (path / filename).is_file():
        return path / filename
    if path.exists():
        raise CheckpointError(f"{path} holds neither config.json nor {filename}. Give a checkpoint file or a folder with one of the two.")
    return _download(str(source), filename, local_files_only=local_files_only)


def _download(repo: str, filename: str, *, local_files_only: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repo, filename, local_files_only=local_files_only))
    except HFValidationError:
        raise CheckpointError(f"{repo!r} is no file or folder here, and no hub id (owner/name). Check the path.") from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        advice = "Download it elsewhere and give its path."
        raise CheckpointError(f"Cannot get {filename} of {repo!r} from the hub: {reason} {advice}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file or of a PyTorch file (read without executing code), unwrapped from ``state_dict``."""
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        advice = "It may be truncated, foreign, or hold code; get it again."
        raise CheckpointError(f"{path} is not a readable checkpoint ({reason}). {advice}") from error
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
    faults = [
        _listing("missing", own.keys() - state.keys()),
        _listing("unexpected", state.keys() - own.keys()),
        _listing("wrong shape", {key for key in own.keys() & state.keys() if own[key].shape != state[key].shape}),
    ]
    if any(faults):
        raise CheckpointError(f"These weights are not {what}: {'; '.join(filter(None, faults))}. Check the file and its version.")
    module.load_state_dict(dict(state))


def _listing(label: str, keys: set[str], most: int = 3) -> str:
    names = sorted(keys)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{label} {', '.join(names[:most])}{more}" if names else ""


def need(state: Mapping[str, Tensor], key: str, what: str) -> Tensor:
    """One tensor that decides an architecture, or an error that names it."""
    if key not in state:
        raise CheckpointError(f"These weights are not {what}: {key} is missing. Check the file and its version.")
    return state[key]


def count_layers(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered blocks follow ``prefix``."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})
