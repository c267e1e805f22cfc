"""``refine run``: draw (or read), inspect, repair, check."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

from refine import config as configuration
from refine import display, images, jobs, prompts, runner, shards, store, trees
from refine.commands.folders import RUNS, fresh, newest
from refine.errors import InputError, RefineError, going_on
from refine.jobs import Job
from refine.prompts import Prompt
from refine.report import write_report
from refine.shards import Shard
from refine.store import Run
from refine.trees import Tree


def execute(args: Namespace) -> None:
    """Draw (or read), inspect, repair, check; write the run folder, the report and the closing table.

    Processes that were launched together share one folder: the first plans and reports, all compute.
    """
    runner.check_torchvision()
    with shards.together() as place:
        args.folder, finished = shards.agree(place, lambda: planned(args))
        compute(Path(args.folder), finished, place)
        shards.wait(place)
        if place.first:
            conclude(Path(args.folder))


def planned(args: Namespace) -> tuple[str, frozenset[str]]:
    """The folder of the run, and the keys of what is finished in it."""
    run = resumed(args) if args.resume else started(args)
    return str(run.folder), frozenset(line["key"] for line in store.ledger(run.folder))


def compute(folder: Path, finished: frozenset[str], place: Shard) -> None:
    """This process's share of the run."""
    found, work = store.reopen(folder)
    run = replace(found, rank=place.rank)
    left = runner.pending(work, run.config, finished, place)
    if not left:
        return
    errors = display.console(sys.stderr)
    mine = work if place.count == 1 else [job for batch in left for job in batch]
    shown = errors if place.first else display.console(StringIO())  # one process's progress is enough to look at
    shown.print("loading models" if place.count == 1 else f"loading models; this process has {len(mine)} of {len(work)} images")
    told = runner.informed(run.config, list(dict.fromkeys(job.prompt for job in work if job.prompt)))
    models = runner.load_models(configuration.check(told))
    if place.first:
        store.keep_protocols(run, {reward.name: dict(getattr(reward, "protocol", {})) for reward in models.rewards})
    before = sum(jobs.key(job, run.config) in finished for job in mine)
    with display.progress(len(mine), before, shown) as (observe, done):
        runner.execute(run, left, models, observe, lambda text: errors.print(display.safe(text)), done)


def conclude(folder: Path) -> None:
    """One ledger, the table of scores, the report, and what is said at the end. Raises RefineError where an image failed."""
    store.fold(folder)
    store.write_scores(folder)
    report = write_report(folder)
    screen = display.console()
    screen.print(display.closing_table(store.ledger(folder), folder))
    screen.print(f"report: {report}", soft_wrap=True)
    if failed := store.failed(folder):
        errors = "\n".join(f"  - {line['id']}: {line['error']}" for line in failed)
        raise RefineError(
            f"{len(failed)} image{'s' * (len(failed) > 1)} failed:\n{errors}\nThe others are whole; the traces are in "
            f"{folder / store.FAILURES}. To try again: refine run {going_on(folder)}"
        )


def started(args: Namespace) -> Run:
    """A new run: everything that can be wrong with the request is checked before the folder is made."""
    config = configuration.load(args.preset, args.set)
    seed = args.seed or 0
    work = requested(args, seed)
    out = Path(args.out) if args.out else fresh(RUNS)
    return store.create(out, config.tree, config.presets, work, seed)


def resumed(args: Namespace) -> Run:
    """A run that goes on: what is left out on the command line is taken from its folder, what is given must agree with it."""
    folder = Path(args.out) if args.out else newest(RUNS)
    old, _ = store.reopen(folder)
    if args.preset or args.set:
        store.must_match(old, asked(args, old))
    configuration.check(old.config)
    if args.seed not in (None, old.seed):
        raise InputError(f"--seed is {args.seed}, and {folder} was begun with {old.seed}. Leave it out, or choose another --out.")
    if args.prompt or args.prompts or args.images:
        store.keep_jobs(old, requested(args, old.seed))
    return old


def asked(args: Namespace, old: Run) -> Tree:
    """The configuration that the command line names for a run that goes on; without a preset, the run's own under the overrides."""
    if args.preset:
        return configuration.load(args.preset, args.set).tree
    return configuration.check(trees.merge([old.config, *map(trees.parse_override, args.set)])).tree


def requested(args: Namespace, seed: int) -> list[Job]:
    """The jobs that the command line asks for; with nothing asked, the built-in prompts."""
    refuse_files(args.prompt)
    wanted = [Prompt(text, where=f"prompt {number}") for number, text in enumerate(args.prompt, 1)]
    if args.prompts:
        wanted += prompts.read(Path(args.prompts))
    files = images.files(map(Path, args.images or []))
    if not wanted and not files:
        from refine.stilllife.prompts import DEFAULT_PROMPTS

        wanted = [Prompt(text) for text in DEFAULT_PROMPTS]
    return jobs.plan(wanted, files, seed)


def refuse_files(given: Sequence[str]) -> None:
    """Raises InputError where a prompt is a file: a shell spells ``--images *.png`` out, and the option takes the first of them alone."""
    for name in given:
        suffix = Path(name).suffix.lower()
        if suffix in prompts.READERS and os.path.isfile(name):
            raise InputError(f"{name} is a file, not a prompt. To read prompts from it: --prompts {name}")
        if suffix in images.SUFFIXES and os.path.isfile(name):
            raise InputError(f"{name} is a file, not a prompt. Write --images before each image, or name their folder: --images FOLDER")
