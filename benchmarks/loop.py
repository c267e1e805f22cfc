"""What lockstep is worth, what the loop costs beside its models, and whether memory stays flat.

    python -m benchmarks.loop                    16 images: lockstep against one by one, overhead, seconds per stage
    python -m benchmarks.loop --memory 16 256    peak memory of `refine run` on that many images (preset painter, no model)

Lockstep and one by one take turns, so that whatever else the machine does hits both. Seconds are the processor's where it does all the
work (other processes hardly count), and the clock's where an accelerator works.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import common
from refine import runner
from refine.engine import Engine, batches
from refine.errors import spoken
from refine.types import Record

now = time.process_time if runner.accelerator() == "cpu" else time.perf_counter
CALLS = {"draw": "draw", "inpaint": "repaint", "inspect": "inspect", "score": "score"}  # method: stage


@dataclass(slots=True)
class Lap:
    """One way to do all images: seconds of each turn, and of each kind of call over all turns."""

    total: list[float] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


def main(argv: Sequence[str] | None = None) -> None:
    parser = common.parser(__doc__)
    parser.set_defaults(n=16)
    parser.add_argument("--turns", type=int, default=2, help="how often each way takes its turn (default 2)")
    parser.add_argument("--memory", type=int, nargs="+", metavar="N", help="measure peak memory on N images instead")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.memory:
        rows = [(f"peak memory, {n} images", peaks(n)) for n in args.memory]
        return common.report("memory of refine run --preset painter", rows, args.out / "loop-memory.csv")
    chosen = common.settings(args)
    engine = runner.make_engine(chosen.tree, runner.load_models(chosen))
    common.report(f"the loop on {args.n} images, {args.turns} turns", speed(engine, args.n, args.seed0, args.turns), args.out / "loop.csv")


def speed(engine: Engine, n: int, seed0: int, turns: int) -> list[tuple[str, str]]:
    """Lockstep (all ``n`` at once) against one by one, in turns; one image before them warms up."""
    laps = {n: Lap(), 1: Lap()}
    prompts = [common.scene_and_prompt(seed, False)[1] for seed in range(seed0, seed0 + n)]
    walk(engine, prompts[:1], seed0, 1, Lap().seconds)
    for turn in range(turns):
        for size, lap in laps.items():
            began = now()
            walk(engine, prompts, seed0 + turn * n, size, lap.seconds)
            lap.total.append(now() - began)
    together, alone = laps[n], laps[1]
    own = 1 - sum(together.seconds.values()) / sum(together.total)
    ratio = np.median(np.array(alone.total) / np.array(together.total))
    return [
        ("seconds per image, in lockstep", f"{np.median(together.total) / n:.2f}"),
        ("seconds per image, one by one", f"{np.median(alone.total) / n:.2f}"),
        ("lockstep is faster by", f"{ratio:.2f} ×"),
        ("the loop's own share of the time, in lockstep", f"{100 * own:.1f} %"),
        *((f"share of {stage}", f"{100 * spent / sum(together.total):.1f} %") for stage, spent in together.seconds.items()),
    ]


def walk(engine: Engine, prompts: Sequence[str], seed: int, size: int, seconds: defaultdict[str, float]) -> list[Record]:
    """Refine all images, ``size`` at a time."""
    timed = common.watched(engine.models, CALLS, partial(timing, seconds))
    jobs = list(zip(prompts, range(seed, seed + len(prompts)), strict=True))
    return [record for part in batches(jobs, size) for record in refine(replace(engine, models=timed), part)]


@contextmanager
def timing(seconds: defaultdict[str, float], stage: str) -> Iterator[None]:
    """Add what passes to a stage's seconds."""
    began = now()
    try:
        yield
    finally:
        seconds[stage] += now() - began


def refine(engine: Engine, part: Sequence[tuple[str, int]]) -> list[Record]:
    return engine.refine([prompt for prompt, _ in part], [seed for _, seed in part])


# A process's own account of its peak (Linux), before the page is written and after. What the parent reads of a child (ru_maxrss) would
# include the parent's size at the fork.
MEASURED = """
import sys
from refine import cli
from refine.commands import run
def peak():
    return next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
def conclude(folder, last=run.conclude):
    global images
    images = peak()
    last(folder)
run.conclude = conclude
code = cli.main(sys.argv[1:])
print(images, peak())
sys.exit(code)
"""


def peaks(n: int) -> str:
    """Peak memory of a fresh process that refines ``n`` images, 8 at a time, into its run folder, and then writes the report."""
    prompts = [common.scene_and_prompt(common.HELD_OUT + index, False)[1] for index in range(n)]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "prompts.txt"
        listed.write_text("\n".join(prompts), encoding="utf-8")
        arguments = ["run", "--preset", "painter", "--prompts", str(listed), "--out", f"{folder}/run"]
        done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    images, report = (int(kilobytes) / 1024 for kilobytes in done.stdout.split()[-2:])
    return f"{images:.0f} MiB, with the report {report:.0f} MiB"


if __name__ == "__main__":
    spoken(main)
