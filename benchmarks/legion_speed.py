"""How fast LEGION answers: the original's way and ours, side by side on one model of random weights.

    python -m benchmarks.legion_speed                  every token of both (12 minutes on one quiet core)
    python -m benchmarks.legion_speed --positions 16   the original's way at 16 of the positions, its total estimated from their mean

The original keeps nothing between two tokens: CLIP looks at the image again, and the language model reads the whole prompt and all that
was said again. Ours looks once, reads once, and feeds one token a step. The model has the prompt length of the published one (739
positions, 576 of them image patches) at a twentieth of its size: 356 million weights in CLIP and the language model; SAM, which both run
once per image after the answer, is left tiny and out of the times. Other work on the machine comes and goes: ours is timed before,
halfway and after the original's run (the median counts), and processor time, which others cannot take, stands beside the clock's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlamaConfig, SamConfig
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamPromptEncoderConfig, SamVisionConfig

from refine.controllers.legion.configuration import IMAGE_PLACE, LegionConfig
from refine.controllers.legion.generation import respond
from refine.controllers.legion.modeling import LegionModel
from refine.errors import spoken

Made = TypeVar("Made")
PROMPT, PLACE = 164, 36  # ids of the published prompt, and the image's place among them
BAR = 20.0


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds by the clock, and of the processor."""

    clock: float
    processor: float


@dataclass(frozen=True, slots=True)
class Result:
    """Time per answer of both ways; ``compared`` positions of the original's way were run, ``equal`` of them gave the same id."""

    original: Spent
    ours: Spent
    compared: int
    equal: int
    tokens: int


def middle_size() -> LegionConfig:
    """CLIP ViT-B at 336 px with patches of 14, LLaMA 1,024 wide and 16 deep with the published vocabulary."""
    sam = SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=64, output_channels=16, num_pos_feats=8, mlp_dim=32
        ),
        prompt_encoder_config=SamPromptEncoderConfig(hidden_size=16, image_size=64),
        mask_decoder_config=SamMaskDecoderConfig(hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16),
    )
    clip = CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, image_size=336, patch_size=14
    )
    llama = LlamaConfig(
        vocab_size=32007, hidden_size=1024, intermediate_size=2752, num_hidden_layers=16, num_attention_heads=16, initializer_range=0.05
    )
    return LegionConfig(clip_config=clip, llama_config=llama, sam_config=sam)


def original_steps(model: LegionModel, prompt: Tensor, pixels: Tensor, answer: Sequence[int], places: Sequence[int]) -> Iterator[int]:
    """The original's way to each token ``answer[k]``, k in ``places``: CLIP, the prompt and ``answer[:k]`` anew, nothing kept."""
    for place in places:
        said = torch.tensor([answer[:place]], dtype=torch.long)
        with torch.inference_mode():
            yield int(model(torch.cat((prompt, said), 1), clip_pixels=pixels).logits[0, -1].argmax())


def our_answer(model: LegionModel, prompt: Tensor, pixels: Tensor, count: int) -> tuple[int, ...]:
    """One CLIP pass, one pass over the prompt, then one token a step; never stopped early."""
    with torch.inference_mode():
        tokens, _ = model.image_features(pixels)
    return respond(model, prompt, torch.ones_like(prompt), tokens, eos_id=-1, max_new_tokens=count, times=None)[0].ids


def measure(model: LegionModel, prompt: Tensor, pixels: Tensor, count: int, positions: int) -> Result:
    """Time both ways to ``count`` tokens; the original's at ``positions`` of them, evenly spaced, the first and the last among them."""
    places = sorted({round(k * (count - 1) / max(1, positions - 1)) for k in range(positions)})
    our_answer(model, prompt, pixels, 2)  # what is set up on the first call is not timed
    answer, first = timed(lambda: our_answer(model, prompt, pixels, count))
    ours, theirs, equal = [first], [], 0
    steps = original_steps(model, prompt, pixels, answer, places)
    for number, place in enumerate(places, 1):
        token, spent = timed(lambda: next(steps))
        theirs.append(spent)
        equal += token == answer[place]
        print(f"\roriginal: {number} of {len(places)} tokens, {sum(s.clock for s in theirs):.0f} s", end="", file=sys.stderr, flush=True)
        if number in (len(places) // 2, len(places)):
            ours.append(timed(lambda: our_answer(model, prompt, pixels, count))[1])
    print(file=sys.stderr)
    share = count / len(places)
    original = Spent(share * sum(s.clock for s in theirs), share * sum(s.processor for s in theirs))
    return Result(original, Spent(median(s.clock for s in ours), median(s.processor for s in ours)), len(places), equal, count)


def timed(work: Callable[[], Made]) -> tuple[Made, Spent]:
    clock, processor = time.perf_counter(), time.process_time()
    made = work()
    return made, Spent(time.perf_counter() - clock, time.process_time() - processor)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=128, help="new tokens (default 128)")
    options.add_argument("--positions", type=int, help="how many of them the original's way is run at (default all)")
    options.add_argument("--seed", type=int, default=0, help="of weights, prompt and image")
    args = options.parse_args()
    torch.manual_seed(args.seed)
    model = LegionModel(middle_size()).eval()
    size = sum(p.numel() for part in (model.clip, model.mm_projector, model.llm) for p in part.parameters())
    prompt = torch.randint(3, 32000, (1, PROMPT))
    prompt[0, PLACE] = IMAGE_PLACE
    found = measure(model, prompt, torch.randn(1, 3, 336, 336), args.tokens, args.positions or args.tokens)
    estimated = "" if found.compared == found.tokens else f" (estimated from {found.compared} of its {found.tokens} tokens)"
    print(f"model: {size / 1e6:.0f} M weights, float32, {torch.get_num_threads()} threads; {found.tokens} new tokens")
    for name, spent in (("original's way", found.original), ("ours", found.ours)):
        per_second = found.tokens / spent.clock
        print(f"{name:15} {spent.clock:8.1f} s, {per_second:7.3f} tokens/s; processor {spent.processor:8.1f} s", end="")
        print(estimated if spent is found.original else "")
    clock, processor = found.original.clock / found.ours.clock, found.original.processor / found.ours.processor
    verdict = "met" if clock >= BAR else "missed"
    print(f"ratio           {clock:8.1f} by the clock, {processor:.1f} of the processor (bar {BAR:g}: {verdict})")
    print(f"same ids        {found.equal} of {found.compared} compared")


if __name__ == "__main__":
    spoken(main)
