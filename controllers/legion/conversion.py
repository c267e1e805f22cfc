"""A published checkpoint written in our own layout, shard by shard: what is in memory at once is one shard, never the model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Unpack

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from refine.controllers.legion.census import Report
from refine.controllers.legion.checkpoint import Parts, Plan, plan
from refine.errors import OutputError

SHARD = 2_000_000_000  # bytes; a shard is what is in memory at once, and hubs want at most 5 GB
Progress = Callable[[int, int], None]  # bytes done, bytes in all


def convert(
    source: str | Path,
    out: str | Path,
    *,
    dtype: torch.dtype | None = None,
    shard: int = SHARD,
    progress: Progress | None = None,
    **parts: Unpack[Parts],
) -> Report:
    """Write a published checkpoint to the new folder ``out`` and say what was in it.

    dtype None: every tensor as it is stored. shard: bytes of a weight file at most (a larger tensor stands alone). Either the whole folder
    appears or nothing does. Raises CheckpointError for a source that does not fit, OutputError for a folder that cannot be written.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already. Choose another folder, or delete it.")
    made = plan(source, **parts)
    sizes = {name: value.numel() * _stored(value, dtype).itemsize for name, value in made.wanted.items()}
    with _appearing(out, sum(sizes.values())) as folder:
        _write(made, folder, _groups(sizes, shard), sizes, dtype, progress or (lambda done, total: None))
        made.config.dtype = dtype or made.config.dtype
        made.config.save_pretrained(folder)
        made.processor.save_pretrained(folder)
    return made.report


@contextmanager
def _appearing(out: Path, size: int) -> Iterator[Path]:
    """A folder beside ``out`` that becomes ``out`` when all went well, and else is gone."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if free < size:
            raise OutputError(f"{out} needs {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. Free space or choose another folder.")
        shutil.rmtree(partial, ignore_errors=True)  # of a conversion that was killed
        partial.mkdir()
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(f"The converted checkpoint cannot be written to {out}: {error}. Free space or choose another folder.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _groups(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Names in their order, cut where the next one would exceed the limit."""
    groups: list[list[str]] = [[]]
    room = limit
    for name, size in sizes.items():
        if size > room and groups[-1]:
            groups.append([])
            room = limit
        groups[-1].append(name)
        room -= size
    return groups


def _write(
    made: Plan, folder: Path, groups: list[list[str]], sizes: Mapping[str, int], dtype: torch.dtype | None, progress: Progress
) -> None:
    total, done = sum(sizes.values()), 0
    where = {name: _file(number, len(groups)) for number, group in enumerate(groups) for name in group}
    waiting: dict[str, Tensor] = {}
    number = 0
    progress(0, total)
    for name, value in made.tensors():
        waiting[name] = _packed(value.to(_stored(value, dtype)))
        if len(waiting) == len(groups[number]):
            save_file(waiting, folder / _file(number, len(groups)), metadata={"format": "pt"})
            done += sum(sizes[one] for one in waiting)
            progress(done, total)
            waiting, number = {}, number + 1
    if len(groups) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", "utf-8")


def _file(number: int, count: int) -> str:
    return "model.safetensors" if count == 1 else f"model-{number + 1:05d}-of-{count:05d}.safetensors"


def _stored(value: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and value.is_floating_point() else value.dtype


def _packed(value: Tensor) -> Tensor:
    """The tensor with memory of its own: a pickle may hold views of one storage, which safetensors refuses."""
    alone = value.is_contiguous() and value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if alone else value.clone(memory_format=torch.contiguous_format)
