"""What the page does, without the page: each image is a run folder, and each step reads it, works, and writes it again.

A draft is named by the random name of its folder; nothing else is known of a user. So a tab may close, reload or click twice.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import PIL.Image

from refine import config as configuration
from refine import images, jobs, record, regions, runner, stages, store
from refine.config import Config
from refine.errors import InputError, UnknownName
from refine.images import Picture
from refine.jobs import Job
from refine.prompts import Prompt
from refine.report import write_report
from refine.stages import Event, Models
from refine.store import Run
from refine.types import Attempt, Candidate, Image, Inpaint, Mask, Record, Redraw, Region, Round

FORMATS = ("PNG", "JPEG", "WEBP")
LONGEST_PROMPT = 2000  # characters
BY_HAND = "by-hand"
MARK = "by hand: "
Observe = Callable[[Event], None]


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """One image as its folder holds it; ``outcome`` is None until it is drawn."""

    name: str
    run: Run
    job: Job
    outcome: Record | None

    @property
    def item(self) -> Path:
        """The folder of the image's record."""
        return store.item_folder(self.run.folder, jobs.key(self.job, self.run.config))

    @property
    def drawn(self) -> Record:
        """The record. Raises InputError where there is none yet."""
        if self.outcome is None:
            raise InputError("There is no picture yet. Draw or upload one first.")
        return self.outcome


class Desk:
    """What all users share: the folder of all drafts, and the models of each preset, loaded once, used by one at a time."""

    def __init__(self, folder: Path, presets: Sequence[str], load: Callable[[Config], Models] = runner.load_models) -> None:
        """Raises ConfigError where a preset has a fault; no weights are loaded yet."""
        self.folder = folder
        self.presets = {name: configuration.load([name], []) for name in presets}
        self._load = load
        self._models: dict[str, Models] = {}
        self._working = Lock()
        self._drafts: dict[str, Lock] = {}

    @contextmanager
    def models(self, preset: str) -> Iterator[Models]:
        """The models of a preset, for one user at a time."""
        with self._working:
            if preset not in self._models:
                self._models[preset] = self._load(self.presets[preset])
            yield self._models[preset]

    def sampler(self, preset: str) -> str | None:
        """How a preset draws, by name; nobody's work is waited for where its models are loaded."""
        if preset not in self._models:
            with self.models(preset):
                pass
        return runner.sampler(self._models[preset].generator)

    def has(self, name: str) -> bool:
        """True where there is a draft of that name; a name that could lead elsewhere is none."""
        return bool(re.fullmatch(r"[0-9a-f]{32}", name)) and (self.folder / name / store.RUN).is_file()

    @contextmanager
    def draft(self, name: str) -> Iterator[Draft]:
        """A draft, for one step at a time. Raises InputError where there is none of that name."""
        if not self.has(name):
            raise InputError("This picture is not on the desk any more. Draw or upload it again.")
        with self._drafts.setdefault(name, Lock()):
            yield read(self.folder, name)

    def checked(self, draft: Draft) -> str:
        """The preset of a draft. Raises InputError where it is not offered any more, or has changed since."""
        preset = draft.run.presets[0]
        if preset not in self.presets or _but_budget(self.presets[preset].tree) != _but_budget(draft.run.config):
            raise InputError(f"This picture was begun with another preset {preset!r} than is offered now. Draw or upload it again.")
        return preset


def _but_budget(tree: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in tree.items() if key != "budget"}


def read(folder: Path, name: str) -> Draft:
    """A draft from its folder."""
    run, work = store.reopen(folder / name)
    found = Draft(name, run, work[0], None)
    return replace(found, outcome=record.read_record(found.item)) if (found.item / "record.json").is_file() else found


def begin(desk: Desk, preset: str, prompt: str, upload: Path | None, seed: int, by_itself: bool) -> str:
    """A new draft, not drawn yet: its name. ``by_itself``: the loop of the preset runs; else the image waits for the user.

    Raises InputError with what is wrong with the request, before anything is written.
    """
    if preset not in desk.presets:
        raise UnknownName("preset", preset, desk.presets)
    if len(prompt) > LONGEST_PROMPT:
        raise InputError(f"The prompt has {len(prompt)} characters; the limit is {LONGEST_PROMPT}. Shorten it.")
    name = secrets.token_hex(16)
    folder = desk.folder / name
    job = jobs.plan([Prompt(prompt)], [], seed)[0] if upload is None else uploaded(prompt, upload, seed)
    if upload is not None:
        job = replace(job, id="upload", image=str((folder / f"upload{upload.suffix.lower()}").absolute()))
    config = desk.presets[preset] if by_itself else configuration.load([preset], ["budget.rounds=0"])
    store.create(folder, config.tree, [preset], [job], seed)
    if upload is not None and job.image:
        with store.writing(folder):
            shutil.copyfile(upload, job.image)
    return name


