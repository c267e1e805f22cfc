"""text2image → refine → upscale: one modular workflow of diffusers, and each image's record beside it.

    python examples/modular_workflow.py stabilityai/stable-diffusion-xl-base-1.0 "a hand holding a cup" --controller legion --source PATH

The same three blocks follow any modular text-to-image workflow (SDXL, SD3, FLUX): ``compose`` is all there is to it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from diffusers import ModularPipeline
from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam
from PIL.Image import Resampling

from refine import RefineStep


class Upscale(ModularPipelineBlocks):  # type: ignore[misc]
    """Twice the size by Lanczos; put an upscaler of your own here."""

    @property
    def inputs(self) -> list[InputParam]:
        return [InputParam("images", required=True)]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("images")]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block = self.get_block_state(state)
        block.images = [image.resize((2 * image.width, 2 * image.height), Resampling.LANCZOS) for image in block.images]
        self.set_block_state(state, block)
        return components, state


def compose(text2image: Any, step: RefineStep) -> Any:
    """The workflow's blocks, then the refining step (upscaling first would blow the faults up), then the upscaler."""
    blocks = text2image.blocks
    blocks.sub_blocks.insert("refine", step, len(blocks.sub_blocks))
    blocks.sub_blocks.insert("upscale", Upscale(), len(blocks.sub_blocks))
    return blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder or hub name of a text-to-image model")
    parser.add_argument("prompt", nargs="+")
    parser.add_argument("--controller", default="legion", help="plugin that finds the faults (default: legion)")
    parser.add_argument("--source", help="the controller's weights")
    parser.add_argument("--out", type=Path, default=Path("workflow"))
    args = parser.parse_args()
    node = {"use": args.controller} | ({"source": args.source} if args.source else {})
    plain = ModularPipeline.from_pretrained(args.model, workflow="text2image")
    pipe = compose(plain, RefineStep(controller=node)).init_pipeline(args.model)
    pipe.load_components()
    made = pipe(prompt=args.prompt, output=["images", "records"])
    args.out.mkdir(parents=True, exist_ok=True)
    for index, (image, record) in enumerate(zip(made["images"], made["records"], strict=True)):
        image.save(args.out / f"{index}.png")
        kept = sum(attempt.kept is not None for turn in record.rounds for attempt in turn.attempts)
        print(f"{args.out / f'{index}.png'}: {record.stop_reason}, {kept} repairs kept, seed {record.seed}")


if __name__ == "__main__":
    main()
