"""``refine tune``: gate margins and strengths for a person's own model and images, as a preset."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from refine import config as configuration
from refine import display, durable, images, jobs, presets, prompts, runner, store, trees
from refine.bench import tuning
from refine.bench.tables import interval
from refine.bench.tuning import Fitted, Outcome
from refine.engine import batches
from refine.errors import InputError, OutputError
from refine.evals.statistics import Interval
from refine.jobs import Job


def execute(args: Namespace) -> None:
    """Draw or read, split in halves, fit on one, report on the other, write the preset."""
    runner.check_torchvision()
    config = configuration.load(args.preset, args.set)
    out = Path(args.out)
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out is {out}; a preset file ends in .yaml.")
    if out.exists():
        raise OutputError(f"{out} exists already. Choose another --out.")
    work = requested(args)
    tune, report = tuning.halves(work, lambda job: job.prompt)
    screen = display.console(sys.stderr)
    screen.print("loading models")
    engine = runner.make_engine(config.tree, runner.load_models(config))
    with runner.enough_memory(engine.batch):
        cases = {name: tuning.look(engine, *columns(half)) for name, half in (("tune", tune), ("report", report))}
        screen.print(f"fitting on {len(tune)} images")
        found = tuning.fit(engine, cases["tune"])
        screen.print(f"reporting on {len(report)} other images")
        after = tuning.tuned(engine, found)
        outcomes = [tuning.outcome(one, cases["report"]) for one in (engine, after)]
        chances = [chance for part in batches(cases["report"], engine.batch) for chance in tuning.harmless(engine, part)]
    lines = report_lines(found, outcomes, len(report), [tuning.vetoed(one.gate, chances) for one in (engine, after)], len(chances))
    with store.writing(out.parent, resumes=False):
        out.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(out, preset(args, found, lines))
    display.console().print(display.safe("\n".join([*lines, f"preset: {out}"])))


def requested(args: Namespace) -> list[Job]:
    """The images to tune on; the first ``--n`` of them."""
    wanted = prompts.read(Path(args.prompts)) if args.prompts else []
    files = images.files(map(Path, args.images or []))
    if not wanted and not files:
        raise InputError("Nothing to tune on: give --prompts FILE, or --images with prompts beside them.")
    if args.n < tuning.LEAST:
        raise InputError(f"--n is {args.n}; tuning needs at least {tuning.LEAST} images, half of them for the report.")
    return jobs.plan(wanted, files, 0)[: args.n]


def columns(work: Sequence[Job]) -> tuple[list[str], list[int], list[Any]]:
    """Prompts, seeds and given pictures (None: to be drawn)."""
    sources = [runner.source(job) for job in work]
    return [job.prompt for job in work], [job.seed for job in work], [one.image if one else None for one in sources]


def report_lines(found: Fitted, outcomes: Sequence[Outcome], count: int, vetoes: Sequence[Interval | None], repaints: int) -> list[str]:
    """What was fitted and from what; then before and after on the report half."""
    shares = [f"{name} {value:g}" for name, value in found.gate.noise.items()]
    strengths = ", ".join(f"{value:g}" for value in found.strengths) if found.strengths else "as they were: no repair was accepted"
    fall = f"{found.gate.fall:g} ({found.untouched} faults looked at twice)" if found.untouched else f"{found.gate.fall:g}, as it was"
    old, new = outcomes
    areas = [interval(one.area, 100, "points") for one in outcomes]
    return [
        f"gate.noise: {', '.join(shares) or 'no rewards'} ({found.repaints} harmless repaints); gate.rise: {found.gate.rise:g}; "
        f"gate.suspicion: {found.gate.suspicion:g}",
        f"gate.fall: {fall}",
        f"policy.strengths: {strengths} ({found.attempts} regions tried)",
        f"on {count} images that were not tuned on, before → after:",
        f"  regions repaired {share(old.repaired)} of {old.tried} → {share(new.repaired)} of {new.tried}",
        f"  change of artifact area by the controller, which steers: {areas[0]} → {areas[1]}",
        f"  harmless repaints that a reward vetoes {share(vetoes[0])} → {share(vetoes[1])} of {repaints}",
        f"  denoiser evaluations per image {old.evaluations:.1f} → {new.evaluations:.1f}",
    ]


def share(value: Interval | None) -> str:
    return interval(value, 100, "%", signed=False) if value else "none"


def preset(args: Namespace, found: Fitted, lines: Sequence[str]) -> str:
    """A preset that stands on the one that was tuned; its header tells what was measured."""
    noise = {name: dict(row) for name in ("noise", "crop_noise") if (row := getattr(found.gate, name))}
    gate = {"fall": found.gate.fall, "rise": found.gate.rise, "suspicion": found.gate.suspicion, **noise}
    layers = [trees.parse_override(text) for text in args.set]
    layers += [{"gate": gate}, {"policy": {"strengths": list(found.strengths)}} if found.strengths else {}]
    names = args.preset or [presets.DEFAULT]
    out = Path(args.out)
    head = [
        f"{' + '.join(names)} with margins and strengths fitted by refine tune.",
        *lines[:3],
        f"command:  refine run --preset {out}",
        "cost:     as the preset it stands on",
        "hardware: as the preset it stands on",
        f"expect:   {lines[3]}",
        *lines[4:],
    ]
    body = trees.dump({"base": names if len(names) > 1 else names[0], **trees.merge(layers)})
    return "".join(f"# {line}\n" for line in head) + body
