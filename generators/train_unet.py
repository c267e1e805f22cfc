"""Training of the mini generator's denoiser and, together with it, of its text encoder.

v-prediction on zero-terminal-SNR noise. Beside the usual loss a small head reads from the decoder, per latent cell, which solid stands
there (shape, colour, size, material). It binds words to places far sooner than the noise alone would; it is not exported. A part of the
pictures hide a foreign patch beneath the noise (``grafts``), so that the model learns to repair too.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from refine.generators import grafts, mini, scenes
from refine.training import Ema, cosine, device, seed_everything, train

BATCH = 32
PEAK = 5e-4  # learning rate
DROPPED = 0.1  # share of captions replaced by the empty one, for classifier-free guidance
CANONICAL = 0.4  # share of captions in canonical form
LAYOUT = 0.1  # weight of the layout head's cross-entropy
GRAFTED = 0.3  # share of the pictures of middling noise that hide a foreign patch
MIDDLING = (100, 750)  # times of these: below, a repaint begins no more; above, a patch cannot be told from noise
PROBE = 1  # decoder block that the layout head reads; its output is 16 × 16


class Denoiser(nn.Module):
    """UNet, text encoder and layout head as one module, so that they share optimizer, average and state."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.unet = mini.build_unet()
        self.text = mini.build_text_encoder(tokenizer)
        # On a CPU the backward pass of fused attention is several times slower than plain matrices at these sizes.
        self.unet.set_attn_processor(AttnProcessor())
        self.text.set_attn_implementation("eager")
        self.layout = nn.Conv2d(128, sum(len(group) + 1 for group in scenes.GROUPS), 1)

    def continue_from(self, folder: Path) -> None:
        """Take over the denoiser and the text encoder of a pipeline folder; the layout head starts anew."""
        self.unet.load_state_dict(UNet2DConditionModel.from_pretrained(folder / "unet").state_dict())
        self.text.load_state_dict(CLIPTextModel.from_pretrained(folder / "text_encoder").state_dict())

    def forward(self, noisy: Tensor, times: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy latents (N, 4, 16, 16), times (N,), ids (N, 48) to the velocity (N, 4, 16, 16) and layout logits (N, C, 16, 16)."""
        seen: list[Tensor] = []
        hook = self.unet.up_blocks[PROBE].register_forward_hook(lambda _module, _inputs, output: seen.append(output))
        velocity = self.unet(noisy, times, self.text(tokens).last_hidden_state).sample
        hook.remove()
        return velocity, self.layout(seen[0])


def fit(out: Path, steps: int, seconds: float | None, seed: int = 0, begin: Path | None = None, peak: float = PEAK) -> int:
    """Train to ``out``/unet; return the number of steps done. Ends with a weights file of the averaged model.

    begin: a pipeline folder whose denoiser and text encoder are trained on; without it they start from nothing. peak: learning rate.
    """
    seed_everything(seed)
    data = load_latents(out)
    tokenizer = mini.caption_tokenizer()
    empty = torch.tensor(tokenizer("", padding="max_length").input_ids)
    model = Denoiser(tokenizer)
    if begin is not None:
        model.continue_from(begin)
    model.to(device())
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    ema, noise = Ema(model, 0.999), mini.build_scheduler()

    def step(index: int) -> Mapping[str, float]:
        for group in optimizer.param_groups:
            group["lr"] = cosine(index, steps, peak)
        batch = draw_batch(data, empty, np.random.default_rng((seed, index)))
        with torch.autocast(device().type, torch.bfloat16):
            losses = loss(model, noise, batch, torch.Generator().manual_seed(seed * 1_000_003 + index))
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model)
        return {key: float(value.detach()) for key, value in losses.items()}

    state = {"model": model, "optimizer": optimizer, "ema": ema}
    return train(step, state, out=out / "unet", steps=steps, seconds=seconds)


def load_latents(out: Path) -> dict[str, Tensor]:
    """All cached latents: latents (N, 4, 16, 16) float16, tokens (N, 8, 48), layout (N, 16, 16) and attributes (N, 3, 4) integers."""
    paths = sorted(out.glob("latents_*.npz"))
    if not paths:
        raise FileNotFoundError(f"No latents in {str(out)!r}. Make them first: python -m refine.generators.training latents")
    chunks = [dict(np.load(path)) for path in paths]
    return {key: torch.from_numpy(np.concatenate([chunk[key] for chunk in chunks])) for key in chunks[0]}


def draw_batch(data: Mapping[str, Tensor], empty: Tensor, rng: np.random.Generator) -> dict[str, Tensor]:
    """A random batch with one caption per scene and times stratified over the schedule, on the device. ``seen`` are the latents with
    foreign patches, ``grafted`` (N,) says in which rows."""
    rows = torch.from_numpy(rng.integers(len(data["latents"]), size=BATCH))
    which = np.where(rng.random(BATCH) < CANONICAL, 0, rng.integers(1, scenes.CAPTIONS, BATCH))
    tokens = data["tokens"][rows, torch.from_numpy(which)].long()
    dropped = torch.from_numpy(rng.random(BATCH) < DROPPED)
    tokens[dropped] = empty
    times = (np.arange(BATCH) + rng.random(BATCH)) / BATCH * 1000
    latents = data["latents"][rows].float()
    grafted = torch.from_numpy((rng.random(BATCH) < GRAFTED) & (times >= MIDDLING[0]) & (times < MIDDLING[1]))
    batch = {
        "latents": latents,
        "seen": torch.where(grafted[:, None, None, None], grafts.graft(latents, rng), latents),
        "grafted": grafted,
        "tokens": tokens,
        "times": torch.from_numpy(times).long(),
        "labels": labels(data["layout"][rows].long(), data["attributes"][rows].long()),
    }
    return {key: value.to(device()) for key, value in batch.items()}


def labels(layout: Tensor, attributes: Tensor) -> Tensor:
    """Per cell the index of each attribute, 0 where no solid stands: (N, 16, 16) and (N, 3, 4) to (N, 4, 16, 16)."""
    none = attributes.new_full((len(attributes), 1, attributes.shape[2]), -1)
    table = torch.cat([none, attributes], 1) + 1
    rows = torch.arange(len(layout))[:, None, None]
    return table[rows, layout + 1].permute(0, 3, 1, 2)


def loss(model: Denoiser, noise: Any, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Mean squared error of the velocity (Salimans and Ho 2022, appendix D) and the layout's cross-entropy.

    Where a patch is hidden, the velocity is the one that leads from the noised picture to the whole one, and its error counts as that of
    the picture (times σ²), or the patches would outweigh everything at little noise.
    """
    latents, times = batch["latents"], batch["times"]
    epsilon = torch.randn(latents.shape, generator=generator).to(latents.device)
    noisy = noise.add_noise(batch["seen"], epsilon, times)
    power = noise.alphas_cumprod.to(latents.device)[times][:, None, None, None]
    alpha, sigma = power.sqrt(), (1 - power).sqrt()
    hidden = batch["grafted"][:, None, None, None]
    target = torch.where(hidden, (alpha * noisy - latents) / sigma, noise.get_velocity(latents, epsilon, times))
    velocity, logits = model(noisy, times, batch["tokens"])
    weight = torch.where(hidden, sigma.square(), 1.0)
    denoise = (weight * (velocity.float() - target).square()).mean()
    parts = logits.float().split([len(group) + 1 for group in scenes.GROUPS], dim=1)
    layout = torch.stack([F.cross_entropy(part, batch["labels"][:, i]) for i, part in enumerate(parts)]).sum()
    return {"loss": denoise + LAYOUT * layout, "denoise": denoise, "layout": layout}


def pipeline(out: Path) -> StableDiffusionPipeline:
    """The stock pipeline with the averaged weights of the last saved state."""
    tokenizer = mini.caption_tokenizer()
    model = Denoiser(tokenizer)
    saved = torch.load(out / "unet" / "last.pt", map_location="cpu", weights_only=False)
    model.load_state_dict(saved["ema"]["shadow"])
    vae = AutoencoderKL.from_pretrained(out / "vae" / "model")
    return mini.assemble(vae, model.unet, model.text, tokenizer)