def uploaded(prompt: str, upload: Path, seed: int) -> Job:
    """The job of an uploaded file. Raises InputError (which names the file without its folder) where it cannot be used."""
    try:
        with PIL.Image.open(upload, formats=FORMATS):
            pass
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{upload.name} is not a PNG, JPEG or WebP picture that can be read. Save it as one of these.") from error
    except PIL.Image.DecompressionBombError:
        pass  # said by what reads it, with the limit
    try:
        images.read(upload)
        text = prompt if prompt.strip() else images.prompt_of(upload)
        if not text:
            raise InputError("The picture carries no prompt of its own. Write in the prompt what it shows.")
        return jobs.plan([Prompt(text)], [upload], seed)[0]
    except InputError as error:
        raise InputError(str(error).replace(str(upload), upload.name)) from error


def first(desk: Desk, name: str, observe: Observe = stages.ignore) -> Draft:
    """The draft drawn (or read), inspected, and refined where it was begun so. One that is drawn already is only read."""
    with desk.draft(name) as draft:
        if draft.outcome is not None:
            return draft
        with desk.models(desk.checked(draft)) as models:
            engine, source = runner.make_engine(draft.run.config, models), runner.source(draft.job)
            notes = runner.beyond_budget(draft.job, models, lambda text: None)
            with memory(), gone_if_refused(draft):
                outcome = runner.refine(engine, [(draft.job, source)], observe)[0]
            return keep(draft, outcome, runner.sampler(models.generator), source, notes)


def repair(
    desk: Desk, name: str, seen: int, chosen: Sequence[int], brush: Mask | None, thing: str, observe: Observe = stages.ignore
) -> Draft:
    """Repaint the chosen regions and the brushed pixels as one, judge the candidates, and keep what the gate keeps.

    ``seen``: rounds that the user sees. ``brush``: (H, W) bool in the frame of the image. ``thing``: what is under the brush, in the
    user's words. The gate's measures and its comparison with the first image are those of the loop; the budget is the user's patience.
    """
    with desk.draft(name) as draft, desk.models(desk.checked(draft)) as models:
        outcome, began = same(draft, seen), time.monotonic()
        engine, turn = runner.make_engine(draft.run.config, models), len(outcome.rounds)
        target = region_of(outcome.best, chosen, brush, thing)
        found = stages.trial(outcome.prompt, outcome.seed, (turn, 0), outcome.best, target, engine.policy, models, None)
        assert found is not None, "without a budget every trial is paid for"
        assert isinstance(found.action, Inpaint)
        asked = [*(f"finding {index + 1}" for index in sorted(set(chosen))), *(["a mask of the user's own"] if brush is not None else [])]
        note = "; ".join(filter(None, (found.action.note, f"asked for {MARK}{' and '.join(asked)}")))
        with memory():
            trial, options = stages.propose([replace(found, action=replace(found.action, note=note))], models, observe, turn + 1)[0]
        mask = trial.where.touched if trial.where else None
        verdicts, kept = engine.policy.gated(engine.gate).choose(outcome.first, trial.before, options, mask)
        attempt = Attempt(trial.action, tuple(options), verdicts, kept, mask, stages.prove(trial.before.image, options, mask))
        grown = replace(
            outcome,
            rounds=(*outcome.rounds, Round(turn, outcome.best.critique, (attempt,))),
            best=options[kept] if kept is not None else outcome.best,
            stop_reason=BY_HAND,
            evaluations=outcome.evaluations + trial.cost,
            seconds=outcome.seconds + time.monotonic() - began,
        )
        return keep(draft, grown, runner.sampler(models.generator), runner.source(draft.job), record.read_json(draft.item)["notes"])


def region_of(best: Candidate, chosen: Sequence[int], brush: Mask | None, thing: str) -> Region:
    """The chosen findings and the brushed pixels as one region. Raises InputError where there is nothing, or no such finding."""
    found = best.critique.regions
    if wrong := [index for index in chosen if not 0 <= index < len(found)]:
        raise InputError(f"There is no finding {wrong[0] + 1}; the picture has {len(found)}. Reload the page.")
    parts = [found[index] for index in sorted(set(chosen))]
    if brush is not None:
        if brush.shape != (best.image.height, best.image.width):
            raise InputError("The brushed mask has another size than the picture. Reload the page and brush again.")
        parts += [Region(brush, thing.strip())] if brush.any() else []
    if not parts:
        raise InputError("Nothing is marked. Tick a finding, or brush over what should be repaired.")
    return regions.union(parts)


