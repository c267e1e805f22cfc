"""What the benchmarks share: held-out prompts, models from presets, and a CSV that a stopped run goes on with.

Every row of a benchmark is one seed. Rows are written batch by batch; the same command skips what is there. Beside the CSV lies the
configuration that made it: another one is refused, because rows of two configurations are no sample of either.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from refine import config, loop, runner
from refine.config import PARTS, Config, arguments
from refine.errors import InputError, OutputError
from refine.evals.judge import DEFAULT_PATH, Judge, Reading, prompt_accuracy
from refine.evals.statistics import Floats, Interval
from refine.stilllife.captions import caption
from refine.stilllife.scene import Scene, sample_scene
from refine.types import Image, Record

HELD_OUT = 2_000_000
MEASURES = ("core", "every", "mean")
Row = Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class Bench:
    """Everything a benchmark works with."""

    models: loop.Models
    judge: Judge
    policy: loop.Policy
    gate: loop.Gate
    budget: loop.Budget
    batch: int

    def refine(self, prompts: Sequence[str], seeds: Sequence[int], images: Sequence[Image] | None = None) -> list[Record]:
        """The loop, as the presets configure it."""
        parts = {"policy": self.policy, "gate": self.gate, "budget": self.budget}
        return loop.run(prompts, seeds, models=self.models, images=images, **parts)  # type: ignore[arg-type]


@dataclass(slots=True)
class Watched:
    """A model whose ``calls`` (method: stage) run within ``watch(stage)``; everything else is the model's own."""

    model: Any
    calls: Mapping[str, str]
    watch: Callable[[str], AbstractContextManager[None]]

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.model, name)
        if name not in self.calls:
            return found

        def call(*arguments: Any) -> Any:
            with self.watch(self.calls[name]):
                return found(*arguments)

        return call


def watched(models: loop.Models, calls: Mapping[str, str], watch: Callable[[str], AbstractContextManager[None]]) -> loop.Models:
    """The same models, every call of theirs watched."""
    return replace(
        models,
        generator=Watched(models.generator, calls, watch),
        controller=Watched(models.controller, calls, watch),
        rewards=tuple(Watched(reward, calls, watch) for reward in models.rewards),
    )


def parser(about: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark takes."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--n", type=int, default=256, help="how many images (default 256)")
    made.add_argument("--seed0", type=int, default=HELD_OUT, help="first seed; 2,000,000 and up were never trained or tuned on")
    made.add_argument("--preset", action="append", default=[], help="as of refine run; may be given more than once")
    made.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="as of refine run")
    made.add_argument("--hard", action="store_true", help="scenes of three solids, two of them shiny cubes")
    made.add_argument("--judge", type=Path, default=DEFAULT_PATH, help="folder of the judge")
    made.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of the CSV files")
    made.add_argument("--seconds", type=float, help="stop after this long; the same command goes on")
    return made


def settings(args: argparse.Namespace) -> Config:
    """The configuration of the command line."""
    if args.n < 2:
        raise InputError(f"--n is {args.n}; a benchmark needs at least 2 images to say how sure it is.")
    return config.load(args.preset, args.overrides)


def load(args: argparse.Namespace, chosen: Config) -> Bench:
    """The models of the configuration, and the judge."""
    tree = chosen.tree
    gate, budget = (PARTS[part](**arguments(PARTS[part], tree[part])) for part in ("gate", "budget"))
    policy = runner.make("policy", tree["policy"])
    return Bench(runner.load_models(chosen), Judge.from_pretrained(args.judge), policy, gate, budget, tree["batch"])


def scene_and_prompt(seed: int, hard: bool) -> tuple[Scene, str]:
    """The held-out scene of a seed and a paraphrased caption of it."""
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng, hard=hard)
    return scene, caption(scene, rng)


def graded(prefix: str, reading: Reading, prompt: str) -> dict[str, float]:
    """Columns of one reading: prompt accuracy, artifact area in [0, 1], whether the picture is faulty."""
    scores = prompt_accuracy(reading, prompt)
    return {f"{prefix}{name}": value for name, value in scores.items()} | {
        f"{prefix}area": reading.artifact_area,
        f"{prefix}faulty": float(reading.faulty),
    }


def collect(
    path: Path, identity: Mapping[str, Any], args: argparse.Namespace, batch: int, make: Callable[[Sequence[int]], list[Row]]
) -> list[dict[str, str]]:
    """Make the rows that ``path`` lacks, batch by batch, until the time is over; return the rows of the wanted seeds that there are."""
    check_identity(path.with_suffix(".json"), identity)
    began = time.monotonic()
    seeds = range(args.seed0, args.seed0 + args.n)
    for start in range(0, len(seeds), batch):
        wanted = seeds[start : start + batch]
        there = {int(row["seed"]) for row in read(path)}
        late = args.seconds is not None and time.monotonic() - began > args.seconds
        if late or there.issuperset(wanted):
            continue
        append(path, [row for row in make(wanted) if int(row["seed"]) not in there])
        print(f"{path.name}: {min(start + batch, len(seeds))} of {len(seeds)}", flush=True)
    chosen = set(seeds)
    return [row for row in read(path) if int(row["seed"]) in chosen]


def check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Write what the rows are made with, or compare. Raises OutputError naming the keys that differ."""
    text = json.dumps(identity, indent=2, sort_keys=True) + "\n"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
    differing = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if differing:
        names = ", ".join(differing)
        raise OutputError(f"The rows beside {path} were made with another {names}. Choose another --out, or remove them.")


def read(path: Path) -> list[dict[str, str]]:
    """All whole rows of a CSV; none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        return [row for row in reader if None not in row.values() and None not in row]


def append(path: Path, rows: Sequence[Row]) -> None:
    """Add rows, on the disk when this returns."""
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)
        file.flush()
        os.fsync(file.fileno())


def column(rows: Iterable[Mapping[str, str]], *names: str) -> Floats:
    """(n,) one column as numbers, or (n, k) several."""
    table = np.array([[float(row[name]) for name in names] for row in rows], np.float64).reshape(-1, len(names))
    return table[:, 0] if len(names) == 1 else table


def percent(interval: Interval) -> str:
    """ "12.3 % [10.1, 14.5]"."""
    return f"{100 * interval.estimate:.1f} % [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def report(title: str, rows: Sequence[tuple[str, str]], path: Path) -> None:
    """Print a two-column markdown table, and write it beside the CSV."""
    lines = [f"| {title} | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
    text = "\n".join(lines) + "\n"
    path.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
