"""What a loop of published sizes costs on a GPU: seconds and peak memory of each stage, and how near LEGION comes to the memory's speed.

    python -m benchmarks.gpu                 SDXL and FLUX.1 dev with LEGION-8B, HPSv2 and ImageReward; needs CUDA, no download
    python -m benchmarks.gpu --only sdxl     one of them
    python -m benchmarks.gpu --tiny          the same code with tiny networks on the CPU, in seconds; its numbers mean nothing

The run at full size has not been made by the project yet: no GPU was at hand.

Weights are random (see benchmarks.random_models): time and memory hardly depend on their values; pictures do, so nothing here is about
quality. Networks have the published architectures in bfloat16; steps, guidance and batch sizes are the presets'. Each row refines ``--n``
images once through the engine of ``refine run``, one round, three candidates of one region each, after one image that warms up. A stage's
seconds are the clock's over all its calls, the accelerator waited for before and after; its peak is the most that torch had allocated
during one of them, counted anew for each call, weights that rest there included. Moving weights to the device is part of the stage.

LEGION's answers are one image's at a time: seconds per token are (time of all tokens - time of the first) / (tokens - 1). Each token reads
all of the decoder's weights, so a token takes at least their bytes over the memory's bandwidth, which is measured by copying.

A finished row lies in ``rows/`` and is not measured again; results.md and results.json are written after each one.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import common, random_models
from refine import config, device, durable, machine, runner, versions
from refine.controllers.legion.controller import LegionController
from refine.controllers.legion.generation import left_pad, respond
from refine.device import Offload, Where
from refine.engine import Engine
from refine.errors import spoken
from refine.generators.quiet import quiet
from refine.loop import Models
from refine.sizes import GB

PROMPT = "a portrait of a violinist on stage"
CALLS = {"draw": "draw", "inspect": "inspect", "inpaint": "repair", "score": "score", "choose": "gate"}  # method: stage
STAGES = tuple(dict.fromkeys(CALLS.values()))
FULL = ("budget.rounds=1", "generator.dtype=bfloat16", "rewards.hps.dtype=bfloat16", "rewards.imagereward.dtype=bfloat16")
SMALL = ("budget.rounds=1", "generator.size=64", "generator.steps=3")  # float32: a CPU
COPIED = 2**30  # bytes, to measure the bandwidth
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Way:
    """A memory policy, in the words of the configuration."""

    offload: Offload = "none"
    residency: Where = "all"

    def __str__(self) -> str:
        said = [f"generator.offload={self.offload}"] if self.offload != "none" else []
        return " ".join([*said, f"residency={self.residency}"] if self.residency != "all" else said) or "all on the device"


WAYS = (Way(), Way(offload="model"), Way(residency="stage"))


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the networks work and how large they are."""

    device: str
    tiny: bool
    n: int
    tokens: int

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32 if self.tiny else torch.bfloat16

    def build(self, name: str, home: str) -> Any:
        return random_models.build(random_models.makers(self.tiny), name, self.device, self.dtype, home)


@dataclass(slots=True)
class Stage:
    """All calls of one stage. peak: gigabytes; None where torch does not count."""

    calls: int = 0
    seconds: float = 0.0
    peak: float | None = None


@dataclass(slots=True)
class Meter:
    """Seconds and peak memory by stage."""

    device: str
    stages: dict[str, Stage] = field(default_factory=dict)

    @contextmanager
    def watch(self, name: str) -> Iterator[None]:
        stage = self.stages.setdefault(name, Stage())
        counts = self.device != "cpu"
        if counts:
            torch.cuda.reset_peak_memory_stats()
        began = clock(self.device)
        yield
        stage.seconds += clock(self.device) - began
        stage.calls += 1
        if counts:
            stage.peak = max(stage.peak or 0.0, torch.cuda.max_memory_allocated() / GB)


def clock(where: str) -> float:
    """Seconds, once the accelerator has done what it was told."""
    if where != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


