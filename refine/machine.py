"""This machine: what it has, and what is known to be broken on it. Torch is imported only when it is asked about."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from refine.sizes import GB

PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "huggingface_hub", "safetensors")
OPTIONAL = ("xformers", "bitsandbytes", "peft", "torchvision", "flash-attn")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """name: as torch finds it; kind: cuda or mps; memory: gigabytes; driver: CUDA's version, "" where there is none."""

    name: str
    kind: str
    memory: float
    driver: str = ""


def installed(package: str) -> str | None:
    """The version of a distribution; None where it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def accelerator() -> Accelerator | None:
    """The first accelerator that torch can use."""
    import torch

    if torch.cuda.is_available():
        facts = torch.cuda.get_device_properties(0)
        return Accelerator(facts.name, "cuda", facts.total_memory / GB, str(torch.version.cuda or torch.version.hip or ""))
    if torch.backends.mps.is_available():
        return Accelerator("Apple GPU", "mps", memory())
    return None


def memory() -> float:
    """Gigabytes of the machine's memory, or of what its container may use where that is less."""
    own = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    stated = [path.read_text().strip() for path in limits if path.is_file()]
    return min([own, *(int(text) for text in stated if text.isdigit())]) / GB


def free(folder: Path) -> float:
    """Gigabytes free on the disk of a folder, which need not exist yet."""
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    return shutil.disk_usage(place).free / GB


def breakages() -> Iterator[str]:
    """What is known not to work together here, and how to mend it."""
    from refine.errors import RefineError
    from refine.runner import check_torchvision

    try:
        check_torchvision()
    except RefineError as error:
        yield str(error)
    import torch

    built, card = torch.version.cuda or torch.version.hip, accelerator()
    if card is None and built is None and shutil.which("nvidia-smi"):
        yield f"There is an NVIDIA driver, but torch {torch.__version__} was built for the CPU alone. Install a build for CUDA."
    if card is None and built is not None:
        yield f"torch {torch.__version__} was built for {built}, but finds no accelerator it can use. Check the driver: nvidia-smi"
    if find_spec("xformers") and card is None:
        yield "xformers is installed, but works on a GPU only; refine does not use it here. To be rid of it: pip uninstall xformers"
    if find_spec("bitsandbytes") and card is None:
        yield "bitsandbytes is installed, but there is no GPU: settings with quantize are slow or fail here."
    if platform.python_version_tuple() < ("3", "11"):
        yield f"Python {platform.python_version()} is older than 3.11."
