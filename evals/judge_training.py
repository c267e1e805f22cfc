"""Train and measure the held-out judge.

    python -m refine.evals.judge_training --steps 2500 --seconds 900 --out work/train/judge --seed 5000000
    python -m refine.evals.judge_training evaluate --n 512 [--vae FOLDER]
    python -m refine.evals.judge_training reconstruct --vae FOLDER --to work/data/judge-vae.npz
    python -m refine.evals.judge_training label --model FOLDER --images FILE.npz --to CACHE.npz

Training seeds start at 5,000,000, its own test seeds at 7,000,000: no other model sees either. ``label`` is for a second reader, trained
with ``--seed`` on the seeds of the loop's models: it marks faults in drawings for a controller to learn from, which the judge never does.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFilter
import torch
from torch import Tensor
from torch.nn import functional as F

from refine.errors import InputError, spoken
from refine.evals import judge_data, labels
from refine.evals.judge import ARTIFACT, DEFAULT_PATH, Dense, Judge, Reading, agreement
from refine.evals.judge_data import Batch, Examples
from refine.stilllife import packing
from refine.stilllife.damage import Sample, sample_damage
from refine.training import Ema, cosine, device, seed_everything, train
from refine.types import Image, Mask

FIRST_SEED = 5_000_000
TEST_SEED = 7_000_000
BATCH = 16
PEAK_RATE = 2e-3
ARTIFACT_WEIGHT = 2.0


def losses(dense: Dense, wanted: Batch) -> dict[str, Tensor]:
    """Every part of the objective: focal loss on the heat, cross-entropy on the classes, cross-entropy and Dice on artifacts."""
    parts = {"heat": focal(dense.heat, wanted.heat)}
    for name, logits in dense.heads.items():
        parts[name] = F.cross_entropy(logits, wanted.truth[name], ignore_index=-1)
    parts["artifact"] = ARTIFACT_WEIGHT * (F.binary_cross_entropy_with_logits(dense.artifact, wanted.artifact) + dice(dense, wanted))
    return parts


def focal(logits: Tensor, target: Tensor) -> Tensor:
    """Penalty-reduced focal loss of CenterNet (arXiv:1904.07850, eq. 1; α = 2, β = 4), per solid."""
    share = logits.sigmoid()
    top = (target > 0.8).float()
    hit = top * (1 - share) ** 2 * F.logsigmoid(logits)
    miss = (1 - top) * (1 - target) ** 4 * share**2 * F.logsigmoid(-logits)
    return -(hit + miss).sum() / top.sum().clamp(min=1)


def dice(dense: Dense, wanted: Batch) -> Tensor:
    """1 − soft Dice overlap over the whole batch (Milletari et al. 2016, arXiv:1606.04797)."""
    share = dense.artifact.sigmoid()
    return 1 - (2 * (share * wanted.artifact).sum() + 1) / (share.sum() + wanted.artifact.sum() + 1)


def fit(args: argparse.Namespace) -> None:
    """Train from seeds (and ``--data`` shards), resumable; export the averaged weights."""
    seed_everything(args.seed)
    torch.set_num_threads(args.threads)
    pools = [judge_data.cached(args.cache, args.seed, args.samples), *(judge_data.load(Path(path)) for path in args.data)]
    judge = Judge().to(device()).train()
    ema = Ema(judge, 0.998)
    optimizer = torch.optim.AdamW(judge.parameters(), PEAK_RATE, weight_decay=0.01)

    def step(index: int) -> Mapping[str, float]:
        rng = np.random.default_rng([args.seed, index])
        pool = pools[min(int(rng.random() / args.share), len(pools) - 1)] if len(pools) > 1 else pools[0]
        wanted = judge_data.batch(pool, rng, BATCH)
        for group in optimizer.param_groups:
            group["lr"] = cosine(index, args.steps, PEAK_RATE, warmup=100)
        with torch.autocast(device().type, torch.bfloat16):
            dense = judge(wanted.x.to(device(), memory_format=torch.channels_last))
        parts = losses(dense, _moved(wanted))
        optimizer.zero_grad(set_to_none=True)
        total = torch.stack(list(parts.values())).sum()
        torch.autograd.backward(total)
        optimizer.step()
        ema.update(judge)
        return {"loss": total.item(), **{name: part.item() for name, part in parts.items()}}

    done = train(step, {"judge": judge, "ema": ema, "optimizer": optimizer}, out=args.out, steps=args.steps, seconds=args.seconds)
    judge.load_state_dict(ema.shadow)
    judge.eval().save_pretrained(args.out / "model")
    print(f"{done} steps done; weights in {args.out / 'model'}")


def _moved(wanted: Batch) -> Batch:
    """The targets where the model is."""
    where = device()
    classes = {name: values.to(where) for name, values in wanted.truth.items()}
    return Batch(wanted.x, wanted.heat.to(where), classes, wanted.artifact.to(where))


@dataclass(frozen=True, slots=True)
class Measures:
    """How well the judge does on one set of pictures. ``f1``, ``iou``: of broken pixels against truth, over the whole set."""

    core: float
    every: float
    mean: float
    f1: float
    iou: float
    area: float
    truth_area: float
    called_faulty: float


def measure(readings: Sequence[Reading], samples: Sequence[Sample], masks: Sequence[Mask]) -> Measures:
    """Compare readings with the truth of the samples."""
    agreements = [agreement(reading, sample.scene) for reading, sample in zip(readings, samples, strict=True)]
    seen = np.stack([reading.artifact > ARTIFACT for reading in readings])
    real = np.stack(masks)
    both, either = float((seen & real).sum()), float((seen | real).sum())
    total = float(seen.sum() + real.sum())
    return Measures(
        core=float(np.mean([a["core"] for a in agreements])),
        every=float(np.mean([a["every"] for a in agreements])),
        mean=float(np.mean([a["mean"] for a in agreements])),
        f1=2 * both / total if total else 1.0,
        iou=both / either if either else 1.0,
        area=float(seen.mean()),
        truth_area=float(real.mean()),
        called_faulty=float(np.mean([reading.faulty for reading in readings])),
    )


def evaluate(args: argparse.Namespace) -> dict[str, Measures]:
    """Read held-out pictures in several conditions, print a table and write it as JSON."""
    torch.set_num_threads(args.threads)
    judge = Judge.from_pretrained(args.model).to(device())
    samples = [sample_damage(np.random.default_rng(TEST_SEED + index)) for index in range(args.n)]
    clean, damaged = [sample.clean for sample in samples], [sample.image for sample in samples]
    empty = [np.zeros((image.height, image.width), np.bool_) for image in clean]
    masks = [sample.mask for sample in samples]
    sets = {"clean": (clean, empty), "damaged": (damaged, masks)}
    for name, (images, truth) in list(sets.items()):
        sets[f"{name}, blurred (σ 0.8 px)"] = (blurred(images, 0.8), truth)
        if args.vae:
            sets[f"{name}, through the VAE"] = (round_trip(images, args.vae), truth)
    rows = {name: measure(judge.read(images), samples, truth) for name, (images, truth) in sets.items()}
    print(table(rows))
    if args.json:
        text = json.dumps({name: asdict(row) for name, row in rows.items()}, indent=2, ensure_ascii=False)
        args.json.write_text(text + "\n", encoding="utf-8")
    return rows


def table(rows: Mapping[str, Measures]) -> str:
    """A markdown table, one row per set of pictures."""
    names = list(asdict(next(iter(rows.values()))))
    lines = [f"| pictures | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(cell(row, key) for key in names)} |" for name, row in rows.items()]
    return "\n".join(lines)


def cell(row: Measures, key: str) -> str:
    """One number; a dash for an overlap with nothing."""
    return "–" if key in ("f1", "iou") and row.truth_area == 0 else f"{getattr(row, key):.4f}"


def blurred(images: Sequence[Image], sigma: float) -> list[Image]:
    """The pictures after a Gaussian blur of ``sigma`` pixels."""
    return [image.filter(PIL.ImageFilter.GaussianBlur(sigma)) for image in images]


@torch.inference_mode()
def round_trip(images: Sequence[Image], folder: Path) -> list[Image]:
    """The pictures encoded and decoded by the autoencoder (diffusers' AutoencoderKL) in ``folder``."""
    from diffusers import AutoencoderKL

    vae: Any = AutoencoderKL.from_pretrained(folder).to(device()).eval()
    decoded: list[Image] = []
    for start in range(0, len(images), 16):
        pixels = np.stack([np.asarray(image, np.float32) for image in images[start : start + 16]]) / 127.5 - 1
        with torch.autocast(device().type, torch.bfloat16):
            output = vae.decode(vae.encode(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).to(device())).latent_dist.mode()).sample
        values = ((output.float().clamp(-1, 1) + 1) * 127.5).round().byte().cpu().permute(0, 2, 3, 1).numpy()
        decoded += [PIL.Image.fromarray(value) for value in values]
    return decoded


