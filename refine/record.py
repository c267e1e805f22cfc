"""One image's story as JSON: ``items/<key>/record.json``, and back to a ``Record``.

RECORD     format (1) · key · id · index · prompt · seed · notes [str] · source SOURCE or null (drawn here) · size [width, height]
           stop_reason · evaluations · seconds · first CANDIDATE · best CANDIDATE · rounds [ROUND] · config (resolved) · versions
SOURCE     name (file name) · sha256 (of the file) · notes [str]
CANDIDATE  image (file, relative to the item's folder) · prompt · seed · strength or null · box or null
           scores {reward: number} · crop_scores {reward: number} · critique CRITIQUE
CRITIQUE   size [width, height] · summary · fake_probability or null · area (0..1) · mass, doubt (pixels) · regions [REGION]
REGION     phrase · explanation · category or null · score (0..1) · area (0..1) · box or null (empty mask) · mask RLE
ROUND      index · critique CRITIQUE (what the round started from) · attempts [ATTEMPT]
ATTEMPT    action ACTION · candidates [CANDIDATE] · verdicts [{accepted, reason, numbers}] (one per candidate)
           kept (index of a candidate, or null) · mask RLE or null (pixels that may change; null: all) · kept_pixels_sha256 or null
ACTION     kind "inpaint" (with region REGION) or "redraw" (first: a choice of drawings) · prompt · negative_prompt · dropped · note
RLE        COCO's compressed run lengths: {"size": [height, width], "counts": str}

Boxes are [x0, y0, x1, y1] pixels, ends exclusive, in the image's frame. A number that is not finite is null.

Files beside it: ``first.png`` · ``final.png`` (alpha of the input put back) · ``candidates/r<round>-a<attempt>-c<candidate>.png`` ·
``masks/first-<n>.png`` and ``masks/final-<n>.png`` (white: region n of the first and of the final critique) ·
``masks/r<round>-a<attempt>.png`` (pixels that the attempt may change) · ``overlay-first.png`` · ``overlay-final.png``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from refine.errors import InputError
from refine.regions import box_of
from refine.types import Action, Attempt, Candidate, Critique, Image, Inpaint, Mask, Record, Redraw, Region, Round, Scores, Verdict

FORMAT = 1
FIRST, FINAL = "first.png", "final.png"
Json = dict[str, Any]


def rle(mask: Mask) -> Json:
    """COCO's compressed run lengths of a (H, W) mask.

    Runs go down the columns and start with background. From the third on, a run is stored as its difference to the one two before,
    in groups of five bits, low group first; bit 5 says that more follow; 48 is added to make a printable character.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0] if not flat[:1].any() else [0, 0], edges, [flat.size]])).tolist()
    steps = [run - runs[index - 2] if index > 2 else run for index, run in enumerate(runs)]
    return {"size": list(mask.shape), "counts": "".join(map(_pack, steps))}


def _pack(value: int) -> str:
    text, more = "", True
    while more:
        group = value & 31
        value >>= 5
        more = value != (-1 if group & 16 else 0)
        text += chr(group + 32 * more + 48)
    return text


def unrle(code: Mapping[str, Any]) -> Mask:
    """The (H, W) bool mask of ``rle``'s answer. Raises InputError where the runs do not fill the size."""
    height, width = code["size"]
    runs: list[int] = []
    value = shift = 0
    for character in code["counts"]:
        group = ord(character) - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise InputError(f"A mask of {width} × {height} pixels has runs of {sum(runs)} pixels: the record is damaged.")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")


def candidate_file(turn: int, attempt: int, index: int) -> str:
    return f"candidates/r{turn}-a{attempt}-c{index}.png"


def to_json(record: Record) -> Json:
    """What ``Record`` itself holds; the store adds key, id, source, notes, config and versions."""
    return {
        "format": FORMAT,
        "prompt": record.prompt,
        "seed": record.seed,
        "size": list(record.first.image.size),
        "stop_reason": record.stop_reason,
        "evaluations": record.evaluations,
        "seconds": round(record.seconds, 3),
        "first": candidate_json(record.first, FIRST),
        "best": candidate_json(record.best, FINAL),
        "rounds": [round_json(turn) for turn in record.rounds],
    }


def round_json(turn: Round) -> Json:
    attempts = [attempt_json(attempt, turn.index, position) for position, attempt in enumerate(turn.attempts)]
    return {"index": turn.index, "critique": critique_json(turn.critique), "attempts": attempts}


def attempt_json(attempt: Attempt, turn: int, position: int) -> Json:
    files = [candidate_file(turn, position, index) for index in range(len(attempt.candidates))]
    return {
        "action": action_json(attempt.action),
        "candidates": [candidate_json(one, file) for one, file in zip(attempt.candidates, files, strict=True)],
        "verdicts": [{"accepted": v.accepted, "reason": v.reason, "numbers": numbers(v.numbers)} for v in attempt.verdicts],
        "kept": attempt.kept,
        "mask": rle(attempt.mask) if attempt.mask is not None else None,
        "kept_pixels_sha256": attempt.kept_pixels_sha256,
    }


