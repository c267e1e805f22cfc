"""The folder of a run. Whatever stops a run, every finished image is whole and a resumed run skips it.

run.yaml       resolved configuration, presets, seed of the first image, versions
jobs.jsonl     what the run has to do
ledger.jsonl   append-only: one line per finished image, written last, after the fsynced rename of the item's folder
               (several processes: ledger.<rank>.jsonl each, folded into this one at the end; failures.jsonl likewise)
items/<key>/   see refine.record
rewards.json   per reward, what besides the weights moves its numbers (resize, precision, formula, versions), where it tells
failures.jsonl append-only: one line per image that failed alone (key, id, error, trace); it is not in the ledger, and --resume tries again
scores.csv     the ledger as a table
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refine import durable, images, jobs, metadata, record, synthetic
from refine.errors import ConfigError, InputError, OutputError, going_on
from refine.images import Picture
from refine.jobs import Job
from refine.overlay import overlay
from refine.trees import Tree, differences, dump, load
from refine.types import Candidate, Critique, Record, Redraw
from refine.versions import versions

RUN, JOBS, LEDGER, ITEMS, SCORES, FAILURES = "run.yaml", "jobs.jsonl", "ledger.jsonl", "items", "scores.csv", "failures.jsonl"
REWARDS = "rewards.json"
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder, and the configuration and the seed it was made with. ``rank``: which of several processes writes."""

    folder: Path
    config: Tree
    presets: tuple[str, ...] = ()
    rank: int = 0
    seed: int = 0

    @property
    def ledger(self) -> Path:
        """A file per process: appends from several machines to one file may overwrite each other."""
        return self.folder / (f"ledger.{self.rank}.jsonl" if self.rank else LEDGER)


@contextmanager
def writing(folder: Path, resumes: bool = True) -> Iterator[None]:
    """Failed writes become OutputError with what to do; ``resumes``: the command knows --resume."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        if not resumes:
            raise OutputError(f"Cannot write to {folder}: {reason}. Make room, or choose another --out.") from error
        raise OutputError(
            f"Cannot write to {folder}: {reason}. What is finished is safe. Make room and go on with --resume, or choose another --out."
        ) from error


def create(folder: Path, config: Tree, presets: Sequence[str], work: Sequence[Job], seed: int = 0) -> Run:
    """A new run folder. Raises OutputError where it exists with something to lose in it, or cannot be written."""
    with writing(folder):
        if folder.exists() and not unused(folder):
            raise OutputError(f"{folder} exists already. Choose another --out, or go on with it: {going_on(folder)}.")
        (folder / ITEMS).mkdir(parents=True, exist_ok=True)
        run = Run(folder, config, tuple(presets), seed=seed)
        head = {"config": config, "presets": list(presets), "seed": seed, "versions": versions()}
        durable.replace(folder / JOBS, jobs.dump(work))
        durable.replace(folder / RUN, dump(head))
    return run


def unused(folder: Path) -> bool:
    """True for an empty folder, and for a run that ended before its first image was finished."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {""}
    return names <= {RUN, JOBS, ITEMS, REWARDS} and not any((folder / ITEMS).glob("[!.]*"))


def reopen(folder: Path) -> tuple[Run, list[Job]]:
    """An existing run and what it had to do. Raises InputError where the folder is none."""
    try:
        head = load((folder / RUN).read_text(encoding="utf-8"), str(folder / RUN))
        work = jobs.parse((folder / JOBS).read_text(encoding="utf-8"))
        return Run(folder, head["config"], tuple(head["presets"]), seed=head.get("seed", 0)), work
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder} is not the folder of a run ({RUN} or {JOBS} cannot be read: {error}).") from error


def must_match(run: Run, config: Tree) -> None:
    """Raises ConfigError, with every difference, where a run was made with another configuration."""
    if changed := differences(run.config, config):
        faults = [f"{run.folder} was made with another configuration ({line})" for line in changed]
        raise ConfigError(faults, "Leave the options out to go on as it was, or choose another --out.")


