"""Train, export and measure the embedded reward models.

    python -m refine.evals.reward_training hps --groups 4500 --steps 1150
    python -m refine.evals.reward_training imagereward --groups 4500 --steps 1000
    python -m refine.evals.reward_training evaluate --weights refine/weights/mini/hps --n 512

A training run resumes where it stopped; when it ends it writes the averaged weights (float16) to ``--weights``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertTokenizer, CLIPModel, CLIPTokenizer

from refine.embedded import WEIGHTS
from refine.errors import spoken
from refine.evals import imagereward
from refine.evals.hps import HPSv2
from refine.evals.imagereward import ImageReward, ImageRewardModel, Standard
from refine.evals.pairs import HELD_OUT, accuracy, make_group
from refine.evals.preprocess import CLIP_MEAN, CLIP_STD
from refine.evals.reward_data import Batch, Groups, batch, load_groups
from refine.evals.reward_losses import PREFERENCES, Teacher, hps_losses, imagereward_losses
from refine.evals.reward_models import TEXT_LENGTH, make_blip, make_clip
from refine.stilllife.captions import caption
from refine.training import Ema, cosine, seed_everything, train
from refine.trunk import Trunk, into_blip, into_clip
from refine.trunk import load as load_trunk

PEAK, WARMUP, DECAY, CLIP, EMA = 1e-3, 150, 0.05, 1.0, 0.998
GROUPS_PER_STEP = 8
SEEDS = {"hps": 11, "imagereward": 23}
TUNING = 1_000_000


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model, its auxiliary heads, its loss terms by name, and the ways to begin its vision tower with a trunk and to write it."""

    model: nn.Module
    begin: Callable[[Trunk, Tensor], None]
    teacher: Teacher
    losses: Callable[[Batch], dict[str, Tensor]]
    export: Callable[[Path], None]


def hps_trainee(seed: int) -> Trainee:
    model, tokenizer = make_clip(seed)
    model.set_attn_implementation("eager")  # on a CPU the backward pass of the fused attention takes half of a whole step
    teacher = Teacher(model.vision_model.config.hidden_size, model.visual_projection.out_features)
    losses = partial(hps_losses, model, teacher, tokenizer)

    def begin(trunk: Trunk, pixels: Tensor) -> None:
        into_clip(model.vision_model, trunk, pixels, CLIP_MEAN, CLIP_STD)

    return Trainee(model, begin, teacher, losses, partial(export_hps, model=model, tokenizer=tokenizer))


def imagereward_trainee(seed: int) -> Trainee:
    model, tokenizer = make_blip(seed)
    width = model.vision.config.hidden_size
    teacher = Teacher(width, width, model.text.config.hidden_size)
    losses = partial(imagereward_losses, model, teacher, tokenizer)

    def begin(trunk: Trunk, _: Tensor) -> None:
        into_blip(model.vision, trunk, CLIP_MEAN, CLIP_STD)

    return Trainee(model, begin, teacher, losses, partial(export_reward, model=model, tokenizer=tokenizer))


TRAINEES = {"hps": hps_trainee, "imagereward": imagereward_trainee}


def fit(
    trainee: Trainee, store: Groups, *, out: Path, steps: int, seconds: float | None, seed: int, weights: Path, trunk: Path
) -> None:
    """Train, the vision tower from the SAM tower of the LEGION in ``trunk`` on, and export."""
    trainee.begin(load_trunk(trunk), batch(store, np.arange(min(16, len(store))), np.random.default_rng(seed)).pixels.flatten(0, 1))
    both = nn.ModuleDict({"model": trainee.model, "teacher": trainee.teacher}).train()
    optimizer = torch.optim.AdamW(_parameter_groups(both), lr=PEAK, betas=(0.9, 0.98))
    ema = Ema(trainee.model, EMA)

    def step(index: int) -> dict[str, float]:
        rng = np.random.default_rng([seed, index])
        torch.manual_seed(seed + index)
        some = batch(store, rng.integers(len(store), size=GROUPS_PER_STEP), rng)
        with torch.autocast("cpu", torch.bfloat16):
            terms = trainee.losses(some)
        loss = torch.stack([weight(name, index / steps) * term for name, term in terms.items()]).sum()
        for group in optimizer.param_groups:
            group["lr"] = cosine(index, steps, PEAK, WARMUP)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(both.parameters(), CLIP)
        optimizer.step()
        ema.update(trainee.model)
        return {name: term.item() for name, term in terms.items()}

    train(step, {"nets": both, "optimizer": optimizer, "ema": ema}, out=out, steps=steps, seconds=seconds)
    trainee.model.load_state_dict(ema.shadow)
    trainee.export(weights)


