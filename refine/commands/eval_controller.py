"""``refine eval controller``: a controller on a set, then the table."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from refine import config as configuration
from refine import display, evaluation, runner
from refine.commands.folders import RUNS, fresh
from refine.errors import InputError, going_on
from refine.evals.controller import UNTOUCHED
from refine.evals.datasets.catalogue import open_dataset
from refine.evals.perturb import parse
from refine.evals.sentences import PUBLISHED, MeanPooling
from refine.evaluation import Work
from refine.trees import Tree

# What the command line may leave out, and what it is then.
DEFAULTS: Tree = {
    "dataset": None, "root": None, "split": None, "n": 64, "limit": None, "perturb": [], "encoder": None, "preset": [], "set": [],
}  # fmt: skip


def execute(args: Namespace) -> None:
    """Everything that can be wrong with the request is checked before the folder is made and before weights load."""
    runner.check_torchvision()
    asked = requested(args)
    config = configuration.load(asked["preset"], asked["set"])
    conditions = (None, *(parse(text) for text in dict.fromkeys(asked["perturb"])))
    dataset = open_dataset(asked["dataset"], Path(asked["root"]) if asked["root"] else None, asked["split"], asked["n"])
    work = Work(dataset.entries[: asked["limit"]], conditions, config.tree["batch"])
    fixed = evaluation.settings(dataset, config.tree["controller"], asked["encoder"])
    out = Path(args.out) if args.out else fresh(RUNS / "eval")
    if args.resume:
        evaluation.must_match(out, fixed)
    else:
        evaluation.create(out, asked, fixed)
    args.folder = out
    done = evaluation.ledger(out).rows
    finished = sum((str(condition or UNTOUCHED), entry.id) in done for condition in conditions for entry in work.entries)
    errors = display.console(sys.stderr)
    if finished < work.total:
        errors.print("loading models")
        controller = runner.load_controller(config)
        encoder = MeanPooling.from_pretrained(asked["encoder"], device=runner.accelerator()) if asked["encoder"] else None
        less = f"What is finished is safe. Go on with a smaller batch: the same command with {going_on(out)} --set batch=1"
        with display.counter("pictures", work.total, finished, errors) as advance, runner.enough_memory(work.batch, less):
            evaluation.run(out, work, controller, encoder, advance)
    about = [f"controller: {described(config.tree['controller'])}", f"conditions: {', '.join(str(one or UNTOUCHED) for one in conditions)}"]
    if asked["encoder"]:
        about.append(f"sentence encoder: {asked['encoder']} (the paper's is {PUBLISHED})")
    screen = display.console()
    screen.print(display.safe(evaluation.publish(out, dataset, work, about)), soft_wrap=True)
    screen.print(f"per picture: {out / evaluation.CSV}\ntable: {out / evaluation.TABLE}", soft_wrap=True)


def described(node: Tree) -> str:
    """A controller's node on one line; what is left open (null) is left out."""
    given = ", ".join(f"{key}={value}" for key, value in node.items() if key != "use" and value is not None)
    return f"{node['use']} ({given})" if given else str(node["use"])


def requested(args: Namespace) -> Tree:
    """What to do; a resumed evaluation takes from its folder what the command line leaves out."""
    given = {name: value for name in DEFAULTS if (value := getattr(args, name)) not in (None, [])}
    if args.limit is not None and args.limit < 1:
        raise InputError(f"--limit is {args.limit}; it must be at least 1.")
    if args.resume and not args.out:
        raise InputError("Say which evaluation goes on: --out DIR --resume.")
    asked = DEFAULTS | (evaluation.asked_for(Path(args.out)) if args.resume else {}) | given
    if asked["dataset"] is None:
        raise InputError("Say which set: --dataset NAME, for example --dataset stilllife, which needs no download.")
    return asked
