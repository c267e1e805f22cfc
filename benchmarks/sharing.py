"""What does a bench save by computing once what its arms share, and does it change a number?

    python -m benchmarks.sharing --n 4 --sets prompts    every arm of the suite, alone and after the arms before it

Both ways in turn, arm by arm, so that a slow minute hits both. Seconds are the processor's. Samples are tuning seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import common
from benchmarks.recipe import SEED0
from refine.bench import samples, work
from refine.bench.arms import Arm
from refine.bench.folder import Plan
from refine.bench.memory import Memory
from refine.bench.samples import Sample
from refine.bench.work import Load, Outcome, Ruler
from refine.commands import bench as command
from refine.errors import spoken


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=4, help="pictures of each set, one batch (default 4)")
    parser.add_argument("--sets", nargs="+", default=["prompts"], choices=tuple(samples.SETS))
    parser.add_argument("--preset", action="append", default=[])
    parser.add_argument("--arm", action="append", default=[], help="only this arm beside the baseline; repeatable")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    args = parser.parse_args(argv)
    numbers = ",".join(f"{name}=2" for name in args.sets)  # the plan's own samples are not used
    plan = command.plan_of({**command.DEFAULTS, "preset": args.preset, "arm": args.arm, "n": numbers})
    load, ruler = command.workshop(plan)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        group = [sample for seed in range(SEED0, SEED0 + args.n) for sample in samples.SETS[name](seed, 1)]
        rows = compared(plan, name, group, load, ruler)
        common.report(f"{name}, {args.n} pictures per arm: processor seconds alone, shared", rows, args.out / f"sharing-{name}.csv")


def compared(plan: Plan, name: str, group: Sequence[Sample], load: Load, ruler: Ruler) -> list[tuple[str, str]]:
    """Seconds of each arm both ways, their ratio, and whether all lines and pictures are equal."""
    shared = Memory()
    totals, rows, same = [0.0, 0.0], [], True
    for arm in plan.arms_of(name):
        timed = [done(plan, arm, name, group, load, ruler, memory) for memory in (Memory(), shared)]
        rows.append((arm.name, ", ".join(f"{seconds:.2f} s" for seconds, _ in timed)))
        totals = [total + seconds for total, (seconds, _) in zip(totals, timed, strict=True)]
        same &= plain(timed[0][1]) == plain(timed[1][1])
    ratio = f"{totals[0]:.1f} s / {totals[1]:.1f} s = {totals[0] / totals[1]:.2f}"
    per_picture = ", ".join(f"{total / len(group):.2f} s" for total in totals)
    return [*rows, ("all arms", ratio), ("per picture, all arms", per_picture), ("every number and picture equal", "yes" if same else "NO")]


def done(plan: Plan, arm: Arm, name: str, group: Sequence[Sample], load: Load, ruler: Ruler, memory: Memory) -> tuple[float, list[Outcome]]:
    """One arm on the group, at the suite's budget, and what it took."""
    engine = load(arm, [sample.prompt for sample in group])
    evaluations = engine.budget.evaluations or plan.draws * engine.models.generator.cost()
    engine = dataclasses.replace(engine, budget=dataclasses.replace(engine.budget, evaluations=evaluations))
    began = time.process_time()
    outcomes = work.attempt(engine, group, work.tables(plan)[name], ruler, memory)
    return time.process_time() - began, outcomes


def plain(outcomes: Sequence[Outcome]) -> list[object]:
    """Everything but seconds."""
    return [({**line, "seconds": None}, image and image.tobytes()) for line, image in outcomes]


if __name__ == "__main__":
    spoken(main)
