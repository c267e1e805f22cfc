"""The folder of a bench. Whatever stops it, every finished sample is whole and a resumed bench skips it.

bench.yaml                     the request, the sets, and each arm's resolved configuration; versions
samples.jsonl                  what every arm has to do
arms/<arm>/ledger.jsonl        append-only, one line per finished (or failed) sample, written after its picture is on the disk
                               (further processes: ledger.<rank>.jsonl)
arms/<arm>/<set>/<key>.png     final pictures
given/<set>/<key>.png          pictures that samples start from
cost.json                      the budget in denoiser evaluations, and operations per call
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refine import durable
from refine.bench.arms import Arm
from refine.bench.samples import Sample
from refine.errors import ConfigError, InputError, OutputError, going_on
from refine.store import writing
from refine.trees import Tree, differences, dump, load
from refine.types import Image
from refine.versions import versions

BENCH, SAMPLES, COST, ARMS, GIVEN = "bench.yaml", "samples.jsonl", "cost.json", "arms", "given"
Line = dict[str, Any]
Request = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a bench was asked for. ``request`` is what the command line said; ``tree`` what may not change in a resumed bench.

    ours: the arm to show, on sets where it runs. idle: sets that were asked for, and have no arm beside the baseline.
    """

    request: Request
    baseline: str
    ours: str
    draws: int
    base: Tree
    arms: tuple[Arm, ...]
    sets: Mapping[str, Sequence[Sample]]
    idle: tuple[str, ...] = ()

    @property
    def tree(self) -> Tree:
        return {
            "draws": self.draws,
            "baseline": self.baseline,
            "ours": self.ours,
            "base": self.base,
            "arms": {arm.name: {**arm.tree, "sets": list(arm.sets)} for arm in self.arms},
        }

    @property
    def common(self) -> Tree:
        """The base as the arms have it: without the rewards that are held out."""
        return self.base | {"rewards": {name: node for name, node in self.base["rewards"].items() if name not in self.request["held_out"]}}

    def arms_of(self, set_name: str) -> list[Arm]:
        """The arms that run on a set."""
        return [arm for arm in self.arms if not arm.sets or set_name in arm.sets]


def create(folder: Path, plan: Plan) -> None:
    """A new folder. Raises OutputError where there is something in it already."""
    with writing(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists already. Choose another --out, or go on with it: {going_on(folder)}.")
        folder.mkdir(parents=True, exist_ok=True)
        keep(folder, plan)


def keep(folder: Path, plan: Plan) -> None:
    """Write the plan (again: a resumed bench may have more samples)."""
    head = {"request": plan.request, "plan": plan.tree, "versions": versions()}
    samples = "".join(json.dumps(asdict(sample), ensure_ascii=False) + "\n" for group in plan.sets.values() for sample in group)
    with writing(folder):
        durable.replace(folder / SAMPLES, samples)
        durable.replace(folder / BENCH, dump(head))


def request(folder: Path) -> Request:
    """What a bench was asked for. Raises InputError where the folder is none."""
    asked: Request = _head(folder)["request"]
    return asked


def _head(folder: Path) -> Tree:
    """What stands in ``BENCH``."""
    try:
        head = load((folder / BENCH).read_text(encoding="utf-8"), str(folder / BENCH))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder} is not the folder of a bench ({BENCH} cannot be read: {error}).") from error
    if lacking := [key for key in ("request", "plan") if not isinstance(head.get(key), dict)]:
        raise InputError(f"{folder} is not the folder of a bench ({BENCH} lacks {', '.join(lacking)}).")
    return head


def counted(folder: Path) -> dict[str, Any]:
    """What stands in ``COST``: the budget (``evaluations``) and operations per call (``flops``). Raises InputError where it is damaged."""
    path = folder / COST
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {"evaluations": int(found["evaluations"]), "flops": dict(found["flops"])}
    except (OSError, ValueError, TypeError, KeyError) as error:
        advice = f"Delete it: refine bench {going_on(folder)} counts anew."
        raise InputError(f"{path} cannot be read ({error!r}). {advice}") from error


def must_match(folder: Path, plan: Plan) -> None:
    """Raises ConfigError where a sample would be missing or another, else where values differ. More samples and arms are welcome."""
    if faults := _lost(folder, plan):
        advice = "Ask for what it has and more (--n, --seeds), put an edited prompt file back, or choose another --out."
        raise ConfigError(faults[:20], f"A bench may only grow. {advice}")
    old = {"ours": plan.ours} | _head(folder)["plan"]
    new = plan.tree["arms"]
    faults = [f"{folder}: the arm {name} is not in the suite any more" for name in old["arms"] if name not in new]
    both = [{name: arms[name] for name in old["arms"] if name in new} for arms in (old["arms"], new)]
    lines = differences(old | {"arms": both[0]}, plan.tree | {"arms": both[1]})
    faults += [f"{folder} was made with another configuration ({line})" for line in lines]
    if faults:
        raise ConfigError(faults[:20], "Leave the options out to go on as it was, or choose another --out.")


def _lost(folder: Path, plan: Plan) -> list[str]:
    """A fault for each set that has fewer samples than the folder, and for each sample that is another under the same key."""
    now = {(sample.set, sample.key): asdict(sample) for group in plan.sets.values() for sample in group}
    try:
        had = {(one["set"], f"{one['id']}-{one['copy']}"): one for one in map(json.loads, durable.lines(folder / SAMPLES))}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{folder / SAMPLES} is damaged ({error!r}). Put it back as it was, or choose another --out.") from error
    faults = []
    for name in dict.fromkeys(name for name, _ in had):
        keys = [key for group, key in had if group == name]
        if missing := [key for key in keys if (name, key) not in now]:
            some = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            faults.append(f"{folder}: {len(missing)} of the {len(keys)} samples of {name} would be missing ({some})")
    others = [one for key, one in had.items() if key in now and now[key] != one]
    return faults + [f"sample {one['set']}/{one['id']} was {one['prompt']!r} with seed {one['seed']}; it is another now" for one in others]


def ledger(folder: Path, arm: str) -> dict[tuple[str, str], Line]:
    """(set, key) → line of every finished or failed sample of an arm. A line cut short by a crash does not count."""
    lines: dict[tuple[str, str], Line] = {}
    for path in sorted((folder / ARMS / arm).glob("ledger*.jsonl")):
        for text in durable.lines(path):
            try:
                line = json.loads(text)
                lines[line["set"], line["key"]] = line
            except (ValueError, TypeError, KeyError):
                continue
    return lines


def picture(folder: Path, arm: str, sample: Sample) -> Path:
    """The final picture of a sample."""
    return folder / ARMS / arm / sample.set / f"{sample.key}.png"


def given(folder: Path, sample: Sample) -> Path:
    """The picture that a sample starts from."""
    return folder / GIVEN / sample.set / f"{sample.key}.png"


def save(folder: Path, arm: str, sample: Sample, line: Line, image: Image | None, rank: int) -> None:
    """A finished sample: its picture first, then its line."""
    with writing(folder):
        if image is not None:
            png(picture(folder, arm, sample), image)
        path = folder / ARMS / arm / (f"ledger.{rank}.jsonl" if rank else "ledger.jsonl")
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.append(path, [json.dumps({"set": sample.set, "key": sample.key} | line, ensure_ascii=False, allow_nan=False)])


def png(path: Path, image: Image) -> None:
    """A whole picture, or none."""
    file = io.BytesIO()
    image.save(file, "PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    durable.replace(path, file.getvalue())


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Plain floats; None for what is not a number, which JSON cannot hold."""
    return {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