def decide(desk: Desk, name: str, seen: int, kept: int | None) -> Draft:
    """Keep a candidate of the last repair, or (None) the pixels before it. The verdicts stay the gate's; the record says who decided."""
    with desk.draft(name) as draft:
        outcome, preset = same(draft, seen), desk.checked(draft)
        if not outcome.rounds:
            raise InputError("There is no repair to decide on. Repair something first.")
        *earlier, last = outcome.rounds
        *others, attempt = last.attempts
        if kept is not None and not 0 <= kept < len(attempt.candidates):
            raise InputError(f"There is no candidate {kept + 1}; the last repair has {len(attempt.candidates)}.")
        assert isinstance(attempt.action, Inpaint | Redraw), "only repairs are tried"
        action = replace(attempt.action, note=with_decision(attempt, attempt.action.note, kept))
        rounds = (*earlier, replace(last, attempts=(*others, replace(attempt, action=action, kept=kept))))
        best = attempt.candidates[kept] if kept is not None else standing(outcome.first, [*earlier, replace(last, attempts=tuple(others))])
        changed = replace(outcome, rounds=rounds, best=best, stop_reason=BY_HAND)
        return keep(draft, changed, desk.sampler(preset), runner.source(draft.job), record.read_json(draft.item)["notes"])


def with_decision(attempt: Attempt, note: str, kept: int | None) -> str:
    """The action's note, its last sentence the user's decision beside the gate's."""
    accepted = [f"candidate {index + 1}" for index, verdict in enumerate(attempt.verdicts) if verdict.accepted]
    gate = f"the gate accepted {' and '.join(accepted) or 'none'}"
    choice = "the old pixels" if kept is None else f"candidate {kept + 1} ({attempt.verdicts[kept].reason})"
    earlier = [part for part in note.split("; ") if part and not part.startswith(("decided", "the gate"))]
    return "; ".join([*earlier, f"decided {MARK}{choice} kept", gate])


def standing(first_one: Candidate, rounds: Sequence[Round]) -> Candidate:
    """The image that stands after these rounds."""
    kept = [attempt.candidates[attempt.kept] for turn in rounds for attempt in turn.attempts if attempt.kept is not None]
    return kept[-1] if kept else first_one


def same(draft: Draft, seen: int) -> Record:
    """The record. Raises InputError where another tab has gone on since the user looked."""
    outcome = draft.drawn
    if len(outcome.rounds) != seen:
        raise InputError("This picture was changed in another tab or by a second click. Reload the page to see it.")
    return outcome


def keep(draft: Draft, outcome: Record, sampler: str | None, source: Picture | None, notes: Sequence[str]) -> Draft:
    """Write the record in place of the one before."""
    store.save(draft.run, draft.job, outcome, source, notes, sampler)
    return replace(draft, outcome=outcome)


def finish(desk: Desk, name: str) -> Path:
    """Scores and the report of a draft, as ``refine run`` writes them; the path of the report."""
    with desk.draft(name) as draft:
        assert draft.drawn
        store.fold(draft.run.folder)
        store.write_scores(draft.run.folder)
        return write_report(draft.run.folder, embed=True)


def brushed(layers: Sequence[Image], size: tuple[int, int]) -> Mask | None:
    """(H, W) bool: painted in any layer (RGBA), at ``size`` (width, height) of the picture. None where nothing is painted."""
    masks = [regions.resize_mask(np.asarray(layer.convert("RGBA"))[..., 3] > 0, size) for layer in layers]
    mask = np.logical_or.reduce(masks) if masks else np.zeros(size[::-1], bool)
    return mask if mask.any() else None


@contextmanager
def gone_if_refused(draft: Draft) -> Iterator[None]:
    """A draft that cannot be drawn leaves no folder, so that a reload does not try it again."""
    try:
        yield
    except InputError:
        shutil.rmtree(draft.run.folder, ignore_errors=True)
        raise


@contextmanager
def memory() -> Iterator[None]:
    """A full memory is the user's to mend."""
    with runner.enough_memory(1, "What is on the desk is safe. Try a smaller picture."):
        yield


__all__ = ["Desk", "Draft", "begin", "brushed", "decide", "finish", "first", "repair"]
