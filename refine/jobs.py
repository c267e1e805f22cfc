"""What a run has to do: one job per image, and the key that names its result on any machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refine import images
from refine.errors import InputError
from refine.prompts import Prompt

KEY_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Job:
    """One image to draw (``image`` None) or to refine. ``sha256`` is that of the image file."""

    index: int
    id: str
    prompt: str
    seed: int
    image: str | None = None
    sha256: str | None = None


def key(job: Job, config: Mapping[str, Any]) -> str:
    """The name of a job's result: a hash of prompt, seed, input bytes and configuration."""
    story = json.dumps([*_story(job), config], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(story.encode()).hexdigest()[:KEY_LENGTH]


def plan(prompts: Sequence[Prompt], files: Sequence[Path], seed: int) -> list[Job]:
    """One job per prompt, or per image file where there are some. A prompt without a seed of its own gets ``seed`` + its index.

    Every file is read once here, so that a bad one is reported before any weights load. Raises InputError with all faults.
    """
    if empty := [prompt.where for prompt in prompts if not prompt.text.strip()]:
        places = f" ({', '.join(empty)})" if any(empty) else ""
        raise InputError(f"The prompt is empty{places}. Write what the image should show.")
    faults = [f"{prompt.text!a}: the prompt is not UTF-8 text. Write it in UTF-8." for prompt in prompts if not _is_utf8(prompt)]
    work = _refined(prompts, files, seed, faults) if files else [_drawn(index, prompt, seed) for index, prompt in enumerate(prompts)]
    faults += _twins(work)
    faults += [f"{job.id}: seed {job.seed} is not in 0 to 2**63 - 1." for job in work if not 0 <= job.seed < 2**63]
    if faults:
        raise InputError(faults[0] if len(faults) == 1 else "\n  - ".join([f"{len(faults)} inputs cannot be used:", *faults]))
    return work


def _is_utf8(prompt: Prompt) -> bool:
    return images.is_utf8(prompt.text) and images.is_utf8(prompt.id or "")


def _drawn(index: int, prompt: Prompt, seed: int) -> Job:
    return _job(index, prompt, seed, prompt.id or f"{index:04d}")


def _refined(prompts: Sequence[Prompt], files: Sequence[Path], seed: int, faults: list[str]) -> list[Job]:
    paired = pair(prompts, files, faults)
    hashes = [_hash(file, faults) for file in files]
    rows = enumerate(zip(paired, files, hashes, strict=False))
    return [_job(index, prompt, seed, file.stem, str(file.absolute()), digest) for index, (prompt, file, digest) in rows]


def _twins(work: Sequence[Job]) -> list[str]:
    """A fault for each job that would repeat another one exactly."""
    first: dict[tuple[object, ...], Job] = {}
    return [f"{job.id}: same prompt, seed and image as {one.id}." for job in work if (one := first.setdefault(_story(job), job)) is not job]


def _story(job: Job) -> tuple[object, ...]:
    return job.prompt, job.seed, job.sha256


def _job(index: int, prompt: Prompt, seed: int, name: str, image: str | None = None, digest: str | None = None) -> Job:
    return Job(index, name, " ".join(prompt.text.split()), seed + index if prompt.seed is None else prompt.seed, image, digest)


def _hash(file: Path, faults: list[str]) -> str | None:
    try:
        return images.read(file).sha256
    except InputError as error:
        faults.append(str(error))
        return None


def pair(prompts: Sequence[Prompt], files: Sequence[Path], faults: list[str]) -> list[Prompt]:
    """The prompt of each image file: by id, the one prompt for all, by order, or (none given) the one that lies with or in the file."""
    if not prompts:
        return [_own(file, faults) for file in files]
    if all(prompt.id is not None for prompt in prompts):
        known = {prompt.id: prompt for prompt in prompts}
        faults += [f"{file}: no prompt has the id {file.stem!r}." for file in files if file.stem not in known]
        return [known.get(file.stem, Prompt("")) for file in files]
    if len(prompts) == 1:
        return list(prompts) * len(files)
    if len(prompts) != len(files):
        faults.append(f"{len(prompts)} prompts for {len(files)} images. Give one, or one per image, or ids equal to the files' stems.")
    return list(prompts)


def _own(file: Path, faults: list[str]) -> Prompt:
    """The prompt that lies with or in a file. That the file itself is missing is said elsewhere."""
    text = images.prompt_of(file)
    if not text and file.exists():
        note = file.with_suffix(".txt").name
        faults.append(f"{file}: no prompt, nor one in its metadata. Give one on the command line, by --prompts, or in {note} beside it.")
    return Prompt(text or "")


def dump(jobs: Sequence[Job]) -> str:
    """Jobs as JSON lines."""
    return "".join(json.dumps(asdict(job), ensure_ascii=False) + "\n" for job in jobs)


def parse(text: str) -> list[Job]:
    """What ``dump`` wrote."""
    return [Job(**json.loads(line)) for line in text.split("\n") if line]
