"""Greedy answers with a key-value cache, batched, keeping the one state of each [SEG] that SAM needs.

The original feeds CLIP, the whole prompt and every token again at each step; the cached loop gives the same ids and states.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from refine.controllers.legion.modeling import LegionModel, perceive, positions


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One image's answer: new token ids (end of text included), their log probabilities, and a projected state (N, C) per [SEG]."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    seg_states: Tensor


@dataclass(slots=True)
class _Row:
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)


def left_pad(prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Prompts of any lengths -> ids (B, T) and mask (B, T), text flush right."""
    width = max(len(p) for p in prompts)
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    return ids, mask


def loop_start(ids: Sequence[int], least: int, times: int) -> int | None:
    """Where the second copy starts when ``ids`` ends in ``times`` equal blocks of at least ``least`` tokens, else None."""
    for period in range(least, len(ids) // times + 1):
        block = ids[-period:]
        if all(ids[len(ids) - (k + 1) * period : len(ids) - k * period] == block for k in range(1, times)):
            return len(ids) - (times - 1) * period
    return None


@torch.inference_mode()
def respond(
    model: LegionModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_tokens: Tensor,
    *,
    eos_id: int,
    max_new_tokens: int = 512,
    least: int = 8,
    times: int | None = 3,
) -> list[Answer]:
    """Answer every prompt (B, T), left-padded, about its image (B, P, D).

    An answer ends at ``eos_id``, after ``max_new_tokens``, or when it has said the same block of at least ``least`` tokens ``times``
    times in a row (the copies are taken back; a known failure of the published weights). ``times=None`` never looks.
    """
    embeds, mask = model.embed(input_ids, attention_mask, image_tokens)
    cache, rows = DynamicCache(config=model.llm.config), [_Row() for _ in input_ids]
    live, where = list(range(len(rows))), positions(mask)
    for _ in range(max_new_tokens):
        state = model.llm.model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True
        ).last_hidden_state[:, -1]
        tokens = _take(model, [rows[i] for i in live], state)
        keep = [k for k, i in enumerate(live) if not _done(rows[i], eos_id, least, times, model.config.seg_token_id)]
        if not keep:
            break
        if len(keep) < len(live):
            chosen = torch.tensor(keep, device=tokens.device)
            cache.batch_select_indices(chosen)
            tokens, mask, where, live = tokens[chosen], mask[chosen], where[chosen], [live[k] for k in keep]
        embeds = model.llm.get_input_embeddings()(tokens[:, None])
        mask, where = torch.cat((mask, mask.new_ones(len(live), 1)), 1), where[:, -1:] + 1
    return [_answer(model, row, image_tokens) for row in rows]


def _take(model: LegionModel, rows: Sequence[_Row], state: Tensor) -> Tensor:
    """Pick the next token of each row; a state that predicts [SEG] is kept."""
    logprobs = torch.log_softmax(model.llm.lm_head(state).float(), -1)
    values, tokens = logprobs.max(-1)
    for row, token, value, kept in zip(rows, tokens.tolist(), values.tolist(), state, strict=True):
        row.ids.append(token)
        row.logprobs.append(value)
        if token == model.config.seg_token_id:
            row.states.append(kept.clone())
    return tokens


def _done(row: _Row, eos_id: int, least: int, times: int | None, seg_id: int) -> bool:
    if row.ids[-1] == eos_id:
        return True
    start = loop_start(row.ids, least, times) if times else None
    if start is None:
        return False
    del row.ids[start:], row.logprobs[start:]
    del row.states[row.ids.count(seg_id) :]
    return True


def _answer(model: LegionModel, row: _Row, like: Tensor) -> Answer:
    width = model.config.llama_config.hidden_size
    states = torch.stack(row.states) if row.states else like.new_zeros((0, width))
    return Answer(tuple(row.ids), tuple(row.logprobs), perceive(model.text_hidden_fcs, states))
