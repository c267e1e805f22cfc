"""The commands behind the command line; each takes parsed arguments and prints results to stdout, progress to stderr."""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import datetime
from pathlib import Path

from refine import config as configuration
from refine import display, images, jobs, presets, prompts, record, runner, store
from refine.config import Config
from refine.errors import InputError, OutputError
from refine.jobs import Job
from refine.overlay import overlay
from refine.prompts import Prompt
from refine.report import write_report
from refine.store import Run
from refine.types import Critique

RUNS = Path("runs")


def run(args: Namespace) -> None:
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


def fresh(folder: Path) -> Path:
    """A new name below ``folder``: date and time, and a number where that is taken."""
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{count}" for count in range(2, 100))]
    return next(path for name in names if not (path := folder / name).exists())


def newest(folder: Path) -> Path:
    """The run below ``folder`` that was started last. Raises InputError where there is none."""
    runs = [path.parent for path in folder.glob(f"*/{store.RUN}")]
    if not runs:
        raise InputError(f"There is no run in {folder.absolute()}. Name one, or start with: refine run.")
    return max(runs, key=lambda path: (path / store.JOBS).stat().st_mtime)


def inspect(args: Namespace) -> None:
    """The controller alone: text to stdout; JSON, masks and an overlay to a folder."""
    runner.check_torchvision()
    config = configuration.load(args.preset, args.set)
    files = images.files(map(Path, args.image))
    for file in files:
        images.read(file)
    out = Path(args.out) if args.out else fresh(RUNS / "inspect")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already. Choose another --out.")
    controller = runner.load_controller(config)
    screen = display.console()
    for number, file in enumerate(files):
        picture = images.read(file)
        critique = controller.inspect([picture.image])[0]
        write_inspection(out / f"{number:03d}-{file.stem}", file, picture, critique)
        screen.print(display.safe(display.critique_text(file.name, critique)))
    screen.print(f"masks, overlays and JSON: {out}")


def write_inspection(folder: Path, file: Path, picture: images.Picture, critique: Critique) -> None:
    """``critique.json``, ``overlay.png`` and one mask per region."""
    source = {"name": file.name, "sha256": picture.sha256, "notes": list(picture.notes)}
    with store.writing(folder):
        (folder / "masks").mkdir(parents=True)
        text = record.dumps({"format": record.FORMAT, "source": source, "critique": record.critique_json(critique)})
        (folder / "critique.json").write_text(text, encoding="utf-8")
        images.write(overlay(picture.image, critique), folder / "overlay.png")
        store.write_masks(folder / "masks", "region", critique)


def list_presets(args: Namespace) -> None:
    """The presets that ship with the package; with a name, its text."""
    screen = display.console()
    if args.name:
        screen.print(presets.text(args.name).rstrip(), soft_wrap=True)
    else:
        screen.print(display.presets_table([presets.describe(name) for name in presets.names()]))


def show(args: Namespace) -> None:
    """The closing table of a run, made anew from its ledger."""
    folder = Path(args.run) if args.run else newest(RUNS)
    kept, work = store.reopen(folder)
    lines = store.ledger(folder)
    finished = {line["key"] for line in lines}
    left = sum(jobs.key(job, kept.config) not in finished for job in work)
    screen = display.console()
    screen.print(display.closing_table(lines, folder))
    if left:
        screen.print(f"{left} images are not finished: refine run --out {folder} --resume")
    if (folder / "report.html").exists():
        screen.print(f"report: {folder / 'report.html'}")
