"""Several processes, one run: which part of the work is this process's, and where all of them meet.

``accelerate launch`` and ``torchrun`` tell each process its rank; started in any other way, a process is alone and nothing here waits.
Work is dealt out item by item, so what one item holds (a batch that is computed as a whole) is the same however many share.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from refine.errors import RefineError

T = TypeVar("T")

# The names of a process's rank, of the number of processes and of the rank on its own machine: torchrun, Open MPI, Intel MPI.
VARIABLES = (
    ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"),
)
PATIENCE = timedelta(days=14)  # a process may have to wait for the slowest one's whole share


@dataclass(frozen=True, slots=True)
class Shard:
    """This process among ``count``: its ``rank``, and its rank on its own machine (which accelerator it takes)."""

    rank: int = 0
    count: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """True for the process that plans, reports and speaks."""
        return self.rank == 0


def here(environment: Mapping[str, str] = os.environ) -> Shard:
    """This process's place, as its launcher says it."""
    for rank, count, local in VARIABLES:
        if rank in environment and count in environment:
            return Shard(int(environment[rank]), int(environment[count]), int(environment.get(local, "0")))
    return Shard()


def shard(items: Sequence[T], place: Shard | None = None) -> Sequence[T]:
    """The items that are this process's: every ``count``-th, from its rank on."""
    place = place or here()
    return items[place.rank :: place.count]


@contextmanager
def together() -> Iterator[Shard]:
    """Connect the processes that were launched together, for as long as the block runs; each gets an accelerator of its own."""
    place = here()
    if place.count == 1:
        yield place
        return
    import torch

    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local % torch.cuda.device_count())
    # gloo: what is exchanged is a word at the start and one at the end, never tensors.
    torch.distributed.init_process_group("gloo", rank=place.rank, world_size=place.count, timeout=PATIENCE)
    try:
        yield place
    finally:
        torch.distributed.destroy_process_group()


def agree(place: Shard, decide: Callable[[], T]) -> T:
    """What the first process decides, for all. Where it fails, it alone says why, and the others leave in silence."""
    if place.count == 1:
        return decide()
    answer: list[T] = []
    try:
        if place.first:
            answer.append(decide())
    finally:
        told = [answer]
        _meet(lambda: _broadcast(told))
    if not told[0]:
        raise SystemExit(RefineError.exit_code)
    return told[0][0]


def wait(place: Shard) -> None:
    """Until every process has come here. Raises RefineError where one of them has ended before."""
    if place.count > 1:
        import torch

        _meet(torch.distributed.barrier)


def _broadcast(told: list[list[T]]) -> None:
    import torch

    torch.distributed.broadcast_object_list(told, src=0)


def _meet(how: Callable[[], object]) -> None:
    try:
        how()
    except RuntimeError as error:
        raise RefineError(
            "Another process of this run has ended before its share was done. Finished images are whole; go on with --resume."
        ) from error