def keep_jobs(run: Run, work: Sequence[Job]) -> None:
    """Store what a resumed run has to do now."""
    with writing(run.folder):
        durable.replace(run.folder / JOBS, jobs.dump(work))


def keep_protocols(run: Run, protocols: Mapping[str, Mapping[str, Any]]) -> None:
    """Store how each reward computes its scores: numbers under two protocols must not be compared."""
    with writing(run.folder):
        durable.replace(run.folder / REWARDS, json.dumps(protocols, indent=1, sort_keys=True) + "\n")


def ledger(folder: Path) -> list[Line]:
    """The finished images, in the order of their jobs. A line cut short by a crash does not count."""
    lines = {line["key"]: line for line in _lines([folder / LEDGER, *_shares(folder)])}
    return sorted(lines.values(), key=lambda line: line.get("index", 0))


def _lines(paths: Sequence[Path]) -> Iterator[Line]:
    """The whole lines of append-only files, of those that there are."""
    for text in (line for path in paths for line in durable.lines(path)):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "key" in line:
            yield line


def _shares(folder: Path, kind: str = "ledger") -> list[Path]:
    """The ledgers (or failures) of the processes beside the first."""
    return sorted(folder.glob(f"{kind}.*.jsonl"))


def fold(folder: Path) -> None:
    """One ledger, in the order of the jobs, and one file of failures from those of several processes; what one that died left half
    written goes."""
    with writing(folder):
        if shares := _shares(folder):
            durable.replace(folder / LEDGER, "".join(_text(line) + "\n" for line in ledger(folder)))
            for path in shares:
                path.unlink()
        for path in _shares(folder, "failures"):
            durable.append(folder / FAILURES, durable.lines(path))
            path.unlink()
        for path in (folder / ITEMS).glob(".*"):
            shutil.rmtree(path, ignore_errors=True)


def item_folder(folder: Path, key: str) -> Path:
    return folder / ITEMS / key


def save(run: Run, job: Job, outcome: Record, source: Picture | None = None, notes: Sequence[str] = (), sampler: str | None = None) -> Line:
    """Write one finished image: a temporary folder, fsync, rename, then the ledger's line. ``sampler``: how it was drawn, by name."""
    key = jobs.key(job, run.config)
    final = item_folder(run.folder, key)
    made = final.with_name(f".{key}.{os.getpid()}")
    with writing(run.folder):
        shutil.rmtree(made, ignore_errors=True)
        try:
            drawing = {**run.config.get("generator", {}), "sampler": sampler}
            texts = metadata.texts_for(outcome, drawing, source is None, source.texts if source else {})
            write_images(made, outcome, source, texts)
            text = record.dumps(full_record(run, job, key, outcome, source, notes))
            (made / "record.json").write_text(text, encoding="utf-8", newline="")
            durable.sync_tree(made)
            shutil.rmtree(final, ignore_errors=True)  # a folder without a line in the ledger is not finished
            made.rename(final)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        durable.sync(final.parent)
        line = summary(job, key, outcome)
        durable.append(run.ledger, [_text(line)])
    return line


def fail(run: Run, job: Job, error: Exception) -> None:
    """Write down what became of an image that could not be refined."""
    trace = "".join(traceback.format_exception(error))
    line = {"key": jobs.key(job, run.config), "id": job.id, "error": f"{type(error).__name__}: {error}", "trace": trace}
    with writing(run.folder):
        durable.append(run.folder / (f"failures.{run.rank}.jsonl" if run.rank else FAILURES), [_text(line)])


def failed(folder: Path) -> list[Line]:
    """The images that failed and have not succeeded since, each with its last error."""
    finished = {line["key"] for line in ledger(folder)}
    lines = {line["key"]: line for line in _lines([folder / FAILURES, *_shares(folder, "failures")])}
    return [line for key, line in lines.items() if key not in finished]


def _text(line: Line) -> str:
    return json.dumps(line, ensure_ascii=False, allow_nan=False)