def reconstruct(args: argparse.Namespace) -> None:
    """Store the first training pictures as the autoencoder gives them back, half of them in a box only; ``--data`` trains on them."""
    torch.set_num_threads(args.threads)
    examples = judge_data.cached(args.cache, args.seed, args.n)

    def again() -> Examples:
        rng = np.random.default_rng(args.seed)

        def decoded(pictures: judge_data.Bytes) -> judge_data.Bytes:
            images = round_trip([PIL.Image.fromarray(picture) for picture in pictures], args.vae)
            return judge_data.patched(pictures, np.stack([np.asarray(image) for image in images]), rng)

        return replace(examples, image=decoded(examples.image), clean=decoded(examples.clean))

    judge_data.load(args.to, again)
    print(f"{len(examples)} pictures in {args.to}")


def label(args: argparse.Namespace) -> None:
    """Mark what is broken in pictures (``refine.generators.drawn``): training data for a controller, or folders for ``refine calibrate``.

    Raises InputError for the judge.
    """
    if args.model.resolve() == DEFAULT_PATH.resolve():
        raise InputError("The held-out judge teaches nothing. Train a second reader (--seed 200000 --out FOLDER) and give its --model.")
    torch.set_num_threads(args.threads)
    with np.load(args.images) as file:
        pictures, prompts = [PIL.Image.fromarray(picture) for picture in file["images"]], file["prompts"].tolist()
    made = list(labels.labelled(Judge.from_pretrained(args.model).to(device()), pictures, prompts))
    if not made:
        raise InputError(f"In none of the {len(pictures)} pictures of {args.images} stands what its caption tells.")
    if args.to.suffix == ".npz":
        packing.save(packing.pack(made, placed=False), args.to)
    else:
        labels.write_folders(made, args.to)
    print(f"{args.to}: {len(made)} pictures of {len(pictures)}, {sum(bool(one.regions) for one in made)} of them faulty")


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", nargs="?", choices=("train", "evaluate", "reconstruct", "label"), default="train")
    parser.add_argument("--steps", type=int, default=2500, help="optimizer steps in all")
    parser.add_argument("--seconds", type=float, help="stop after this long; the same command goes on")
    parser.add_argument("--out", type=Path, default=Path("work/train/judge"), help="folder of the training state")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="first seed of the pictures, and seed of the weights")
    parser.add_argument("--samples", type=int, default=12_000, help="how many pictures are made")
    parser.add_argument("--cache", type=Path, default=Path("work/data/judge"), help="folder of the shards")
    parser.add_argument("--data", nargs="*", default=[], help="more shards (.npz) to train on")
    parser.add_argument("--share", type=float, default=0.5, help="share of batches from each pool but the last")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--n", type=int, default=512, help="how many pictures to evaluate or reconstruct")
    parser.add_argument("--model", type=Path, default=DEFAULT_PATH, help="the judge to evaluate, or the reader that labels")
    parser.add_argument("--vae", type=Path, help="folder of an autoencoder")
    parser.add_argument("--to", type=Path, default=Path("work/data/judge-vae.npz"), help="file; label: or a folder (clean, faulty, masks)")
    parser.add_argument("--images", type=Path, help="label: pictures and prompts (.npz)")
    parser.add_argument("--json", type=Path, help="write the measures here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = arguments(argv)
    {"train": fit, "evaluate": evaluate, "reconstruct": reconstruct, "label": label}[args.task](args)


if __name__ == "__main__":
    spoken(main)
