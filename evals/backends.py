"""HPSv2 and ImageReward by either implementation, as configurations name them: ``rewards.hps.backend=official``. Torch-free until called.

native    our own, beside diffusers
official  the authors' package, in an environment of its own (see :mod:`refine.evals.official`)
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypedDict

from refine.errors import ConfigError
from refine.evals.official import Official, checkpoint
from refine.types import Reward

Backend = Literal["native", "official"]
Precision = Literal["float32", "bfloat16", "float16"]
HPS_FILES = {"v2.0": "HPS_v2_compressed.pt", "v2.1": "HPS_v2.1_compressed.pt"}
IMAGEREWARD_FILE = "ImageReward.pt"


class Common(TypedDict):
    """What every implementation takes."""

    name: str
    batch_size: int
    device: str


class Heads(TypedDict):
    """Attention heads per tower; None: as published."""

    vision_heads: int | None
    text_heads: int | None


def hps(
    source: str | Path = "xswu/HPSv2",
    *,
    backend: Backend = "native",
    version: Literal["v2.0", "v2.1"] = "v2.1",
    antialias: bool = True,
    name: str = "hps",
    batch_size: int = 16,
    device: str = "cpu",
    dtype: Precision = "float32",
    local_files_only: bool = False,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    python: str | None = None,
    timeout: float = 600.0,
) -> Reward:
    """HPSv2; what the arguments mean is said at ``HPSv2.from_pretrained`` and (``python``, ``timeout``) at ``Official``."""
    common: Common = {"name": name, "batch_size": batch_size, "device": device}
    heads: Heads = {"vision_heads": vision_heads, "text_heads": text_heads}
    if backend == "native":
        from refine.evals.hps import HPSv2

        return HPSv2.from_pretrained(
            source, version=version, antialias=antialias, dtype=dtype, local_files_only=local_files_only, **heads, **common
        )
    _no_precision(name, dtype)
    options = {"checkpoint": checkpoint(source, HPS_FILES[version]), "version": version, **heads}
    made = Official("hps", options, python=python, timeout=timeout, offline=local_files_only, **common)
    if made.protocol.get("antialias", antialias) != antialias:
        made.close()
        raise ConfigError(
            f"rewards.{name}.antialias is {antialias}, but the official environment has torchvision {made.protocol.get('torchvision')}, "
            f"which resizes {'with' if not antialias else 'without'} antialiasing. Set rewards.{name}.antialias={not antialias}."
        )
    return made


def imagereward(
    source: str | Path = "THUDM/ImageReward",
    *,
    backend: Backend = "native",
    tokenizer: str | Path = "bert-base-uncased",
    name: str = "imagereward",
    batch_size: int = 16,
    device: str = "cpu",
    dtype: Precision = "float32",
    local_files_only: bool = False,
    vision_heads: int | None = None,
    text_heads: int | None = None,
    python: str | None = None,
    timeout: float = 600.0,
) -> Reward:
    """ImageReward; what the arguments mean is said at ``ImageReward.from_pretrained`` and (``python``, ``timeout``) at ``Official``."""
    common: Common = {"name": name, "batch_size": batch_size, "device": device}
    if backend == "native":
        from refine.evals.imagereward import ImageReward

        heads: Heads = {"vision_heads": vision_heads, "text_heads": text_heads}
        return ImageReward.from_pretrained(source, tokenizer=tokenizer, dtype=dtype, local_files_only=local_files_only, **heads, **common)
    _no_precision(name, dtype)
    options = {"checkpoint": checkpoint(source, IMAGEREWARD_FILE), "vocabulary": vocabulary(tokenizer)}
    return Official("imagereward", options, python=python, timeout=timeout, offline=local_files_only, **common)


def vocabulary(tokenizer: str | Path) -> str | None:
    """The path of a local ``vocab.txt``; None where the tokenizer is a hub id, which the package then downloads itself."""
    path = Path(tokenizer).expanduser()
    file = path / "vocab.txt" if path.is_dir() else path
    return str(file.resolve()) if file.is_file() else None


def _no_precision(name: str, dtype: str) -> None:
    if dtype != "float32":
        raise ConfigError(f"rewards.{name}.dtype is {dtype}, but the official packages choose their own precision. Leave it out.")