def full_record(run: Run, job: Job, key: str, outcome: Record, source: Picture | None, notes: Sequence[str]) -> record.Json:
    """The record with what the store knows of it."""
    given = {"name": Path(job.image).name, "sha256": source.sha256, "notes": list(source.notes)} if job.image and source else None
    head = {"key": key, "id": job.id, "index": job.index, "notes": list(notes), "source": given}
    return record.to_json(outcome) | head | {"config": run.config, "versions": versions()}


def write_images(folder: Path, outcome: Record, source: Picture | None, texts: Mapping[str, str]) -> None:
    """First and final image, masks, overlays and every candidate. What a model painted is marked as that; ``texts`` go into the final."""
    (folder / "candidates").mkdir(parents=True)
    (folder / "masks").mkdir()
    drawn, painted = synthetic.marked(None, synthetic.DRAWN), synthetic.marked(source.xmp if source else None, _kind(outcome, source))
    images.write(outcome.first.image, folder / record.FIRST, source, xmp=None if source else drawn)
    changed = source is None or outcome.best is not outcome.first
    images.write(outcome.best.image, folder / record.FINAL, source, texts, painted if changed else None)
    for name, one in (("first", outcome.first), ("final", outcome.best)):
        images.write(overlay(one.image, one.critique), folder / f"overlay-{name}.png")
        write_masks(folder / "masks", name, one.critique)
    for turn in outcome.rounds:
        for position, attempt in enumerate(turn.attempts):
            if attempt.mask is not None:
                images.write(images.from_mask(attempt.mask), folder / "masks" / f"r{turn.index}-a{position}.png")
            for index, candidate in enumerate(attempt.candidates):
                images.write(candidate.image, folder / record.candidate_file(turn.index, position, index), xmp=painted)


def _kind(outcome: Record, source: Picture | None) -> str:
    """The digital source type of an image that was drawn here, drawn anew, or painted into."""
    kept = [attempt.action for turn in outcome.rounds for attempt in turn.attempts if attempt.kept is not None]
    return synthetic.DRAWN if source is None or any(isinstance(one, Redraw) for one in kept) else synthetic.PAINTED_INTO


def write_masks(folder: Path, name: str, critique: Critique) -> None:
    """One black and white PNG per region."""
    for index, region in enumerate(critique.regions):
        images.write(images.from_mask(region.mask), folder / f"{name}-{index}.png")


def summary(job: Job, key: str, outcome: Record) -> Line:
    """The ledger's line: what a table needs, without opening the item."""
    attempts = outcome.repairs
    accepted = sum(attempt.kept is not None for attempt in attempts)
    return {
        "key": key,
        "index": job.index,
        "id": job.id,
        "prompt": job.prompt,
        "seed": job.seed,
        "first": _measures(outcome.first),
        "final": _measures(outcome.best),
        "rounds": len(outcome.rounds),
        "drawing": list(outcome.drawing),
        "accepted": accepted,
        "rejected": len(attempts) - accepted,
        "stop_reason": outcome.stop_reason,
        "evaluations": outcome.evaluations,
        "seconds": round(outcome.seconds, 3),
    }


def _measures(candidate: Candidate) -> Line:
    return {"scores": record.numbers(candidate.scores), "area": candidate.critique.area, "regions": len(candidate.critique.regions)}


def write_scores(folder: Path) -> Path:
    """scores.csv: one row per finished image."""
    rows = [_row(line) for line in ledger(folder)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with writing(folder):
        durable.replace(folder / SCORES, text.getvalue())
    return folder / SCORES


def _row(line: Mapping[str, Any]) -> dict[str, Any]:
    ends = ("first", "final")
    scores = {f"{name}_{end}": line[end]["scores"].get(name) for name in line["first"]["scores"] for end in ends}
    areas = {f"area_{end}": line[end]["area"] for end in ends}
    head = {name: line[name] for name in ("key", "id", "prompt", "seed")}
    return (
        head | scores | areas | {name: line[name] for name in ("rounds", "accepted", "rejected", "stop_reason", "evaluations", "seconds")}
    )