def weight(name: str, progress: float) -> float:
    """The towers learn to see and to read first; the preference losses come in from a quarter to a third of the run.

    From the start, their noise drowns the other gradients: the vision tower then needs three times as many steps.
    """
    return min(1.0, max(0.0, (progress - 0.25) * 12)) if name in PREFERENCES else 1.0


def _parameter_groups(module: nn.Module) -> list[dict[str, object]]:
    """Weight decay on matrices only."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def export_hps(folder: Path, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    """A ``CLIPModel`` folder in float16, with its tokenizer."""
    half = {key: value.half().contiguous() for key, value in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=half)
    tokenizer.save_pretrained(folder)


def export_reward(folder: Path, model: ImageRewardModel, tokenizer: BertTokenizer) -> None:
    """The folder of :func:`refine.evals.imagereward.save`; scores are standardised on pictures of the tuning seeds."""
    raw = ImageReward(model, tokenizer, standard=Standard(0.0, 1.0, TEXT_LENGTH))
    groups = [make_group(TUNING + k) for k in range(32)]
    images = [image for group in groups for image in (group.clean.image, group.mild.image, group.severe.image)]
    scores = raw.score(images, [caption(group.scene) for group in groups for _ in range(3)])
    standard = Standard(round(float(np.mean(scores)), 4), round(float(np.std(scores)), 4), TEXT_LENGTH)
    imagereward.save(folder, model, tokenizer, standard)


def evaluate(weights: Path, count: int, first: int = HELD_OUT) -> dict[str, float]:
    """Pair accuracy on ``count`` groups from seed ``first`` on."""
    kind = json.loads((weights / "config.json").read_text(encoding="utf-8"))["model_type"]
    reward = ImageReward.from_pretrained(weights) if kind == "imagereward" else HPSv2.from_pretrained(weights)
    return accuracy(reward, range(first, first + count))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in TRAINEES:
        command = commands.add_parser(name, help=f"train the embedded {name}")
        command.add_argument("--steps", type=int, default=1600)
        command.add_argument("--seconds", type=float, default=None, help="stop after this long, with everything saved")
        command.add_argument("--seed", type=int, default=SEEDS[name])
        command.add_argument("--groups", type=int, default=8000, help="scenes in the training data")
        command.add_argument("--data", type=Path, default=Path("work/data/rewards"))
        command.add_argument("--out", type=Path, default=Path("work/train") / name)
        command.add_argument("--weights", type=Path, default=WEIGHTS / "mini" / name)
        command.add_argument("--trunk", type=Path, default=WEIGHTS / "mini" / "legion", help="a LEGION whose SAM tower to begin with")
    command = commands.add_parser("evaluate", help="pair accuracy on held-out scenes, as JSON")
    command.add_argument("--weights", type=Path, required=True)
    command.add_argument("--n", type=int, default=512, help="scenes; each gives three pairs")
    command.add_argument("--first", type=int, default=HELD_OUT, help="first seed")
    options = vars(parser.parse_args(arguments))
    name = options.pop("command")
    if name == "evaluate":
        print(json.dumps(evaluate(options["weights"], options["n"], options["first"]), indent=1))
        return
    seed_everything(options["seed"])
    store = load_groups(options.pop("data"), options.pop("groups"))
    fit(TRAINEES[name](options["seed"]), store, **options)


if __name__ == "__main__":
    spoken(main)
