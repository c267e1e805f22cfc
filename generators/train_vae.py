"""Training of the mini generator's autoencoder, and its latents of the cached scenes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from refine.generators import mini, scenes
from refine.training import Ema, cosine, device, seed_everything, train

BATCH = 4  # whole pictures: crops of even floor leave group normalisation nothing to tell their colour by
HALVED = 0.5  # share of the steps, at the start, with four times as many pictures at half the size: hues are learned from many scenes
PEAK = 1.5e-3  # learning rate
START = -5.0  # first log variance of the latents
SQUARE, ABSOLUTE, EDGE = 5.0, 0.1, 2.5  # weights of the squared error, the absolute error and the squared error of edges
KL = 2.5e-7  # weight of the divergence, summed over a picture's latents
RECOLOURED = 0.5  # share of pictures with permuted colour channels: floors span few hues, solids all of them
SCRAMBLED = 0.2  # share of pictures with a foreign patch: damaged pictures must come back as they are


def fit(data: Path, out: Path, steps: int, seconds: float | None, seed: int = 0) -> int:
    """Train to ``out``/vae (state, log, and the averaged weights as a diffusers folder); return the number of steps done."""
    seed_everything(seed)
    images = scenes.load(data, "images")["images"]
    vae = mini.build_vae().to(device())
    torch.nn.init.constant_(vae.quant_conv.bias[4:], START)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=PEAK, betas=(0.9, 0.99), weight_decay=1e-4)
    ema = Ema(vae, 0.998)

    def step(index: int) -> Mapping[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = cosine(index, steps, PEAK, warmup=100)
        pixels = batch(images, np.random.default_rng((seed, index)), 2 if index < HALVED * steps else 1).to(device())
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        with torch.autocast(pixels.device.type, torch.bfloat16):
            losses = loss(vae, pixels, generator)
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        ema.update(vae)
        return {key: float(value.detach()) for key, value in losses.items()}

    state = {"model": vae, "optimizer": optimizer, "ema": ema}
    done = train(step, state, out=out / "vae", steps=steps, seconds=seconds)
    vae.load_state_dict(ema.shadow)
    _standardise(vae, images[:: max(1, len(images) // 512)])
    vae.to("cpu").save_pretrained(out / "vae" / "model")
    return done


def batch(images: npt.NDArray[np.uint8], rng: np.random.Generator, shrink: int) -> Tensor:
    """(4 shrink², 3, 128 / shrink, 128 / shrink) pictures in [-1, 1]; some have a foreign patch or other colours."""
    count = BATCH * shrink**2
    chosen = images[rng.integers(len(images), size=count)]
    for index in np.flatnonzero(rng.random(count) < SCRAMBLED):
        _scramble(chosen[index], images[rng.integers(len(images))], rng)
    for index in np.flatnonzero(rng.random(count) < RECOLOURED):
        chosen[index] = chosen[index][..., rng.permutation(3)]
    return F.avg_pool2d(to_tensor(chosen), shrink)


def to_tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss(vae: AutoencoderKL, pixels: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    """Squared and absolute error, squared error of edges, and a touch of divergence; ``psnr`` (dB) is there to be read only."""
    posterior = vae.encode(pixels).latent_dist
    noise = torch.randn(posterior.mean.shape, generator=generator).to(pixels.device)
    error = vae.decode(posterior.mean + posterior.std * noise).sample.float() - pixels
    square, edges = error.square().mean(), error.diff(dim=-1).square().mean() + error.diff(dim=-2).square().mean()
    divergence = posterior.kl().float().mean()
    total = SQUARE * square + ABSOLUTE * error.abs().mean() + EDGE * edges + KL * divergence
    psnr = -10 * torch.log10((error.detach() / 2).square().mean((1, 2, 3))).mean()
    return {"loss": total, "square": square, "edges": edges, "kl": divergence, "psnr": psnr}


@torch.no_grad()
def encode(vae: AutoencoderKL, images: npt.NDArray[np.uint8], size: int = 8) -> Tensor:
    """(N, 4, 16, 16) float32 means of the latents."""
    vae = vae.to(device(), memory_format=torch.channels_last).eval()
    parts = [to_tensor(images[i : i + size]).to(device()) for i in range(0, len(images), size)]
    with torch.autocast(device().type, torch.bfloat16):
        return torch.cat([vae.encode(part).latent_dist.mean.float().cpu() for part in parts])


@torch.no_grad()
def reconstruction(vae: AutoencoderKL, images: npt.NDArray[np.uint8]) -> float:
    """Mean PSNR in dB of uint8 pictures after encoding and decoding."""
    values: list[Tensor] = []
    for i in range(0, len(images), 16):
        pixels = to_tensor(images[i : i + 16]).to(device())
        output = vae.to(device()).decode(vae.encode(pixels).latent_dist.mean).sample
        rounded = ((output.clamp(-1, 1) - pixels) * 127.5).round()
        values.append(-10 * torch.log10((rounded / 255).square().mean((1, 2, 3))).cpu())
    return float(torch.cat(values).mean())


def write_latents(data: Path, out: Path) -> None:
    """For every chunk of scenes a file ``latents_*.npz`` in ``out``, unless it is there.

    It holds ``latents`` (N, 4, 16, 16) float16 and ``tokens`` (N, 8, 48) int16, and the chunk's ``layout`` and ``attributes``.
    """
    vae = AutoencoderKL.from_pretrained(out / "vae" / "model")
    tokenizer = mini.caption_tokenizer()
    for path in sorted(data.glob("scenes_*.npz")):
        target = out / path.name.replace("scenes", "latents")
        if target.exists():
            continue
        with np.load(path) as chunk:
            rows: dict[str, npt.NDArray[Any]] = {"latents": encode(vae, chunk["images"]).half().numpy()}
            rows["tokens"] = tokenise(tokenizer, chunk["captions"].ravel().tolist()).reshape(len(rows["latents"]), scenes.CAPTIONS, -1)
            rows |= {"layout": chunk["layout"], "attributes": chunk["attributes"]}
        scenes.write(target, rows)
        print(f"{target.name}: {len(rows['latents'])} scenes", flush=True)


def tokenise(tokenizer: Any, texts: list[str]) -> npt.NDArray[np.int16]:
    """(N, 48) ids, padded; a caption that does not fit is an error, not a cut."""
    ids = tokenizer(texts, padding="max_length", truncation=False).input_ids
    assert all(len(row) == mini.TOKENS for row in ids)
    return np.array(ids, np.int16)


def _scramble(image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Put a box of another picture, perhaps mirrored or upside down, into this one; in place."""
    height, width = rng.integers(8, image.shape[0] // 3, 2)
    y, x, v, u = (int(rng.integers(0, image.shape[0] - side + 1)) for side in (height, width, height, width))
    patch = other[v : v + height, u : u + width]
    image[y : y + height, x : x + width] = patch[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]


def _standardise(vae: AutoencoderKL, images: npt.NDArray[np.uint8]) -> None:
    """Make every latent channel zero-mean and unit-variance over these pictures."""
    latents = encode(vae, images)
    vae.to("cpu")
    mini.standardise(vae, latents.mean((0, 2, 3)), latents.std((0, 2, 3)))
