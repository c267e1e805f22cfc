"""Draw the pictures of docs/method.md anew: the loop on three damaged still lifes, by the preset mini.

    python -m docs.pictures            writes docs/images/loop-*.png

The seeds are tuning seeds (no figure is measured on them), chosen by eye because each shows something else. Labels are read from the
records, so pictures and words cannot disagree.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import torch

from benchmarks.repair import damaged
from refine import Refiner
from refine.images import from_mask
from refine.overlay import overlay
from refine.types import Attempt, Image, Record

# The scene and its damage; the loop's own seed is the distance from FIRST.
FIRST = 1_500_000
SEEDS = {"kept": FIRST + 4, "rejected": FIRST + 26, "redrawn": FIRST + 15}
OUT = Path(__file__).parent / "images"
SIDE, GAP, LABEL = 144, 8, 30


def main() -> None:
    samples = {name: damaged(seed, hard=False) for name, seed in SEEDS.items()}
    refiner = Refiner.from_preset("mini")
    pictures, prompts = [one.image for one in samples.values()], [one.caption for one in samples.values()]
    generators = [torch.Generator().manual_seed(seed - FIRST) for seed in SEEDS.values()]
    records = refiner.refine_images(pictures, prompts, generator=generators).records
    OUT.mkdir(exist_ok=True)
    for name, record in zip(samples, records, strict=True):
        before, after = (distance(one.image, samples[name].clean) for one in (record.first, record.best))
        if not shows(name, record, before, after):
            raise SystemExit(f"docs/method.md tells of {name!r}, but seed {SEEDS[name]} does not show it any more: choose another.")
        foot = f"stopped: {record.stop_reason}. Mean distance from the clean render: {before:.1f} before, {after:.1f} after (levels of 255)"
        strip(rows(record), foot).save(OUT / f"loop-{name}.png", optimize=True)
        print(f"loop-{name}.png: {record.prompt}: {foot}")


def shows(name: str, record: Record, before: float, after: float) -> bool:
    """Whether the case is still what docs/method.md says of it. Other weights can make it another."""
    kept = [attempt for turn in record.rounds for attempt in turn.attempts if attempt.kept is not None]
    if name == "rejected":
        return bool(record.rounds) and not kept
    redrawn = any(attempt.mask is None for attempt in kept)
    return bool(kept) and (redrawn and after > before if name == "redrawn" else not redrawn and after < before)


def distance(image: Image, clean: Image) -> float:
    """Mean absolute difference, levels of 255."""
    return float(np.abs(np.asarray(image, np.float64) - np.asarray(clean, np.float64)).mean())


def rows(record: Record) -> list[tuple[list[Image], list[str]]]:
    """One row of pictures and labels per attempt: what was found, what may change, every candidate with its verdict."""
    made, before = [], record.first
    for turn in record.rounds:
        for attempt in turn.attempts:
            shown = [before.image, overlay(before.image, before.critique), mask_of(attempt, before.image)]
            labels = [f"round {turn.index + 1}, before", f"found: {before.critique.area:.1%}", "may change"]
            for index, (option, verdict) in enumerate(zip(attempt.candidates, attempt.verdicts, strict=True)):
                shown.append(option.image)
                how = f"strength {option.strength:g}" if option.strength is not None else "drawn again"
                labels.append(f"{how}\n{'KEPT' if index == attempt.kept else verdict.reason}")
            before = attempt.candidates[attempt.kept] if attempt.kept is not None else before
            made.append((shown, labels))
    return made


def mask_of(attempt: Attempt, image: Image) -> Image:
    """White where the repair may change pixels."""
    mask = attempt.mask if attempt.mask is not None else np.ones((image.height, image.width), np.bool_)
    return from_mask(mask).convert("RGB")


def strip(lines: list[tuple[list[Image], list[str]]], foot: str) -> Image:
    """Rows of pictures on white, a label of two lines under each, one line at the foot."""
    width = max(len(shown) for shown, _ in lines) * (SIDE + GAP) + GAP
    sheet = PIL.Image.new("RGB", (width, len(lines) * (SIDE + GAP + LABEL) + GAP + LABEL // 2), "white")
    pen, font = PIL.ImageDraw.Draw(sheet), PIL.ImageFont.load_default(11)
    for row, (shown, labels) in enumerate(lines):
        top = GAP + row * (SIDE + GAP + LABEL)
        for place, (image, label) in enumerate(zip(shown, labels, strict=True)):
            left = GAP + place * (SIDE + GAP)
            sheet.paste(image.resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS), (left, top))
            pen.rectangle((left - 1, top - 1, left + SIDE, top + SIDE), outline="grey")
            pen.multiline_text((left, top + SIDE + 2), label, "black", font, spacing=1)
    pen.text((GAP, sheet.height - LABEL // 2 - 2), foot, "black", font)
    return sheet


if __name__ == "__main__":
    main()
