"""``refine run``: draw (or read), inspect, repair, check."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from refine import config as configuration
from refine import display, images, jobs, prompts, runner, store
from refine.commands.folders import RUNS, fresh, newest
from refine.config import Config
from refine.jobs import Job
from refine.prompts import Prompt
from refine.report import write_report
from refine.store import Run


def execute(args: Namespace) -> None:
    """Draw (or read), inspect, repair, check; write the run folder, the report and the closing table."""
    runner.check_torchvision()
    folder, work, config = resumed(args) if args.resume else started(args)
    args.folder = folder.folder
    errors = display.console(sys.stderr)
    finished = {line["key"] for line in store.ledger(folder.folder)}
    left = [job for job in work if jobs.key(job, folder.config) not in finished]
    if left:
        errors.print("loading models")
        models = runner.load_models(config)
        with display.progress(len(work), len(work) - len(left), errors) as (observe, done):
            runner.execute(folder, work, models, observe, lambda text: errors.print(display.safe(text)), done)
    store.write_scores(folder.folder)
    report = write_report(folder.folder)
    screen = display.console()
    screen.print(display.closing_table(store.ledger(folder.folder), folder.folder))
    screen.print(f"report: {report}")


def started(args: Namespace) -> tuple[Run, list[Job], Config]:
    """A new run: everything that can be wrong with the request is checked before the folder is made."""
    config = configuration.load(args.preset, args.set)
    work = requested(args)
    out = Path(args.out) if args.out else fresh(RUNS)
    return store.create(out, config.tree, config.presets, work), work, config


def resumed(args: Namespace) -> tuple[Run, list[Job], Config]:
    """A run that goes on: what is left out on the command line is taken from its folder, what is given must agree with it."""
    folder = Path(args.out) if args.out else newest(RUNS)
    old, work = store.reopen(folder)
    if args.preset or args.set:
        store.must_match(old, configuration.load(args.preset, args.set).tree)
    if args.prompt or args.prompts or args.images or args.seed is not None:
        work = requested(args)
        store.keep_jobs(old, work)
    return old, work, configuration.check(old.config)


def requested(args: Namespace) -> list[Job]:
    """The jobs that the command line asks for; with nothing asked, the built-in prompts."""
    wanted = [Prompt(text, where=f"prompt {number}") for number, text in enumerate(args.prompt, 1)]
    if args.prompts:
        wanted += prompts.read(Path(args.prompts))
    files = images.files(map(Path, args.images or []))
    if not wanted and not files:
        from refine.stilllife.prompts import DEFAULT_PROMPTS

        wanted = [Prompt(text) for text in DEFAULT_PROMPTS]
    return jobs.plan(wanted, files, args.seed or 0)
