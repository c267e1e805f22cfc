"""Train the mini generator: ``python -m refine.generators.training cache``, then ``vae``, ``latents``, ``unet`` and ``export``.

Every step goes on from where it was stopped, and takes an accelerator where there is one. ``sample`` draws a sheet of held-out captions;
``damage`` and ``drawn`` make training data for a controller.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline

from refine.errors import spoken
from refine.generators import damage, drawn, mini, scenes, train_unet, train_vae
from refine.generators.adapter import DiffusersGenerator
from refine.generators.quiet import quiet
from refine.stilllife import packing
from refine.stilllife.captions import caption
from refine.stilllife.damage import Sample
from refine.stilllife.scene import sample_scene
from refine.training import device
from refine.types import Image

DATA = Path("work/data")
OUT = Path("work/train/generator")
TUNING = 1_000_000  # first seed of scenes that no training saw


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    commands = {"cache": _cache, "vae": _vae, "latents": _latents, "unet": _unet, "export": _export, "sample": _sample}
    commands |= {"damage": _damage, "drawn": _drawn}
    commands[args.command](args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m refine.generators.training", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--data", type=Path, default=DATA, help="folder of the rendered scenes (%(default)s)")
    common.add_argument("--out", type=Path, default=OUT, help="folder of training state and weights (%(default)s)")
    common.add_argument("--seed", type=int, default=0)
    budget = argparse.ArgumentParser(add_help=False, parents=[common])
    budget.add_argument("--steps", type=int, help="optimizer steps; the learning rate ends there (%(default)s)")
    budget.add_argument("--seconds", type=float, help="stop after this wall time, with everything saved")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("cache", parents=[common], help="render the training scenes").add_argument("--count", type=int, default=24_000)
    commands.add_parser("vae", parents=[budget], help="train the autoencoder").set_defaults(steps=3000)
    commands.add_parser("latents", parents=[common], help="encode the scenes and tokenise their captions")
    unet = commands.add_parser("unet", parents=[budget], help="train the denoiser and the text encoder")
    unet.add_argument("--begin", type=Path, help="pipeline folder to train on from; without it from nothing")
    unet.add_argument("--lr", type=float, default=train_unet.PEAK, help="highest learning rate (%(default)s)")
    unet.set_defaults(steps=4600)
    commands.add_parser("export", parents=[common], help="write the pipeline folder").add_argument("--to", type=Path, required=True)
    sample = commands.add_parser("sample", parents=[common], help="draw a sheet of captions that no training saw")
    sample.add_argument("--to", type=Path, required=True, help="PNG file")
    sample.add_argument("--weights", type=Path, help="pipeline folder; without it the last training state")
    sample.add_argument("--count", type=int, default=24)
    sample.add_argument("--guidance", type=float, default=2.5)
    harm = commands.add_parser("damage", help="repaint parts of scenes with a wrong prompt")
    harm.add_argument("--weights", type=Path, required=True, help="pipeline folder, best of an early state")
    harm.add_argument("--out", type=Path, required=True, help=".npz file")
    harm.add_argument("--n", type=int, default=1500)
    harm.add_argument("--seed0", type=int, default=600_000, help="first seed (%(default)s)")
    paint = commands.add_parser("drawn", help="draw captions, and repaint parts, for a reader to label")
    paint.add_argument("--weights", type=Path, required=True, help="pipeline folder")
    paint.add_argument("--out", type=Path, required=True, help=".npz file")
    paint.add_argument("--n", type=int, default=4500, help="how many drawings; as many repaints are added")
    paint.add_argument("--seed0", type=int, default=600_000, help="first seed (%(default)s)")
    return parser


def _cache(args: argparse.Namespace) -> None:
    scenes.cache(args.data, args.count)


def _vae(args: argparse.Namespace) -> None:
    done = train_vae.fit(args.data, args.out, args.steps, args.seconds, args.seed)
    held_out = scenes.make_chunk(range(TUNING, TUNING + 64))["images"]
    quality = train_vae.reconstruction(AutoencoderKL.from_pretrained(args.out / "vae" / "model"), held_out)
    print(f"autoencoder: {done} steps, {quality:.2f} dB on 64 held-out scenes")


def _latents(args: argparse.Namespace) -> None:
    train_vae.write_latents(args.data, args.out)


def _unet(args: argparse.Namespace) -> None:
    print(f"denoiser: {train_unet.fit(args.out, args.steps, args.seconds, args.seed, args.begin, args.lr)} steps")


def _export(args: argparse.Namespace) -> None:
    mini.export(train_unet.pipeline(args.out), args.to)


def _sample(args: argparse.Namespace) -> None:
    settings = {"steps": 20, "guidance_scale": args.guidance}
    if args.weights:
        generator = DiffusersGenerator.from_pretrained(args.weights, **settings)
    else:
        generator = DiffusersGenerator.from_pipe(train_unet.pipeline(args.out), **settings)
    prompts = [caption(sample_scene(np.random.default_rng(TUNING + i))) for i in range(args.count)]
    sheet(generator.draw(prompts, range(args.count))).save(args.to)
    print("\n".join(f"{i:3d} {prompt}" for i, prompt in enumerate(prompts)))


def _damage(args: argparse.Namespace) -> None:
    with quiet():
        pipe = StableDiffusionPipeline.from_pretrained(args.weights, dtype=torch.float32).to(device())
    made: list[Sample] = []
    for sample in damage.samples(pipe, range(args.seed0, args.seed0 + args.n)):
        made.append(sample)
        if len(made) % 250 == 0 or len(made) == args.n:
            packing.save(packing.pack(made), args.out)
            print(f"{args.out}: {len(made)} pictures, {sum(len(one.regions) for one in made)} faults", flush=True)


def _drawn(args: argparse.Namespace) -> None:
    generator = DiffusersGenerator.from_pretrained(args.weights, steps=20, guidance_scale=2.5)
    firsts = list(drawn.drawings(generator, range(args.seed0, args.seed0 + args.n)))
    images, prompts = zip(*firsts, *drawn.repaints(generator, firsts, args.seed0), strict=True)
    packing.save({"images": np.stack([np.asarray(image) for image in images]), "prompts": np.array(prompts)}, args.out)
    print(f"{args.out}: {len(images)} pictures")


def sheet(images: Sequence[Image], columns: int = 8) -> Image:
    """Pictures of one size side by side, row by row."""
    width, height = images[0].size
    page = PIL.Image.new("RGB", (columns * width, -(-len(images) // columns) * height))
    for i, image in enumerate(images):
        page.paste(image, (i % columns * width, i // columns * height))
    return page


if __name__ == "__main__":
    spoken(main)
