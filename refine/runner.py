"""From a configuration to models, and from jobs to finished items: the loop, driven batch by batch."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from refine import hints, images, jobs, plugins, shards, store
from refine.config import PARTS, Config, arguments
from refine.device import hosting
from refine.engine import Engine, batches
from refine.errors import InputError, RefineError
from refine.images import Picture
from refine.isolation import Failure, isolated
from refine.jobs import Job
from refine.loop import Event, Models
from refine.shards import Shard
from refine.store import Line, Run
from refine.trees import Tree
from refine.types import Controller, Record

Observe = Callable[[Event], None]
Say = Callable[[str], None]


def check_torchvision() -> None:
    """Raises RefineError where an installed torchvision cannot be imported: it would break every model of transformers and diffusers."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        raise RefineError(
            f"The installed torchvision does not fit the installed torch ({str(error).strip().splitlines()[0]}) and breaks transformers "
            "and diffusers. refine does not need it: pip uninstall torchvision"
        ) from error


def make(kind: str, node: dict[str, Any]) -> Any:
    """The plugin of a checked node, and the plugins within it; its device ``auto`` becomes the accelerator where there is one."""
    use = node["use"]
    found = plugins.find(kind, use)
    known = plugins.schema(found)
    given = arguments(found, {key: value for key, value in node.items() if key != "use"})
    for name, value in given.items():
        if value is not None and (role := hints.plugged(known[name].hint)):
            given[name] = {key: make(role[0], one) for key, one in value.items()} if role[1] else make(role[0], value)
    if given.get("device") == "auto":
        given["device"] = accelerator()
    return plugins.create(kind, use, given)


def accelerator() -> str:
    """``cuda``, ``mps`` or ``cpu``, as torch finds it; of several processes on one machine, each has its own ``cuda:N``."""
    import torch

    if torch.cuda.is_available():
        place = shards.here()
        return f"cuda:{place.local % torch.cuda.device_count()}" if place.count > 1 else "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def load_models(config: Config) -> Models:
    """Every model that the configuration names."""
    _without_bars()
    tree = config.tree
    host = hosting(tree["residency"], accelerator() if tree["device"] == "auto" else tree["device"])
    rewards = tuple(host(make("reward", node)) for node in tree["rewards"].values())
    return Models(host(make("generator", tree["generator"])), host(load_controller(config)), rewards, make("reviser", tree["reviser"]))


def load_controller(config: Config) -> Controller:
    """The controller alone."""
    _without_bars()
    controller: Controller = make("controller", config.tree["controller"])
    return controller


def informed(tree: Tree, prompts: Sequence[str]) -> Tree:
    """The tree; a controller that asks for the prompts it may be shown (an oracle does), and was not told any, is told these."""
    node = tree["controller"]
    known = plugins.schema(plugins.find("controller", node["use"])).get("prompts")
    asks = bool(prompts) and known is not None and node.get("prompts") == hints.plain(known.default)
    return tree | ({"controller": {**node, "prompts": list(prompts)}} if asks else {})


def _without_bars() -> None:
    """No bar of transformers' own for each file of weights; the plugins have imported it by now if they use it."""
    if logging := sys.modules.get("transformers.utils.logging"):
        logging.disable_progress_bar()


def make_engine(tree: Tree, models: Models) -> Engine:
    """The models under the rules of a checked configuration."""
    gate, budget = (PARTS[part](**arguments(PARTS[part], tree[part])) for part in ("gate", "budget"))
    return Engine(models, make("policy", tree["policy"]), gate, budget, tree["batch"])


def pending(work: Sequence[Job], tree: Tree, finished: Collection[str], place: Shard) -> list[Sequence[Job]]:
    """The batches that this process has to compute: those with a job whose key is not ``finished``, dealt out to all processes.

    Batches are cut from the whole list and repeated whole, so that a resumed or shared run computes what an unbroken one would have.
    """
    unfinished = [batch for batch in batches(work, tree["batch"]) if any(jobs.key(job, tree) not in finished for job in batch)]
    return list(shards.shard(unfinished, place))


def execute(run: Run, work: Sequence[Sequence[Job]], models: Models, observe: Observe, say: Say, done: Callable[[Line], None]) -> None:
    """Refine batches of jobs; each is written as soon as it is finished, except what the ledger has already.

    A batch that fails is done one by one; what fails alone is said, written down, and left out of the ledger, so that --resume tries again.
    As long as nothing has worked, though, an error is no image's own, and is raised.
    """
    engine = make_engine(run.config, models)
    finished = {line["key"] for line in store.ledger(run.folder)}
    worked = bool(finished)
    for batch in work:
        sources = [source(job) for job in batch]
        notes = [beyond_budget(job, models, say) for job in batch]
        with enough_memory(len(batch)):
            outcomes = isolated(list(zip(batch, sources, strict=True)), lambda part: refine(engine, part, observe))
        failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        if not worked and len(failures) == len(batch):
            raise failures[0].error
        worked = True
        for job, outcome, origin, note in zip(batch, outcomes, sources, notes, strict=True):
            if jobs.key(job, run.config) in finished:
                continue
            if isinstance(outcome, Failure):
                store.fail(run, job, outcome.error)
                say(f"image {job.id} failed: {outcome}")
            else:
                done(store.save(run, job, outcome, origin, note, sampler(models.generator)))


def refine(engine: Engine, part: Sequence[tuple[Job, Picture | None]], observe: Observe) -> list[Record]:
    """One batch of the loop."""
    prompts, seeds = [job.prompt for job, _ in part], [job.seed for job, _ in part]
    return engine.refine(prompts, seeds, [origin.image if origin else None for _, origin in part], observe)


def sampler(generator: object) -> str | None:
    """The name of the scheduler that a generator draws with, where it has one: ``DDIM`` for a DDIMScheduler."""
    scheduler = getattr(getattr(generator, "pipe", None), "scheduler", None)
    return type(scheduler).__name__.removesuffix("Scheduler") if scheduler is not None else None


@contextmanager
def enough_memory(images: int, advice: str = "") -> Iterator[None]:
    """A full memory (of the machine or of an accelerator) becomes RefineError with what to do (by default, in a run)."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        usual = (
            f"Out of memory with {images} images at a time. Finished images are safe. Start anew in another --out with a smaller batch "
            "(--set batch=1, --set generator.batch_size=1) or with --set generator.offload=model."
        )
        raise RefineError(f"Out of memory with {images} images at a time. {advice}" if advice else usual) from error


def source(job: Job) -> Picture | None:
    """The image a job starts from. Raises InputError where the file is not the one that the run was planned with."""
    if job.image is None:
        return None
    picture = images.read(Path(job.image))
    if picture.sha256 != job.sha256:
        raise InputError(f"{job.image} has changed since the run began. Put the old file back, or start anew in another --out.")
    return picture


def beyond_budget(job: Job, models: Models, say: Say) -> list[str]:
    """A note, said aloud, where the prompt is longer than what the generator's text encoder reads."""
    _, dropped = models.generator.fits(job.prompt)
    if not dropped:
        return []
    note = f"prompt {job.id}: the generator's text encoder does not read its end: {dropped!r}. Shorten the prompt to have it drawn."
    say(note)
    return [note]