def action_json(action: Action) -> Json:
    assert isinstance(action, Inpaint | Redraw), "only repairs are tried"
    words = {"prompt": action.prompt, "negative_prompt": action.negative_prompt, "dropped": action.dropped, "note": action.note}
    if isinstance(action, Redraw):
        return {"kind": "redraw", "first": action.first} | words
    return {"kind": "inpaint", "region": region_json(action.region)} | words


def candidate_json(candidate: Candidate, file: str) -> Json:
    return {
        "image": file,
        "prompt": candidate.prompt,
        "seed": candidate.seed,
        "strength": candidate.strength,
        "box": list(candidate.box) if candidate.box else None,
        "scores": numbers(candidate.scores),
        "crop_scores": numbers(candidate.crop_scores),
        "critique": critique_json(candidate.critique),
    }


def critique_json(critique: Critique) -> Json:
    return {
        "size": list(critique.size),
        "summary": critique.summary,
        "fake_probability": None if critique.fake_probability is None else number(critique.fake_probability),
        "area": critique.area,
        "mass": number(critique.mass),
        "doubt": number(critique.doubt),
        "regions": [region_json(region) for region in critique.regions],
    }


def region_json(region: Region) -> Json:
    return {
        "phrase": region.phrase,
        "explanation": region.explanation,
        "category": region.category,
        "score": number(region.score),
        "area": float(region.mask.mean()),
        "box": list(box_of(region.mask)) if region.mask.any() else None,
        "mask": rle(region.mask),
    }


def numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    """Plain floats; None for what JSON cannot hold."""
    return {name: number(value) for name, value in values.items()}


def number(value: float) -> float | None:
    """A plain float; None for what JSON cannot hold (NaN, infinities)."""
    return float(value) if math.isfinite(value) else None


def dumps(data: Json) -> str:
    """JSON text: readable, Unicode as it is, and valid everywhere (no NaN)."""
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(folder: Path) -> Json:
    """The record.json of an item. Raises InputError where it is missing, damaged or of another format."""
    path = folder / "record.json"
    try:
        data: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"Cannot read {path}: {error}. Is {folder} the folder of a finished image?") from error
    if data.get("format") != FORMAT:
        raise InputError(f"{path} has format {data.get('format')!r}; this version reads format {FORMAT}.")
    return data


def read_record(folder: Path) -> Record:
    """The record of a finished item, images included."""
    data = read_json(folder)
    return Record(
        prompt=data["prompt"],
        seed=data["seed"],
        first=_candidate(data["first"], folder),
        best=_candidate(data["best"], folder),
        rounds=tuple(
            Round(turn["index"], _critique(turn["critique"]), tuple(_attempt(one, folder) for one in turn["attempts"]))
            for turn in data["rounds"]
        ),
        stop_reason=data["stop_reason"],
        evaluations=data["evaluations"],
        seconds=data["seconds"],
    )


def _attempt(data: Json, folder: Path) -> Attempt:
    return Attempt(
        action=_action(data["action"]),
        candidates=tuple(_candidate(one, folder) for one in data["candidates"]),
        verdicts=tuple(Verdict(one["accepted"], one["reason"], _scores(one["numbers"])) for one in data["verdicts"]),
        kept=data["kept"],
        mask=unrle(data["mask"]) if data["mask"] else None,
        kept_pixels_sha256=data["kept_pixels_sha256"],
    )


def _action(data: Json) -> Action:
    words = (data["prompt"], data["negative_prompt"], data["dropped"], data.get("note", ""))
    return Inpaint(_region(data["region"]), *words) if data["kind"] == "inpaint" else Redraw(*words, data.get("first", False))


def _candidate(data: Json, folder: Path) -> Candidate:
    return Candidate(
        image=_image(folder / data["image"]),
        prompt=data["prompt"],
        seed=data["seed"],
        critique=_critique(data["critique"]),
        scores=_scores(data["scores"]),
        strength=data["strength"],
        box=tuple(data["box"]) if data["box"] else None,
        crop_scores=_scores(data["crop_scores"]),
    )


def _critique(data: Json) -> Critique:
    regions = tuple(_region(one) for one in data["regions"])
    return Critique(tuple(data["size"]), regions, data["summary"], data["fake_probability"], _number(data.get("doubt", 0.0)))


def _region(data: Json) -> Region:
    return Region(unrle(data["mask"]), data["phrase"], data["explanation"], data["category"], _number(data["score"]))


def _scores(data: Mapping[str, float | None]) -> Scores:
    return {name: _number(value) for name, value in data.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _image(path: Path) -> Image:
    with PIL.Image.open(path) as image:
        return image.convert("RGB")
