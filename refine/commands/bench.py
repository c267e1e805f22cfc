"""``refine bench``: arms × samples, then tables, plots and a gallery."""

from __future__ import annotations

import json
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refine import config as configuration
from refine import display, runner, shards
from refine.bench import arms, folder, publish, samples, work
from refine.bench.arms import Arm
from refine.bench.folder import Plan, Request
from refine.bench.work import Ruler
from refine.commands.folders import RUNS, fresh
from refine.engine import Engine
from refine.errors import ConfigError, InputError, RefineError, going_on
from refine.evals.judge import Judge
from refine.stages import Models
from refine.trees import Tree

# What the command line may leave out, and what it is then.
DEFAULTS: Request = {
    "suite": "stilllife", "prompts": None, "n": 64, "seeds": 1, "arm": [], "held_out": [], "preset": [], "set": [],
}  # fmt: skip


def execute(args: Namespace) -> None:
    """Plan, run, summarise. Processes that were launched together share one folder: the first plans and publishes, all compute."""
    runner.check_torchvision()
    with shards.together() as place:
        asked, out = shards.agree(place, lambda: planned(args))
        args.folder = Path(out)
        if args.processes > 1 and place.count == 1:
            launch(args.folder, args.processes)
            return
        plan = plan_of(asked)
        screen = display.console(sys.stderr)
        for name in plan.idle if place.first else ():
            screen.print(f"{name} is left out: no arm but the baseline {plan.baseline} runs on it.")
        load, ruler = workshop(plan)
        prompts = [sample.prompt for sample in next(iter(plan.sets.values()))]
        shards.agree(place, lambda: work.prepare(args.folder, plan, load(Arm("base", "", plan.common), prompts)))
        todo = shards.agree(place, lambda: work.pending(args.folder, plan))
        share = shards.shard(todo, place)
        with runner.enough_memory(plan.base["batch"]):
            work.execute(args.folder, plan, share, load, ruler, place.rank, lambda text: screen.print(display.safe(text)))
        shards.wait(place)
        if place.first:
            display.console().print(display.safe(publish.everything(args.folder, plan)))


def planned(args: Namespace) -> tuple[Request, str]:
    """The request and the folder; a new one is made, an old one must agree. All that can be wrong is checked here."""
    given = {name: value for name in DEFAULTS if (value := getattr(args, name)) not in (None, [])}
    if args.processes < 1:
        raise InputError(f"--processes is {args.processes}; it must be 1 or more.")
    if args.resume:
        if not args.out:
            raise InputError("Say which bench goes on: --out DIR --resume.")
        out = Path(args.out)
        asked = grown(DEFAULTS | folder.request(out), given)
        plan = plan_of(asked)
        folder.must_match(out, plan)
        folder.keep(out, plan)
        return asked, str(out)
    asked = DEFAULTS | given
    plan = plan_of(asked)
    out = Path(args.out) if args.out else fresh(RUNS / "bench")
    folder.create(out, plan)
    return asked, str(out)


def grown(before: Request, given: Request) -> Request:
    """The request of a bench that goes on: what it was, and more. Raises ConfigError for another suite or other prompts."""
    faults = [
        f"--{name} is {given[name]}, and this bench was begun with {before[name] or 'still life'}. Leave it out, or choose another --out."
        for name in ("suite", "prompts")
        if given.get(name, before[name]) != before[name]
    ]
    if faults:
        raise ConfigError(faults)
    asked = before | given | {"arm": more(before["arm"], given.get("arm", []))}
    if "n" in given:
        sets = ("prompts",) if before["prompts"] else arms.read(before["suite"]).sets
        asked["n"] = samples.more(before["n"], given["n"], sets)
    return asked


def more(before: Sequence[str], given: Sequence[str]) -> list[str]:
    """The arms of a bench that goes on: those it had, and new ones. None named: all of them."""
    return list(dict.fromkeys((*before, *given))) if before else []


def plan_of(asked: Request) -> Plan:
    """The request spelled out and checked: samples, arms, and tables that are not made of steering metrics alone.

    Sets that no arm runs on beside the baseline are left out. Raises ConfigError, also where none is left.
    """
    suite = arms.choose(arms.read(asked["suite"]), asked["arm"])
    source = Path(asked["prompts"]) if asked["prompts"] else None
    sets = samples.load(source, suite.sets, asked["n"], asked["seeds"])
    base, made = arms.resolve(suite, asked["preset"], asked["set"], asked["held_out"], list(sets))
    plan = Plan(asked, suite.baseline, suite.ours, suite.draws, base, tuple(made), sets)
    used = {name: group for name, group in sets.items() if len(plan.arms_of(name)) > 1}
    if not used:
        names = ", ".join(name for name in suite.arms if name != suite.baseline)
        raise ConfigError(f"The chosen arms run on none of the sets {', '.join(sets)}: {names}. Choose another --arm, or other sets (--n).")
    plan = replace(plan, sets=used, idle=tuple(name for name in sets if name not in used))
    for name, metrics in work.tables(plan).items():
        arms.refuse_self_praise(plan.arms_of(name), base, frozenset(metric.source for metric in metrics), name)
    return plan


def launch(out: Path, processes: int) -> None:
    """The same bench in several processes on this machine. Raises RefineError where they fail."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    done = subprocess.run([*command, "-m", "refine", "bench", "--out", str(out), "--resume"])
    if done.returncode:
        raise RefineError(f"A process failed (see above). Finished samples are safe; go on with: refine bench {going_on(out)}")


def workshop(plan: Plan) -> tuple[Callable[[Arm, Sequence[str]], Engine], Ruler]:
    """What makes an arm's engine, and what measures. A model that several arms name is loaded once."""
    base = runner.load_models(configuration.check(plan.base))
    rewards = dict(zip(plan.base["rewards"], base.rewards, strict=True))
    shelf = {_name(role, plan.base[role]): getattr(base, role) for role in ("generator", "controller", "reviser")}
    shelf |= {_name("reward", plan.base["rewards"][name]): reward for name, reward in rewards.items()}

    def model(kind: str, node: Tree) -> Any:
        name = _name(kind, node)
        if name not in shelf:
            shelf[name] = runner.make(kind, node)
        return shelf[name]

    def load(arm: Arm, prompts: Sequence[str]) -> Engine:
        tree = runner.informed(arm.tree, prompts)
        generator, controller, reviser = (model(role, tree[role]) for role in ("generator", "controller", "reviser"))
        chosen = tuple(model("reward", node) for node in tree["rewards"].values())
        return runner.make_engine(tree, Models(generator, controller, chosen, reviser))

    judged = any(metric.source == "judge" for metrics in work.tables(plan).values() for metric in metrics)
    return load, Ruler(Judge.from_pretrained() if judged else None, rewards, base.controller)


def _name(kind: str, node: Tree) -> str:
    """Two nodes of one name make the same model."""
    return json.dumps([kind, node], sort_keys=True)
