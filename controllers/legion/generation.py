"""Greedy answers with a key-value cache, batched, keeping the one state of each [SEG] that SAM needs.

The original feeds CLIP, the whole prompt and every token again at each step; the cached loop gives the same ids and states
(``python -m benchmarks.legion_speed`` measures both).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache, StaticCache

from refine.controllers.legion.modeling import LegionModel, perceive, positions
from refine.errors import InputError

ROUND = 64  # a static cache has a length divisible by this, so that prompts of about one length share a compiled step


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
    done: bool = False


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
    compiled: bool = False,
) -> list[Answer]:
    """Answer every prompt (B, T), left-padded, about its image (B, P, D).

    An answer ends at ``eos_id``, after ``max_new_tokens``, where the model's context is full, or when it has said the same block of at
    least ``least`` tokens ``times`` times in a row (the copies are taken back; a known failure of the published weights). ``times=None``
    never looks. compiled: steps of one fixed shape through ``torch.compile``; finished answers are then carried along to the end.
    Raises InputError when the context has no room for an answer.
    """
    embeds, mask = model.embed(input_ids, attention_mask, image_tokens)
    limit = min(max_new_tokens, _room(model, embeds.shape[1]))
    memory, mask = _memory(model, mask, limit, compiled)
    rows = [_Row() for _ in input_ids]
    live, where = rows, positions(mask[:, : embeds.shape[1]])
    step: Callable[..., Tensor] = _step  # the prompt's own shape comes once: compiling it would cost more than it saves
    for _ in range(limit):
        state = step(model.llm.model, embeds, mask, where, memory)
        tokens = _take(model, live, state)
        for row in live:
            row.done = row.done or _ended(row, eos_id, least, times, model.config.seg_token_id)
        if all(row.done for row in live):
            break
        if not compiled:
            live, tokens, mask, where = _only_live(live, tokens, mask, where, memory)
            mask = torch.cat((mask, mask.new_ones(len(live), 1)), 1)
        embeds, where = model.llm.get_input_embeddings()(tokens[:, None]), where[:, -1:] + 1
        step = _compiled_step(embeds.device.type) if compiled else _step
    return [_answer(model, row, image_tokens) for row in rows]


def _room(model: LegionModel, length: int) -> int:
    context = int(model.config.llama_config.max_position_embeddings)
    if length >= context:
        raise InputError(f"The prompt takes {length} positions with its image; the model has {context}. Shorten the instruction.")
    return context - length


def _memory(model: LegionModel, mask: Tensor, limit: int, compiled: bool) -> tuple[Any, Tensor]:
    """The cache of keys and values, and the mask (B, L), or as long as a static cache is."""
    if not compiled:
        return DynamicCache(config=model.llm.config), mask
    length = -(-(mask.shape[1] + limit) // ROUND) * ROUND
    static = StaticCache(config=model.llm.config, max_cache_len=length)
    return static, torch.cat((mask, mask.new_ones(len(mask), length - mask.shape[1])), 1)


def _step(llm: nn.Module, embeds: Tensor, mask: Tensor, where: Tensor, memory: Any) -> Tensor:
    """Feed embeddings (B, L, D): the normed state (B, D) that predicts the next token."""
    out = llm(inputs_embeds=embeds, attention_mask=mask, position_ids=where, past_key_values=memory, use_cache=True)
    state: Tensor = out.last_hidden_state[:, -1]
    return state


@cache
def _compiled_step(device: str) -> Callable[..., Tensor]:
    made: Callable[..., Tensor] = torch.compile(_step, dynamic=False, mode="reduce-overhead" if device == "cuda" else None)
    return made


def _only_live(live: Sequence[_Row], tokens: Tensor, mask: Tensor, where: Tensor, memory: Any) -> tuple[list[_Row], Tensor, Tensor, Tensor]:
    """Drop the rows that are done, from the cache too."""
    keep = [k for k, row in enumerate(live) if not row.done]
    if len(keep) == len(live):
        return list(live), tokens, mask, where
    chosen = torch.tensor(keep, device=tokens.device)
    memory.batch_select_indices(chosen)
    return [live[k] for k in keep], tokens[chosen], mask[chosen], where[chosen]


def _take(model: LegionModel, rows: Sequence[_Row], state: Tensor) -> Tensor:
    """Pick the next token of each row; a state that predicts [SEG] is kept."""
    logits = model.llm.lm_head(state).float()
    # The choice is made on the logits themselves: after the softmax two that differ in their last digit can be equal.
    tokens: Tensor = logits.argmax(-1)
    values = torch.log_softmax(logits, -1).gather(1, tokens[:, None])[:, 0]
    for row, token, value, kept in zip(rows, tokens.tolist(), values.tolist(), state, strict=True):
        if row.done:
            continue
        row.ids.append(token)
        row.logprobs.append(value)
        if token == model.config.seg_token_id:
            row.states.append(kept.clone())
    return tokens


def _ended(row: _Row, eos_id: int, least: int, times: int | None, seg_id: int) -> bool:
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
