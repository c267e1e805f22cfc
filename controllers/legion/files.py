"""Weight files as they are published: shards and their index, tensors one by one, and what makes a file unfit.

Pickles are read with ``weights_only=True`` only: a file that carries code is refused, not run. Nothing is read before it is asked for:
shapes come from headers, and tensors from the mapped file.
"""

from __future__ import annotations

import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from refine.errors import CheckpointError

State = dict[str, Tensor]
# What the hub keeps beside the weights of other frameworks is left there.
_WANTED = ["*.json", "*.safetensors", "pytorch_model*.bin", "tokenizer.model"]
_KINDS = (("model.safetensors.index.json", "model.safetensors"), ("pytorch_model.bin.index.json", "pytorch_model.bin"))
_POINTER = b"version https://git-lfs"
_GLOBAL = re.compile(r"GLOBAL (\S+)|safe_globals\(\[([\w.]+)\]\)")
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64}


def locate(source: str | Path) -> Path:
    """A local file or folder as it is, anything else as a hub repository (its cache when offline)."""
    if Path(source).exists():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(str(source), allow_patterns=_WANTED))
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{str(source)!r} is neither a folder here nor a repository that can be reached ({type(error).__name__}). "
            "Check the spelling, the network, or download it first and give the folder."
        ) from error


def settings(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint folder. Raises CheckpointError."""
    path = folder / "config.json"
    if not path.exists():
        raise CheckpointError(f"No config.json in {folder}. Point to a whole checkpoint folder.")
    return read_json(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError when it is anything else."""
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is no JSON object ({error}). Fetch it again.") from error


def weight_files(path: Path) -> tuple[Path, ...]:
    """The weight file itself, or those of a folder (an index with its shards, or one file). Raises CheckpointError."""
    if path.is_file():
        return (path,)
    main = _main_file(path)
    return tuple(_shards(main)) if main.suffix == ".json" else (main,)


def _main_file(folder: Path) -> Path:
    """The index of a folder's shards, or its only weight file; safetensors first."""
    for name in (name for kind in _KINDS for name in kind):
        if (folder / name).exists():
            return folder / name
    names = ", ".join(name for kind in _KINDS for name in reversed(kind))
    raise CheckpointError(f"No weights in {folder}: expected one of {names}. Point to a whole checkpoint folder.")


def _shards(index: Path) -> list[Path]:
    table = _weight_map(index)
    # Names only: an index must not lead out of its folder.
    shards = [index.parent / name for name in sorted({Path(shard).name for shard in table.values()})]
    gone = [shard.name for shard in shards if not shard.exists()]
    if gone:
        raise CheckpointError(f"{len(gone)} of {len(shards)} shards in {index.parent} are missing: {', '.join(gone)}. Fetch them again.")
    return shards


def _weight_map(index: Path) -> dict[str, str]:
    table = read_json(index).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise CheckpointError(f"{index} has no 'weight_map' that names shards. Fetch it again.")
    return {str(key): str(shard) for key, shard in table.items()}


def shapes(path: Path) -> dict[Path, State]:
    """Per weight file of ``path`` its tensors on the meta device: shapes and types, no data. Raises CheckpointError."""
    found = {file: _header(file) for file in weight_files(path)}
    if path.is_dir() and (main := _main_file(path)).suffix == ".json":
        table = _weight_map(main)
        lost = sorted(key for key, shard in table.items() if key not in found[path / Path(shard).name])
        if lost:
            shard = Path(table[lost[0]]).name
            raise CheckpointError(f"{path / shard} lacks {len(lost)} tensors of its index, such as {lost[0]}. Fetch the shard again.")
    return found


def _header(file: Path) -> State:
    with _opened(file) as (keys, get, shape):
        return {key: shape(key) if shape else _meta(get(key)) for key in keys}


def _meta(value: Tensor) -> Tensor:
    return torch.empty(value.shape, dtype=value.dtype, device="meta")


def tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """The tensors of one weight file, one by one. Raises CheckpointError."""
    with _opened(file) as (keys, get, _):
        for key in keys:
            yield key, get(key)


_Open = tuple[list[str], Callable[[str], Tensor], Callable[[str], Tensor] | None]


@contextmanager
def _opened(file: Path) -> Iterator[_Open]:
    """(names, one tensor by name, one tensor on the meta device by name where the format can do that without reading)."""
    if not file.exists():
        raise CheckpointError(f"The weight file {file} is missing. Fetch it again.")
    if file.suffix != ".safetensors":
        state = _unpickle(file)
        yield list(state), state.__getitem__, None
        return
    try:
        with safe_open(file, "pt") as opened:

            def shape(key: str) -> Tensor:
                part = opened.get_slice(key)
                dtype = _DTYPES.get(part.get_dtype())
                return _meta(opened.get_tensor(key)) if dtype is None else torch.empty(part.get_shape(), dtype=dtype, device="meta")

            yield list(opened.keys()), opened.get_tensor, shape
    except (SafetensorError, OSError) as error:
        raise _unfit(file, error) from error


def _unpickle(file: Path) -> State:
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    except pickle.UnpicklingError as error:
        named = _GLOBAL.search(str(error))
        if named is None:
            raise _unfit(file, error) from error
        raise CheckpointError(
            f"{file} is no plain weight file: it holds code or objects ({named[1] or named[2]}), and is not opened. "
            "Use the safetensors copy, or export the state_dict alone."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise _unfit(file, error) from error
    state = loaded.get("module", loaded.get("state_dict", loaded)) if isinstance(loaded, dict) else {}
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{file} is no table of tensors. Give a file that torch.save wrote from a state_dict.")
    return {str(key): value for key, value in state.items()}


def _unfit(file: Path, error: Exception) -> CheckpointError:
    with file.open("rb") as stream:
        pointer = stream.read(len(_POINTER)) == _POINTER
    if pointer:
        return CheckpointError(f"{file} is a Git LFS pointer, not the weights. Run: git lfs pull")
    size = file.stat().st_size
    return CheckpointError(f"{file} ({size:,} bytes) cannot be read ({type(error).__name__}): it is cut short or foreign. Fetch it again.")
