"""The embedded generator: a Stable Diffusion of about 13 million weights for 128 px still lifes, made of stock diffusers parts.

An autoencoder with 4 latent channels at an eighth of the size, a UNet on 16 × 16 latents, and a CLIP text encoder whose tokenizer has every
word of the captions as one token. Weights are trained by ``refine.generators.training``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from refine.stilllife.captions import VOCABULARY

SIDE = 128  # pixels
LATENT = 16  # cells
TOKENS = 48  # longest prompt, start and end included
WIDTH = 128  # of the text states
END_OF_WORD = "</w>"


def build_tokenizer(words: Iterable[str], length: int = TOKENS) -> CLIPTokenizer:
    """A CLIP tokenizer in which each of these words is one token; any other text falls back to bytes.

    Built, not trained: tie-breaking in a trained BPE differs between runs. Words are merged letter by letter; a merge is appended only
    where the earlier ones leave a word in pieces, so it can never undo an earlier word.
    """
    letters = sorted(ByteLevel.alphabet())
    vocabulary = dict.fromkeys([*letters, *(letter + END_OF_WORD for letter in letters)])
    merges: dict[tuple[str, str], int] = {}
    for word in sorted(set(words)):
        pieces = _apply([*word[:-1], word[-1] + END_OF_WORD], merges)
        while len(pieces) > 1:
            merges[pieces[0], pieces[1]] = len(merges)
            vocabulary[pieces[0] + pieces[1]] = None
            pieces = _apply(pieces, merges)
    tokens = [*vocabulary, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=list(merges), model_max_length=length)


def caption_tokenizer() -> CLIPTokenizer:
    """The tokenizer for the words of still-life captions."""
    return build_tokenizer(VOCABULARY)


def _apply(pieces: list[str], merges: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding of one word: merge the pair of lowest rank until none is left."""
    while True:
        ranked = [(merges[pair], i) for i, pair in enumerate(pairwise(pieces)) if pair in merges]
        if not ranked:
            return pieces
        i = min(ranked)[1]
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]


def build_vae(channels: tuple[int, ...] = (16, 32, 64, 64)) -> AutoencoderKL:
    """An autoencoder 8 × smaller per side. Without attention, so that it acts alike on pictures of any size."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=channels,
        layers_per_block=1, latent_channels=4, norm_num_groups=8, sample_size=SIDE, scaling_factor=1.0, mid_block_add_attention=False,
    )  # fmt: skip


def build_unet() -> UNet2DConditionModel:
    """The denoiser (10.9 M weights); text enters at 8 × 8 and 4 × 4 cells."""
    return UNet2DConditionModel(
        sample_size=LATENT, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(64, 128, 192),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=WIDTH, attention_head_dim=8,
    )  # fmt: skip


def build_text_encoder(tokenizer: CLIPTokenizer, layers: int = 3) -> CLIPTextModel:
    """A CLIP text encoder for this tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, projection_dim=WIDTH, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    """DDIM on v-prediction with zero terminal SNR (Lin et al. 2024): sampling starts where training ends, so brightness is free."""
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1,
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip


def assemble(
    vae: AutoencoderKL, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The stock pipeline of these parts, without a safety checker: the world has nothing to check."""
    parts: dict[str, Any] = {"vae": vae, "unet": unet, "text_encoder": text_encoder, "tokenizer": tokenizer, "scheduler": build_scheduler()}
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


@torch.no_grad()
def standardise(vae: AutoencoderKL, mean: torch.Tensor, deviation: torch.Tensor) -> None:
    """Fold ``(latent - mean) / deviation``, per channel, into the 1 × 1 convolutions on both sides of the latent; in place.

    mean, deviation: (4,) of the latents of training pictures. Afterwards they are 0 and 1, so the scaling factor is 1.
    """
    inner, outer = vae.quant_conv, vae.post_quant_conv
    outer.bias += outer.weight[:, :, 0, 0] @ mean
    outer.weight *= deviation[None, :, None, None]
    inner.weight[:4] /= deviation[:, None, None, None]
    inner.bias[:4] = (inner.bias[:4] - mean) / deviation
    inner.bias[4:] -= 2 * deviation.log()  # log variance


def export(pipe: StableDiffusionPipeline, folder: Path, shard: str = "14MB") -> None:
    """Write the pipeline as a stock folder: UNet and VAE in half precision, text encoder in single.

    Plain ``from_pretrained`` loads diffusers models as float32 but keeps a transformers model's file type, so this mix loads as float32
    everywhere.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pipe.save_config(folder)
    pipe.unet.to(torch.float16).save_pretrained(folder / "unet", max_shard_size=shard)
    pipe.vae.to(torch.float16).save_pretrained(folder / "vae")
    pipe.text_encoder.to(torch.float32).save_pretrained(folder / "text_encoder")
    pipe.tokenizer.save_pretrained(folder / "tokenizer")
    pipe.scheduler.save_pretrained(folder / "scheduler")
    for path in folder.rglob("*config.json"):
        _drop_origin(path)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files that only their owner can read


def _drop_origin(path: Path) -> None:
    """Take the place the weights were loaded from out of a config file."""
    config = json.loads(path.read_text())
    if config.pop("_name_or_path", None) is not None:
        path.write_text(json.dumps(config, indent=2) + "\n")
