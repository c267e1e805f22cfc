"""Train LEGION, the mini one or the real one.

    python -m refine.controllers.legion.training cache     --count 9000 --data work/data/legion_train.npz
    python -m refine.controllers.legion.training pretrain  --data A.npz [B.npz ...] --tower sam --steps 9000
    python -m refine.controllers.legion.training pretrain  --data A.npz [B.npz ...] --tower clip --model work/train/legion/pretrain-sam
    python -m refine.controllers.legion.training stage1    --data A.npz ... --out work/train/legion --steps 4000
    python -m refine.controllers.legion.training stage2    --data A.npz ... --out work/train/legion --steps 1500
    python -m refine.controllers.legion.training export    --out work/train/legion --weights refine/weights/mini/legion
    python -m refine.controllers.legion.training blend     --model OLD --other NEW --share 0.7 --weights refine/weights/mini/legion
    python -m refine.controllers.legion.training evaluate  --weights refine/weights/mini/legion --n 256

Each stage goes on where it was stopped (SIGINT, or ``--seconds``) and starts from the weights of the one before, ``--model`` otherwise.
Real weights and data: ``stage1 --model CHECKPOINT --synthscars ROOT --lora --lr 1e-4 --steps 703``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from refine.controllers.legion import cache as caches
from refine.controllers.legion.cache import Cache
from refine.controllers.legion.data import ADJECTIVES, CLEAN_ANSWER, NUMBERS, answer_text
from refine.controllers.legion.mini import build_mini, mini_processor
from refine.controllers.legion.modeling import LegionModel
from refine.controllers.legion.processing import LegionProcessor
from refine.controllers.legion.stages import (
    Source,
    cached_source,
    choose_stage1,
    choose_stage2,
    extract,
    merge_lora,
    stage1_losses,
    stage2_loss,
    synthscars_source,
    total,
)
from refine.controllers.legion.towers import TOWERS, clip_from_sam, clip_states, dense, pixels, start, tower_losses
from refine.errors import InputError, spoken
from refine.stilllife.damage import CATALOGUE, REPAINTED
from refine.stilllife.scene import COLOURS, LIGHTS, SHAPES
from refine.training import cosine, device, seed_everything, train
from refine.types import Region

PRETRAINED, STAGE1, STAGE2 = "pretrain", "stage1", "stage2"
DEFAULT_OUT = Path("work/train/legion")
BETAS = (0.9, 0.95)  # of Adam, in both published stages


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a stage runs, where its state goes, and what it draws from."""

    out: Path
    steps: int
    seconds: float | None
    seed: int
    batch: int
    lr: float