def engine_of(family: str, way: Way, setting: Setting) -> Engine:
    """The engine of a preset, its models of random weights under a memory policy."""
    tree = config.load([family], SMALL if setting.tiny else FULL).tree
    host = device.hosting(way.residency, setting.device)
    home = "cpu" if way.residency == "stage" else setting.device
    make = partial(setting.build, home=home)
    pipe = random_models.PIPELINES[family](make if way.offload == "none" else partial(setting.build, home="cpu"))
    if way.offload != "none":
        device.place(pipe, way.offload, setting.device)
    controller = random_models.Pointed(random_models.legion(make, tree["controller"], setting.tokens, setting.tiny))
    rewards = random_models.rewards(make, tree["rewards"], home)
    generator = random_models.generator(pipe, tree["generator"])
    models = Models(host(generator), host(controller), tuple(map(host, rewards)), runner.make("reviser", tree["reviser"]))
    return runner.make_engine(tree, models)


def walk(family: str, way: Way, setting: Setting) -> Row:
    """One loop: seconds in all, and of each stage."""
    engine = engine_of(family, way, setting)
    refine(engine, 1, seed=0)
    meter = Meter(setting.device)
    gate: Any = common.Watched(engine.gate, CALLS, meter.watch)
    metered = replace(engine, models=common.watched(engine.models, CALLS, meter.watch), gate=gate)
    began = clock(setting.device)
    refine(metered, setting.n, seed=1)
    seconds = clock(setting.device) - began
    return {"seconds": seconds, "stages": {name: asdict(stage) for name, stage in meter.stages.items()}}


def refine(engine: Engine, n: int, seed: int) -> None:
    engine.refine([PROMPT] * n, range(seed, seed + n))


def speed(setting: Setting) -> Row:
    """LEGION's tokens per second against what the memory's bandwidth allows."""
    node = config.load(["sdxl"], SMALL if setting.tiny else FULL).tree["controller"]
    legion = random_models.legion(partial(setting.build, home=setting.device), node, setting.tokens, setting.tiny)
    llm = legion.model.llm
    weights = [weight for part in (llm.model.layers, llm.model.norm, llm.lm_head) for weight in part.parameters()]
    read = sum(weight.numel() * weight.element_size() for weight in weights)
    copied = bandwidth(setting.device, COPIED >> (6 if setting.tiny else 0))
    ways = (False,) if setting.tiny else (False, True)
    paces = {"compiled" if compiled else "plain": 1 / seconds_per_token(legion, setting, compiled) for compiled in ways}
    return {"bytes_per_token": read, "bandwidth": copied, "limit": copied / read, "tokens_per_second": paces}


def seconds_per_token(legion: LegionController, setting: Setting, compiled: bool) -> float:
    """Of the tokens after the first, which waits for the prompt."""
    model, processor = legion.model, legion.processor
    ids, mask = (one.to(setting.device) for one in left_pad([processor.prompt_ids()], processor.tokenizer.pad_id))
    side = processor.clip_side
    with torch.inference_mode():
        seen, _ = model.image_features(torch.zeros(1, 3, side, side, device=setting.device))

    def answer(count: int) -> float:
        began = clock(setting.device)
        respond(model, ids, mask, seen, eos_id=-1, max_new_tokens=count, times=None, compiled=compiled)
        return clock(setting.device) - began

    answer(setting.tokens)  # sets up, and compiles
    return (answer(setting.tokens) - answer(1)) / (setting.tokens - 1)


def bandwidth(where: str, size: int) -> float:
    """Bytes per second of a copy within the device's memory, read and written ones; the best of ten."""
    source, target = (torch.ones(size, dtype=torch.uint8, device=where) for _ in range(2))

    def copy() -> float:
        began = clock(where)
        target.copy_(source)
        return clock(where) - began

    return 2 * size / min(copy() for _ in range(10))


def rows(setting: Setting, families: Sequence[str]) -> dict[str, Callable[[], Row]]:
    """What is to be measured, by name."""
    ways = WAYS if setting.device != "cpu" else WAYS[:1]  # nothing can be kept off a CPU
    loops = {f"{family}, {way}": partial(walk, family, way, setting) for family in families for way in ways}
    return {**loops, "LEGION": partial(speed, setting)}  # last: what is compiled may keep memory


