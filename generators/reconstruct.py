"""Pass the pictures of a training file through a generator's autoencoder.

    python -m refine.generators.reconstruct work/data/a.npz work/data/a_vae.npz --vae work/train/generator/vae/model

Whoever judges drawn pictures must know what a decoder does to every picture, or calls its softness a fault. All fields but ``images``
are copied. With ``--mixed``, every second row keeps its pixels outside a random half of the picture, as a repaired picture does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL

from refine.errors import spoken
from refine.generators.train_vae import to_tensor
from refine.training import device

Images = npt.NDArray[np.uint8]


@torch.inference_mode()
def reconstruct(vae: AutoencoderKL, images: Images, size: int = 16) -> Images:
    """(N, H, W, 3) uint8 pictures, encoded to the mean of their latents and decoded."""
    vae = vae.to(device()).eval()
    parts: list[Images] = []
    for start in range(0, len(images), size):
        pixels = to_tensor(images[start : start + size]).to(device())
        with torch.autocast(pixels.device.type, torch.bfloat16):
            output = vae.decode(vae.encode(pixels).latent_dist.mean).sample.float()
        parts.append(((output.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(parts)


def mixed(before: Images, after: Images, seed: int = 0) -> Images:
    """``after``, but every second picture is ``before`` outside a random box that covers a quarter or more of it."""
    result = after.copy()
    height, width = before.shape[1:3]
    for index in range(0, len(before), 2):
        rng = np.random.default_rng((seed, index))
        h, w = int(rng.integers(height // 2, height)), int(rng.integers(width // 2, width))
        y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
        result[index] = before[index]
        result[index, y : y + h, x : x + w] = after[index, y : y + h, x : x + w]
    return result


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a file with an array images (N, H, W, 3) uint8")
    parser.add_argument("target", type=Path)
    parser.add_argument("--vae", type=Path, required=True, help="folder of the autoencoder")
    parser.add_argument("--mixed", action="store_true", help="keep the pixels of every second picture outside a box")
    args = parser.parse_args(argv)
    with np.load(args.source) as file:
        fields = {name: file[name] for name in file.files}
    seen = reconstruct(AutoencoderKL.from_pretrained(args.vae), fields["images"])
    fields["images"] = mixed(fields["images"], seen) if args.mixed else seen
    np.savez_compressed(args.target, **fields)
    print(f"{args.target}: {len(seen)} pictures")


if __name__ == "__main__":
    spoken(main)
