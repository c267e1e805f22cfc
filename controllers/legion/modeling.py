"""LEGION as one ``PreTrainedModel``: CLIP reads the image, LLaMA writes the answer, SAM draws a mask for each [SEG].

Shapes: B images, T text ids, P image patches, L = T - 1 + P spliced positions, D width of the LLM, C width of the mask decoder,
N masks of one image, S side of the SAM canvas, h = S / 16 (or whatever patch SAM has).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlamaForCausalLM, PreTrainedModel, SamModel

from refine.controllers.legion.configuration import IGNORE, IMAGE_PLACE, LegionConfig

REAL, FAKE = 1, 0  # classes of the detector


@dataclass(frozen=True, slots=True)
class LegionOutput:
    """One teacher-forced pass.

    logits (B, L, V) · loss: mean cross entropy over the supervised tokens (None without labels) · seg_states: per image (N, C), the
    projected state that predicts each [SEG] · mask_logits: per image (N, 4h, 4h), None without SAM embeddings · cls (B, D_clip).
    """

    logits: Tensor
    loss: Tensor | None
    seg_states: tuple[Tensor, ...]
    mask_logits: tuple[Tensor, ...] | None
    cls: Tensor | None


def splice(text: Tensor, image: Tensor, place: Tensor) -> Tensor:
    """Put ``image`` (B, P, ...) where column ``place`` (B,) of ``text`` (B, T, ...) stands: (B, T - 1 + P, ...)."""
    rows = [torch.cat((row[:k], picture, row[k + 1 :])) for row, picture, k in zip(text, image, place.tolist(), strict=True)]
    return torch.stack(rows)


def image_place(input_ids: Tensor) -> Tensor:
    """(B,) column of the one image sentinel of every row. Raises ValueError when a row has none or several."""
    here = input_ids == IMAGE_PLACE
    if not bool((here.sum(1) == 1).all()):
        raise ValueError(f"Every prompt needs the image sentinel {IMAGE_PLACE} exactly once; counts are {here.sum(1).tolist()}.")
    return here.long().argmax(1)


def _perceptron(width_in: int, hidden: int, width_out: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width_in, hidden), activation, nn.Linear(hidden, width_out))


class LegionModel(PreTrainedModel):  # type: ignore[misc]
    """CLIP + projector + LLaMA + [SEG] projection + SAM (+ detector). Sizes: ``LegionConfig``."""

    config_class = LegionConfig
    config: LegionConfig
    base_model_prefix = "legion"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "CLIPEncoderLayer", "SamVisionLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_cache_class = True

    def __init__(self, config: LegionConfig) -> None:
        super().__init__(config)
        clip, llama, sam = config.clip_config, config.llama_config, config.sam_config
        # Segment Anything draws the Fourier frequencies with deviation 1; the library's half the width makes neighbours unrelated.
        sam.vision_config.scale = 1
        self.clip = CLIPVisionModel(clip)
        self.mm_projector = _perceptron(clip.hidden_size, llama.hidden_size, llama.hidden_size, nn.GELU())
        self.llm = LlamaForCausalLM(llama)
        self.text_hidden_fcs = _perceptron(
            llama.hidden_size, llama.hidden_size, sam.prompt_encoder_config.hidden_size, nn.ReLU()
        )
        self.sam = SamModel(sam)
        self.detector = _perceptron(clip.hidden_size, config.detector_hidden, 2, nn.ReLU()) if config.detector_hidden else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        embeddings: nn.Module = self.llm.get_input_embeddings()
        return embeddings

    # What is seen

    def image_features(self, clip_pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, side, side) normalised pixels -> projected patch tokens (B, P, D) and the class token (B, D_clip)."""
        hidden = self.clip.pre_layrnorm(self.clip.embeddings(clip_pixels.to(self.clip.dtype)))
        layers = self.clip.encoder.layers
        # Of the n + 1 hidden states, the k-th is what the first k layers make: the layers behind it are not run.
        for layer in layers[: self.config.vision_layer % (len(layers) + 1)]:
            hidden = layer(hidden, None)
        return perceive(self.mm_projector, hidden[:, 1:]), hidden[:, 0]

    def sam_features(self, sam_pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalised, padded pixels -> image embeddings (B, C, h, h)."""
        embedding: Tensor = self.sam.vision_encoder(sam_pixels.to(self.sam.dtype)).last_hidden_state
        return embedding

    def detect(self, cls: Tensor) -> Tensor:
        """Class token (B, D_clip) -> logits (B, 2), index ``REAL`` = 1, ``FAKE`` = 0. Needs a detector."""
        if self.detector is None:
            raise ValueError("This model has no detector (detector_hidden is 0). Load a checkpoint that has a prediction head.")
        return perceive(self.detector, cls)

    # What is said

    def embed(self, input_ids: Tensor, attention_mask: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Splice the image in: embeddings (B, L, D) and mask (B, L)."""
        place = image_place(input_ids)
        text = self.llm.get_input_embeddings()(input_ids.clamp_min(0))
        seen = attention_mask.new_ones(image_tokens.shape[:2])
        return splice(text, image_tokens.to(text.dtype), place), splice(attention_mask, seen, place)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        clip_pixels: Tensor | None = None,
        labels: Tensor | None = None,
        sam_embeddings: Tensor | None = None,
        image_tokens: Tensor | None = None,
        **_: Any,
    ) -> LegionOutput:
        """Teacher-forced pass over ids (B, T) that hold the sentinel -200 once; either padding side.

        ``image_tokens`` (B, P, D) may stand in for ``clip_pixels`` when the CLIP features are already there; ``labels`` (B, T) holds -100
        where nothing is supervised; with ``sam_embeddings`` (B, C, h, h) the masks are decoded too.
        """
        attention_mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        cls = None
        if image_tokens is None:
            if clip_pixels is None:
                raise ValueError("Give clip_pixels (B, 3, side, side) or image_tokens (B, P, D).")
            image_tokens, cls = self.image_features(clip_pixels)
        embeds, mask = self.embed(input_ids, attention_mask, image_tokens)
        states = self.llm.model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions(mask), use_cache=False
        ).last_hidden_state
        logits = self.llm.lm_head(states)
        seg_states = self._seg_states(input_ids, attention_mask, states)
        masks = None if sam_embeddings is None else self._masks(seg_states, sam_embeddings)
        return LegionOutput(logits, self._loss(logits, input_ids, labels, image_tokens.shape[1]), seg_states, masks, cls)

    def _loss(self, logits: Tensor, input_ids: Tensor, labels: Tensor | None, patches: int) -> Tensor | None:
        if labels is None:
            return None
        nothing = labels.new_full((labels.shape[0], patches), IGNORE)
        target = splice(labels, nothing, image_place(input_ids))[:, 1:]
        return F.cross_entropy(logits[:, :-1].float().flatten(0, 1), target.flatten(), ignore_index=IGNORE)

    def _seg_states(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor) -> tuple[Tensor, ...]:
        """The projected state one position before every [SEG], per image (facts of the original: the predicting state)."""
        shift = states.shape[1] - input_ids.shape[1]
        is_seg = (input_ids == self.config.seg_token_id) & attention_mask.bool()
        place = image_place(input_ids)
        columns = [row.nonzero().flatten() for row in is_seg]
        moved = [c - 1 + shift * (c > k) for c, k in zip(columns, place, strict=True)]
        return tuple(perceive(self.text_hidden_fcs, state[c]) for state, c in zip(states, moved, strict=True))

    # What is masked

    def mask_logits(self, seg_states: Tensor, sam_embedding: Tensor) -> Tensor:
        """Projected states (N, C) -> mask logits (N, 4h, 4h) at SAM's low resolution.

        ``sam_embedding``: (C, h, h) or (1, C, h, h) of one image, or (N, C, h, h) with one embedding for each state. Each state is a
        prompt of one token without position; mask token 0 is read.
        """
        embedding = sam_embedding if sam_embedding.dim() == 4 else sam_embedding[None]
        side = embedding.shape[-1]
        if len(seg_states) == 0:
            return seg_states.new_zeros((0, 4 * side, 4 * side))
        shared = embedding.shape[0] == 1
        sparse = seg_states.to(self.sam.dtype)[None, :, None] if shared else seg_states.to(self.sam.dtype)[:, None, None]
        masks, _ = self.sam.mask_decoder(
            image_embeddings=embedding.to(self.sam.dtype),
            image_positional_embeddings=self.sam.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(1, -1, side, side),
            multimask_output=False,
        )
        return torch.as_tensor(masks).reshape(-1, 4 * side, 4 * side)

    def _masks(self, seg_states: Sequence[Tensor], sam_embeddings: Tensor) -> tuple[Tensor, ...]:
        """All masks of a batch in one call of the decoder: per image (N, 4h, 4h)."""
        counts = [len(states) for states in seg_states]
        owner = torch.repeat_interleave(torch.tensor(counts, device=sam_embeddings.device))
        return torch.split(self.mask_logits(torch.cat(tuple(seg_states)), sam_embeddings[owner]), counts)

    def decode_masks(
        self, seg_states: Tensor, sam_embedding: Tensor, resized: tuple[int, int], original: tuple[int, int]
    ) -> Tensor:
        """Projected states (N, C) -> float32 logits (N, H, W) in the frame of the image; above 0 is inside.

        ``resized``: (height, width) of the image on SAM's canvas, before padding; ``original``: (H, W).
        """
        canvas = self.config.sam_config.vision_config.image_size
        return to_frame(self.mask_logits(seg_states, sam_embedding), canvas, resized, original)


def perceive(perceptron: nn.Sequential, states: Tensor) -> Tensor:
    """Run one of the small heads in its own precision."""
    return torch.as_tensor(perceptron(states.to(next(perceptron.parameters()).dtype)))


def to_frame(low: Tensor, canvas: int, resized: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Low-resolution logits (N, s, s) of a padded canvas -> float32 logits (N, H, W) of the image (bilinear, twice)."""
    if len(low) == 0:
        return low.new_zeros((0, *original), dtype=torch.float32)
    full = F.interpolate(low[:, None].float(), (canvas, canvas), mode="bilinear", align_corners=False)
    return F.interpolate(full[..., : resized[0], : resized[1]], original, mode="bilinear", align_corners=False)[:, 0]


def positions(mask: Tensor) -> Tensor:
    """Position ids (B, L) that count only what the mask keeps, so that padding on either side changes nothing."""
    return (mask.long().cumsum(1) - 1).clamp_min(0)