def measured(path: Path, work: Callable[[], Row], where: str) -> Row:
    """A row from its file, or measured and written; a model that does not fit is a result too."""
    if path.exists():
        kept: Row = json.loads(path.read_text("utf-8"))
        return kept
    try:
        row = work()
    except torch.OutOfMemoryError as error:
        row = {"failed": f"out of memory: {str(error).splitlines()[0]}"}
    gc.collect()
    if where != "cpu":
        torch.cuda.empty_cache()
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, json.dumps(row, indent=1) + "\n")
    return row


def identity(setting: Setting) -> dict[str, Any]:
    """What rows must share to stand in one table."""
    card = machine.accelerator() if setting.device != "cpu" else None
    where = f"{card.name}, {card.memory:.0f} GB, CUDA {card.driver}" if card else f"CPU, {platform.machine()}"
    return {"machine": where, "versions": dict(versions.versions()), **asdict(setting)}


def table(results: Mapping[str, Row], about: Mapping[str, Any]) -> str:
    """Markdown: a line per loop with seconds and peak of each stage, then LEGION's speed."""
    size = "tiny networks: the numbers mean nothing" if about["tiny"] else "published sizes, bfloat16"
    lines = [f"{about['n']} images on {about['machine']}; random weights, {size}.", "", f"| loop | seconds | {' | '.join(STAGES)} |"]
    lines.append("|---" * (2 + len(STAGES)) + "|")
    for name, row in results.items():
        if "failed" in row:
            lines.append(f"| {name} | {row['failed']} |" + " |" * len(STAGES))
        elif "stages" in row:
            lines.append(f"| {name} | {row['seconds']:.2f} | {' | '.join(cell(row['stages'].get(stage)) for stage in STAGES)} |")
    row = results.get("LEGION", {})
    if "limit" in row:
        read, copied = row["bytes_per_token"] / GB, row["bandwidth"] / GB
        lines += ["", f"LEGION reads {read:.3f} GB of weights a token; copies run at {copied:.0f} GB/s."]
        for way, pace in row["tokens_per_second"].items():
            lines += ["", f"{way}: {pace:.1f} tokens/s of at most {row['limit']:.1f} ({pace / row['limit']:.0%})."]
    return "\n".join(lines) + "\n"


def cell(stage: Mapping[str, Any] | None) -> str:
    if stage is None:
        return "–"
    return f"{stage['seconds']:.3g} s" + ("" if stage["peak"] is None else f", {stage['peak']:.1f} GB")


def options() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--n", type=int, default=4, help="images of a loop (default 4)")
    made.add_argument("--tokens", type=int, default=128, help="length of LEGION's answers, at least 6 (default 128)")
    made.add_argument("--only", action="append", choices=list(random_models.PIPELINES), help="a generator; repeatable (default: all)")
    made.add_argument("--tiny", action="store_true", help="tiny networks on the CPU")
    made.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the results (default runs/gpu)")
    return made


def main(argv: Sequence[str] | None = None) -> None:
    parser = options()
    args = parser.parse_args(argv)
    if args.n < 1 or args.tokens < 6:
        parser.error(f"--n {args.n} --tokens {args.tokens}: at least 1 image and 6 tokens are needed.")
    if not args.tiny and not torch.cuda.is_available():
        parser.error(f"torch {torch.__version__} finds no CUDA device. Run this where there is one (see refine doctor), or add --tiny.")
    setting = Setting("cpu" if args.tiny else "cuda", args.tiny, args.n, args.tokens)
    about = identity(setting)
    common.check_identity(args.out / "identity.json", about)
    results: dict[str, Row] = {}
    wanted = rows(setting, args.only or list(random_models.PIPELINES))
    for number, (name, work) in enumerate(wanted.items(), 1):
        print(f"{number} of {len(wanted)}: {name}", flush=True)
        with quiet():
            results[name] = measured(args.out / "rows" / f"{name}.json", work, setting.device)
        durable.replace(args.out / "results.json", json.dumps({"about": about, "rows": results}, indent=1) + "\n")
        durable.replace(args.out / "results.md", table(results, about))
    print(table(results, about))


if __name__ == "__main__":
    spoken(main)
