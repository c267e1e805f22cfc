"""The training loop that every model of the project shares: resumable, budgeted, logged.

A model's own training file gives a ``step`` function and the state to keep; this module gives the rest. State is written to
``<out>/last.pt`` (temporary file, then rename), the loss curve to ``<out>/log.csv``.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def device() -> torch.device:
    """The accelerator where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


class Ema:
    """Exponential moving average of a module's floating-point state, with the usual warm-up (1 + t) / (10 + t)."""

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        self.decay, self.count = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for key, value in module.state_dict().items():
            if value.is_floating_point():
                self.shadow[key].lerp_(value, 1 - decay)
            else:
                self.shadow[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        self.shadow = state["shadow"]


def cosine(step: int, total: int, peak: float, warmup: int = 200, floor: float = 0.02) -> float:
    """Learning rate: linear warm-up, then half a cosine down to ``floor`` × peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + float(np.cos(np.pi * done))))


def train(
    step: Callable[[int], Mapping[str, float]],
    state: Mapping[str, Any],
    *,
    out: Path,
    steps: int,
    seconds: float | None = None,
    save_every: float = 120.0,
    log_every: int = 50,
) -> int:
    """Call ``step(i)`` for i from where the last run stopped up to ``steps``; return the number of steps done in all.

    ``step`` does one optimizer step and returns numbers to log. ``state`` maps names to objects with ``state_dict`` and
    ``load_state_dict``. Stops early, with everything saved, after ``seconds`` or on SIGINT / SIGTERM. Randomness must be
    derived from ``i`` so that a resumed run sees the batches that an unbroken one would have seen.
    """
    out.mkdir(parents=True, exist_ok=True)
    last = out / "last.pt"
    start, spent = 0, 0.0
    if last.exists():
        saved = torch.load(last, map_location="cpu", weights_only=False)
        start, spent = saved["step"], saved["spent"]
        for name, part in state.items():
            part.load_state_dict(saved[name])

    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    def save(done: int) -> None:
        payload = {name: part.state_dict() for name, part in state.items()} | {"step": done, "spent": spent + time.monotonic() - began}
        torch.save(payload, last.with_suffix(".tmp"))
        os.replace(last.with_suffix(".tmp"), last)

    previous = {sig: signal.signal(sig, stop) for sig in (signal.SIGINT, signal.SIGTERM)}
    began = saved_at = time.monotonic()
    sums: dict[str, float] = {}
    count, index = 0, start
    try:
        while index < steps and not stopping and (seconds is None or time.monotonic() - began < seconds):
            for key, value in step(index).items():
                sums[key] = sums.get(key, 0.0) + float(value)
            count, index = count + 1, index + 1
            if index % log_every == 0:
                row = {key: value / count for key, value in sums.items()}
                _log(out / "log.csv", index, spent + time.monotonic() - began, row)
                sums, count = {}, 0
            if time.monotonic() - saved_at > save_every:
                save(index)
                saved_at = time.monotonic()
        save(index)
    finally:
        for sig, handler in previous.items():
            signal.signal(sig, handler)
    return index


def _log(path: Path, step: int, spent: float, row: Mapping[str, float]) -> None:
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "seconds", *row])
        writer.writerow([step, round(spent, 1), *(f"{value:.6g}" for value in row.values())])
    print(f"step {step}  {spent:.0f} s  " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
