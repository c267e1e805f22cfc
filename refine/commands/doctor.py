"""``refine doctor``: what this machine has, what is broken on it, and what a preset would need."""

from __future__ import annotations

import platform
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from refine import config as configuration
from refine import display, machine, memory, needs, sizes, versions
from refine.errors import RefineError
from refine.machine import Accelerator
from refine.memory import Demand


def execute(args: Namespace) -> None:
    """The machine, then the preset. Raises RefineError where something is broken, once all is said."""
    screen = display.console()
    card = machine.accelerator()
    screen.print(machine_table(card))
    broken = list(machine.breakages())
    for fault in broken:
        screen.print(display.safe(f"broken: {fault}"), soft_wrap=True)
    if args.preset or args.set:
        weigh(configuration.load(args.preset, args.set).tree, card, screen)
    if broken:
        raise RefineError(f"{len(broken)} thing{'s' * (len(broken) > 1)} to mend, see above.")
    screen.print("Nothing known to be broken.")


def machine_table(card: Accelerator | None) -> Table:
    """Versions, disk, memory, accelerator."""
    rows = [("refine", versions.versions()["refine"]), ("python", platform.python_version())]
    rows += [(name, machine.installed(name) or "not installed") for name in (*machine.PACKAGES, *machine.OPTIONAL)]
    rows.append(("accelerator", f"{card.name}, {card.memory:.1f} GB, {card.kind} {card.driver}".strip() if card else "none: CPU only"))
    rows.append(("memory", f"{machine.memory():.1f} GB"))
    places = {"hub's cache": cache(), "here": Path.cwd()}
    rows += [(f"free disk, {name}", f"{machine.free(place):.1f} GB at {place}") for name, place in places.items()]
    made = Table(show_header=False)
    made.add_column("what")
    made.add_column("found", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def cache() -> Path:
    """The hub's cache on this machine."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def weigh(tree: Mapping[str, Any], card: Accelerator | None, screen: Console) -> None:
    """What a configuration downloads, and the memory its weights need under each policy."""
    wanted = needs.needs(tree)
    rows = [(need.repo, need.where, sizes.weights(need.repo), is_cached(need.repo)) for need in wanted]
    screen.print(download_table(rows) if rows else "Nothing is needed from the hub.")
    found, unknown = memory.models(tree)
    if found:
        asked = memory.demands(found)
        screen.print(memory_table(asked, card))
        if unknown:
            screen.print(display.safe(f"Missing in these numbers, their sizes are not known: {', '.join(unknown)}."), soft_wrap=True)
        screen.print(memory.advice(asked, card.memory if card else None, bool(unknown)), soft_wrap=True)
        have, need = machine.memory(), min(demand.machine for demand in asked)
        if need > have:
            screen.print(f"This machine has {have:.1f} GB of memory; loading takes {need:.1f} GB at least.", soft_wrap=True)
    if text := official(tree):
        screen.print(text, soft_wrap=True)


def is_cached(repo: str) -> bool:
    """True where the hub's cache holds something of a repository; whether it is all, ``refine fetch --dry-run`` says."""
    return (cache() / f"models--{repo.replace('/', '--')}" / "snapshots").is_dir()


def download_table(rows: Sequence[tuple[str, str, float | None, bool]]) -> Table:
    """Repository, what for, gigabytes of weights, whether some of it is here."""
    total = sum(size or 0.0 for _, _, size, _ in rows)
    least = "at least " if any(size is None for _, _, size, _ in rows) else ""
    made = Table(title=f"weights to download: {least}{total:.1f} GB, counted from the architectures", title_justify="left")
    for heading in ("repository", "for", "GB", "in the cache"):
        made.add_column(heading, overflow="fold", justify="right" if heading == "GB" else "left")
    for repo, where, size, there in rows:
        made.add_row(repo, where, "not known" if size is None else f"{size:.1f}", "yes" if there else "no")
    return made


def memory_table(asked: Sequence[Demand], card: Accelerator | None) -> Table:
    """Gigabytes of weights at once under each policy of the generator."""
    made = Table(title="GB of weights at once; activations come on top", title_justify="left")
    for heading in ("generator.offload", "accelerator, all models on it", "accelerator, residency=stage", "machine's memory"):
        made.add_column(heading, justify="left" if heading.startswith("generator") else "right")
    limit = memory.ROOM * card.memory if card else None
    for demand in asked:
        video = [f"{value:.1f}{_fits(value, limit)}" for value in (demand.together, demand.staged)]
        made.add_row(demand.offload, *video, f"{demand.machine:.1f}")
    return made


def _fits(value: float, limit: float | None) -> str:
    return "" if limit is None else " fits" if value <= limit else " too much"


def official(tree: Mapping[str, Any]) -> str:
    """How to make the environment of the authors' own packages, for the rewards that ask for them."""
    from refine.evals.official import VARIABLE, official_environment

    asked = [node["use"] for node in tree["rewards"].values() if node.get("backend") == "official"]
    if not asked:
        return ""
    return f"The rewards' own packages run in another environment ({VARIABLE}). To make one:\n{official_environment(asked[0])}"