def pretrain(cache: Cache, budget: Budget, tower: str, begin: LegionModel | None = None, further: bool = False) -> LegionModel:
    """Teach one tower ("clip" or "sam") of a fresh mini model to see (``towers``), and save it.

    Both towers begin from the SAM tower of ``begin``, which has the sizes of a mini model; without it, from nothing. further: each goes
    on from its own tower of ``begin``.
    """
    seed_everything(budget.seed)
    processor = mini_processor(catalogue_texts())
    model = build_mini(processor.tokenizer, budget.seed)
    some = pixels(cache, np.arange(min(len(cache), 500)))
    if begin is None:
        start(model, tower, some)
    else:
        model.sam.vision_encoder.load_state_dict(begin.sam.vision_encoder.state_dict())
        if further:
            model.clip.load_state_dict(begin.clip.state_dict())
        else:
            clip_from_sam(model, some[:64])
    model.to(device())
    trained, heads = TOWERS[tower](model)
    heads.to(device())

    def losses(i: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        batch = dense(cache, rng.integers(len(cache), size=budget.batch)).to(device())
        parts = tower_losses(model, heads, batch.mirrored() if i % 2 else batch)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    name = f"{PRETRAINED}-{tower}"
    _descend(losses, [*trained.parameters(), *heads.parameters()], budget, name, {"tower": trained, "heads": heads}, decay=0.02)
    return _save(model, processor, budget.out / name)


def pretrained(out: Path) -> tuple[LegionModel, LegionProcessor]:
    """A fresh mini model with both pre-trained towers."""
    processor = mini_processor(catalogue_texts())
    return with_towers(build_mini(processor.tokenizer), out), processor


def with_towers(model: LegionModel, out: Path) -> LegionModel:
    """The model, with the two towers that were pre-trained under ``out``."""
    model.clip.load_state_dict(load(out / f"{PRETRAINED}-clip")[0].clip.state_dict())
    model.sam.vision_encoder.load_state_dict(load(out / f"{PRETRAINED}-sam")[0].sam.vision_encoder.state_dict())
    return model


def stage1(model: LegionModel, processor: LegionProcessor, source: Source, budget: Budget, lora: bool) -> LegionModel:
    """Localisation and explanation, with the published losses."""
    seed_everything(budget.seed)
    model.to(device()).train()
    weights = choose_stage1(model, lora)

    def losses(_: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        parts = stage1_losses(model, source(rng))
        return {"loss": total(parts), **parts}

    _descend(losses, weights, budget, STAGE1, {"model": model}, decay=0.0)
    merge_lora(model)
    return _save(model, processor, budget.out / STAGE1)


def stage2(model: LegionModel, processor: LegionProcessor, cls: Tensor, real: Tensor, budget: Budget) -> LegionModel:
    """The detector on CLIP class tokens ``cls`` (N, D_clip); real and fake images are drawn equally often."""
    seed_everything(budget.seed)
    model.to(device()).train()
    weights = choose_stage2(model)
    groups = [torch.nonzero(real == flag).flatten().numpy() for flag in (True, False)]
    if not all(len(group) for group in groups):
        raise InputError(f"The detector needs undamaged and damaged images; there are {len(groups[0])} and {len(groups[1])}.")

    def losses(_: int, rng: np.random.Generator) -> Mapping[str, Tensor]:
        rows = torch.from_numpy(np.concatenate([rng.choice(group, budget.batch // 2) for group in groups]))
        return {"loss": stage2_loss(model, cls[rows].float().to(device()), real[rows].to(device()))}

    _descend(losses, weights, budget, STAGE2, {"model": model}, decay=0.0)
    return _save(model, processor, budget.out / STAGE2)


def _descend(
    losses: Callable[[int, np.random.Generator], Mapping[str, Tensor]],
    weights: Sequence[nn.Parameter],
    budget: Budget,
    name: str,
    modules: Mapping[str, nn.Module],
    decay: float,
) -> None:
    """AdamW with warm-up, cosine decay and gradients clipped at 1; batches follow from the seed and the step alone."""
    optimizer = torch.optim.AdamW(weights, lr=budget.lr, betas=BETAS, weight_decay=decay)
    warmup = min(100, max(1, budget.steps // 10))

    def step(i: int) -> Mapping[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = cosine(i, budget.steps, budget.lr, warmup)
        with torch.autocast(device().type, torch.bfloat16):
            parts = losses(i, np.random.default_rng((budget.seed, i)))
        optimizer.zero_grad(set_to_none=True)
        parts["loss"].backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        return {key: float(value.detach()) for key, value in parts.items()}

    train(step, {**modules, "optimizer": optimizer}, out=budget.out / name, steps=budget.steps, seconds=budget.seconds)


def _save(model: LegionModel, processor: LegionProcessor, folder: Path) -> LegionModel:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model


def load(folder: Path) -> tuple[LegionModel, LegionProcessor]:
    """A model and its processor from a folder that a stage, an export or a conversion wrote."""
    if not (folder / "config.json").exists():
        raise InputError(f"{folder} holds no model. Run the stage before this one, or give --model.")
    return LegionModel.from_pretrained(folder, dtype=torch.float32), LegionProcessor.from_pretrained(folder)


def export(source: Path, target: Path) -> int:
    """Write float16 safetensors of at most 12 MB a file; return the bytes written."""
    return _export(*load(source), target)


def blend(source: Path, other: Path, share: float, target: Path) -> int:
    """``export`` every weight between two models of one form, ``share`` of it from ``other`` (Wortsman et al. 2022, arXiv:2109.01903).

    A model that was trained on keeps more of what it knew. Raises InputError where the two have different weights.
    """
    (model, processor), (second, _) = load(source), load(other)
    ours, theirs = model.state_dict(), second.state_dict()
    if {name: value.shape for name, value in ours.items()} != {name: value.shape for name, value in theirs.items()}:
        raise InputError(f"{source} and {other} are models of different forms; blend two of which one was trained on from the other.")
    moving = [name for name, value in ours.items() if value.is_floating_point()]
    model.load_state_dict({**ours, **{name: torch.lerp(ours[name], theirs[name], share) for name in moving}})
    return _export(model, processor, target)


def _export(model: LegionModel, processor: LegionProcessor, target: Path) -> int:
    model.half().save_pretrained(target, max_shard_size="12MB")
    processor.save_pretrained(target)
    return sum(file.stat().st_size for file in target.iterdir())


def catalogue_texts() -> list[str]:
    """Every answer that the still-life world can give, up to the numbers of its faults: names filled in, categories in front."""
    entries = [(kind.category, kind.phrase, text) for kind in CATALOGUE.values() for text in kind.explanations]
    entries += list(REPAINTED.values())
    names = {"name": "", "shape": " ".join(SHAPES), "colour": " ".join(COLOURS), "side": " ".join(LIGHTS), "away": ""}
    blank = np.zeros((1, 1), np.bool_)
    regions = [Region(blank, phrase.format(**names), text.format(**names), category) for category, phrase, text in entries]
    openings = [f"{adjective.capitalize()} artifact." for adjective in ADJECTIVES.values()]
    return [answer_text([region]) for region in regions] + [CLEAN_ANSWER, " ".join(NUMBERS), "artifacts and", *openings]


def class_tokens(model: LegionModel, cache: Cache, size: int = 64) -> tuple[Tensor, Tensor]:
    """CLIP class tokens (N, D_clip) float16 of a cache, and whether each image is undamaged (N,)."""
    rows = np.arange(len(cache))
    with torch.inference_mode():
        batches = (pixels(cache, rows[i : i + size]).to(model.device) for i in range(0, len(rows), size))
        parts = torch.cat([clip_states(model, images)[:, 0].half().cpu() for images in batches])
    return parts, torch.from_numpy(~np.isin(rows, cache.owner))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["cache", PRETRAINED, STAGE1, STAGE2, "export", "blend", "evaluate"])
    parser.add_argument("--data", type=Path, nargs="+", default=[Path("work/data/legion_train.npz")], help="cached training images")
    parser.add_argument("--tower", choices=sorted(TOWERS), default="clip", help="pretrain: which one")
    parser.add_argument("--synthscars", type=Path, help="a SynthScars folder instead of cached images")
    parser.add_argument("--model", type=Path, help="start from this folder instead of the stage before")
    parser.add_argument("--further", action="store_true", help="go on from --model: pretrain its own tower; stage1 with new towers")
    parser.add_argument("--lora", action="store_true", help="adapt the language model with LoRA instead of training it in full")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder of the training state")
    parser.add_argument("--weights", type=Path, default=Path("refine/weights/mini/legion"), help="folder to export to, or to evaluate")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seconds", type=float, help="stop after this long, with everything saved")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--count", type=int, default=6000, help="cache: number of seeds to draw")
    parser.add_argument("--first-seed", type=int, default=0, help="cache: the first of them")
    parser.add_argument("--processes", type=int, default=1, help="cache: how many to draw with")
    parser.add_argument("--other", type=Path, help="blend: the second model")
    parser.add_argument("--share", type=float, default=0.5, help="blend: how much of the second model")
    parser.add_argument("--n", type=int, default=256, help="evaluate: number of held-out seeds")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    budget = Budget(args.out, args.steps, args.seconds, args.seed, args.batch, args.lr)
    if args.command == "cache":
        caches.save(caches.build(args.count, args.first_seed, processes=args.processes), args.data[0])
    elif args.command == PRETRAINED:
        pretrain(caches.load(args.data), budget, args.tower, load(args.model)[0] if args.model else None, args.further)
    elif args.command == STAGE1:
        _run_stage1(args, budget)
    elif args.command == STAGE2:
        model, processor = load(args.model or args.out / STAGE1)
        stage2(model, processor, *class_tokens(model.to(device()), caches.load(args.data)), budget)
    elif args.command == "export":
        print(f"{export(args.model or args.out / STAGE2, args.weights) / 1e6:.2f} MB in {args.weights}")
    elif args.command == "blend":
        if args.model is None or args.other is None or not 0 <= args.share <= 1:
            raise InputError("blend needs --model FOLDER, --other FOLDER and --share from 0 to 1.")
        print(f"{blend(args.model, args.other, args.share, args.weights) / 1e6:.2f} MB in {args.weights}")
    else:
        from refine.controllers.legion.evaluation import evaluate, table

        print(table(evaluate(args.weights, args.n)))


def _run_stage1(args: argparse.Namespace, budget: Budget) -> None:
    model, processor = load(args.model) if args.model else pretrained(args.out)
    if args.model and args.further:
        with_towers(model, args.out)
    model.to(device())
    if args.synthscars:
        from refine.stilllife.dataset import read_synthscars

        source = synthscars_source(model, processor, read_synthscars(args.synthscars, "train"), budget.batch)
    else:
        cache = caches.load(args.data)
        source = cached_source(cache, extract(model, cache), processor, budget.batch)
    stage1(model, processor, source, budget, args.lora)


if __name__ == "__main__":
    spoken(main)
