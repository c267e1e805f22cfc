"""The speed benchmark of LEGION: both ways give the same ids, and what it counts is what it ran."""

from __future__ import annotations

import torch
from legion_parts import picture, tiny

from benchmarks import legion_speed


def test_both_ways_are_measured_on_the_same_answer() -> None:
    model, processor = tiny()
    prompt, pixels = torch.tensor([processor.prompt_ids()]), processor.clip_pixels([picture(0)])
    found = legion_speed.measure(model, prompt, pixels, count=9, positions=5)
    assert (found.tokens, found.compared, found.equal) == (9, 5, 5)
    assert found.original.clock > 0 and found.ours.clock > 0


def test_the_original_looks_at_the_image_for_every_token_and_ours_once() -> None:
    model, processor = tiny()
    prompt, pixels = torch.tensor([processor.prompt_ids()]), processor.clip_pixels([picture(0)])
    seen: list[int] = []
    hook = model.clip.embeddings.register_forward_hook(lambda *_: seen.append(1))
    try:
        answer = legion_speed.our_answer(model, prompt, pixels, 6)
        assert len(seen) == 1 and len(answer) == 6
        assert list(legion_speed.original_steps(model, prompt, pixels, answer, range(6))) == list(answer)
        assert len(seen) == 7
    finally:
        hook.remove()


def test_an_id_that_differs_is_counted() -> None:
    model, processor = tiny()
    prompt, pixels = torch.tensor([processor.prompt_ids()]), processor.clip_pixels([picture(0)])
    answer = legion_speed.our_answer(model, prompt, pixels, 4)
    wrong = [(answer[0] + 1) % 30, *answer[1:]]
    assert next(legion_speed.original_steps(model, prompt, pixels, wrong, [0])) != wrong[0]
