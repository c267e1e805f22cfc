"""``RefineStep``: a block that refines the images of any modular text-to-image workflow that it follows.

blocks = StableDiffusionXLAutoBlocks().get_workflow("text2image")
blocks.sub_blocks.insert("refine", RefineStep(controller="legion", rewards=["hps"]), len(blocks.sub_blocks))
pipe = blocks.init_pipeline("a/folder")
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
from diffusers.modular_pipelines import ConfigSpec, InputParam, ModularPipelineBlocks, OutputParam

from refine.errors import ConfigError, InputError
from refine.pipeline.output import check_type
from refine.pipeline.pictures import pictures
from refine.pipeline.refiner import Refiner
from refine.pipeline.roles import Spec, objects_in, tree_of
from refine.pipeline.words import prompt_list

CONFIG, INDEX = "modular_config.json", "modular_model_index.json"
DROPPED = (
    "This workflow has a RefineStep. save_pretrained of a modular pipeline writes components, never blocks: what is loaded from the folder "
    "draws and does not refine. Use refine.pipeline.save_workflow(pipe, folder), or compose the blocks again after loading."
)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The configuration of a step within that of its pipeline. When it is written, the block itself is about to be lost: that is said."""

    tree: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Called by diffusers where a configuration becomes JSON."""
        warnings.warn(DROPPED, stacklevel=2)
        return dict(self.tree)


class Workshop:
    """What a step works with, made when it is first needed. One for all copies of a step: diffusers copies blocks, weights must not be."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._made: tuple[tuple[int, ...], Refiner] | None = None

    def __deepcopy__(self, memo: object) -> Workshop:
        return self

    def refiner(self, components: Any) -> Refiner:
        """The engine around the models of a modular pipeline; controller and rewards are made once."""
        parts = tuple(map(id, components.components.values()))
        if self._made is None or self._made[0] != parts:
            before = self._made[1].engine.models if self._made else None
            spec = self.spec
            refiner = Refiner(
                classic(components),
                controller=before.controller if before else spec.controller,
                rewards=before.rewards if before else spec.rewards,
                reviser=before.reviser if before else spec.reviser,
                policy=spec.policy,
                gate=spec.gate,
                budget=spec.budget,
                batch=spec.batch,
                device=str(components._execution_device),
            )
            self._made = parts, refiner
        return self._made[1]


class RefineStep(ModularPipelineBlocks):  # type: ignore[misc]
    """Images in, images and records out; the number of images and ``output_type`` stay as they were. Arguments as for ``Refiner``."""

    def __init__(
        self,
        controller: Any = None,
        rewards: Any = (),
        reviser: Any = "template",
        policy: Any = None,
        gate: Any = None,
        budget: Any = None,
        batch: int = 8,
    ) -> None:
        super().__init__()
        if controller is None:
            raise ConfigError("RefineStep needs a controller: an object, a plugin's name, a node, or a function from an image to masks.")
        self._spec = Spec(controller, rewards, reviser, policy or {}, gate or {}, budget or {}, batch)
        tree_of(self._spec)
        self._workshop = Workshop(self._spec)

    @property
    def description(self) -> str:
        return "Finds what is wrong in the images, repairs only that, and keeps a repair only if it is measurably better."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("images", required=True, description="What was drawn: PIL images, an array or a tensor."),
            InputParam("prompt", required=True, description="What the images should show."),
            InputParam("generator", description="Its seed is the first image's; a list has one generator per image."),
            InputParam("num_inference_steps", description="Denoising steps of a repair, before its strength is taken into account."),
            InputParam("guidance_scale", description="Of a repair; where the workflow has a guider, the guider's is taken."),
            InputParam("height", description="The side that was drawn at is the side that repairs are painted at, where it is square."),
            InputParam("width"),
            InputParam("output_type", default="pil", description="pil, np or pt."),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [
            OutputParam("images", description="The refined images."),
            OutputParam("records", description="One refine.types.Record per image."),
        ]

    @property
    def expected_configs(self) -> list[ConfigSpec]:
        return [ConfigSpec("refine", Nodes(self.nodes()), "The controller, rewards and rules of the refining step.")]

    def nodes(self) -> dict[str, Any]:
        """The arguments that a configuration can hold; objects and functions are left out."""
        spec, objects = self._spec, {name.partition(".")[0] for name in objects_in(self._spec)}
        names = ("controller", "rewards", "reviser", "policy", "gate", "budget", "batch")
        return {name: getattr(spec, name) for name in names if name not in objects}

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        block = self.get_block_state(state)
        check_type(block.output_type)
        given, prompts = pictures(block.images), prompt_list(block.prompt)
        if len(given) % len(prompts):
            raise InputError(f"{len(prompts)} prompts for {len(given)} images: the same number of images must belong to each prompt.")
        made = self._workshop.refiner(components).refine_images(
            [picture.image for picture in given],
            [prompt for prompt in prompts for _ in range(len(given) // len(prompts))],
            num_inference_steps=block.num_inference_steps,
            guidance_scale=guidance_of(components, block.guidance_scale),
            size=block.height if block.height == block.width else None,
            generator=block.generator,
            output_type=block.output_type,
        )
        block.images, block.records = made.images, made.records
        self.set_block_state(state, block)
        return components, state

    def save_pretrained(self, save_directory: str | os.PathLike[str], **arguments: Any) -> None:
        """Write the step alone: a folder that ``ModularPipeline.from_pretrained(folder, trust_remote_code=True)`` loads.

        Paths within nodes are written as they are. Raises ConfigError where the controller or a reward is an object.
        """
        body = f"class Refine(RefineStep):\n    def __init__(self):\n        super().__init__(**{saveable(self)!r})\n"
        write_folder(Path(save_directory), f"from refine.pipeline import RefineStep\n\n\n{body}", "Refine")
        index = {"_class_name": "ModularPipeline", "_blocks_class_name": "Refine", "_diffusers_version": diffusers.__version__}
        (Path(save_directory) / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def saveable(step: RefineStep) -> dict[str, Any]:
    """The arguments of a step. Raises ConfigError where one of them has no configuration."""
    if objects := objects_in(step._spec):
        raise ConfigError(
            f"{', '.join(objects)} cannot be saved: an object or a function has no configuration. Give a plugin's name or a node "
            "({'use': ..., 'source': ...}) in its place."
        )
    return step.nodes()


def write_folder(folder: Path, code: str, name: str) -> None:
    """The code of a block, in a file whose name no other code has (diffusers keeps all of them in one folder), and what points to it."""
    module = f"refine_{hashlib.sha256(code.encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("refine_*.py"):
        old.unlink()
    (folder / f"{module}.py").write_text(code, encoding="utf-8")
    config = {"_class_name": name, "_diffusers_version": diffusers.__version__, "auto_map": {"ModularPipelineBlocks": f"{module}.{name}"}}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def classic(components: Any) -> Any:
    """The pipeline of diffusers with the models of a modular one, weights shared. Raises ConfigError for a family that has none."""
    kind = type(components).__name__
    name = kind.replace("ModularPipeline", "Pipeline")
    made = getattr(diffusers, name, None)
    if made is None or kind == "ModularPipeline":
        raise ConfigError(
            f"RefineStep cannot work within a {kind}: diffusers has no {name} whose inpainting it could use. Compose it after a workflow "
            "of SDXL, SD3 or FLUX, or refine the images with another pipeline: Refiner(pipe, ...).refine_images(...)."
        )
    needed, optional = made._get_signature_keys(made)
    parts = {name: components.components.get(name) for name in (*needed, *made._optional_components)}
    if lacking := sorted(name for name in set(needed).difference(made._optional_components) if parts[name] is None):
        raise InputError(
            f"The workflow has no {', '.join(lacking)}, which a repair needs. Load the components first: pipe.load_components()."
        )
    settings: Mapping[str, Any] = components.config
    more = {name: settings[name] for name in optional if name in settings and name not in parts}
    return made(**parts, **more, **({"add_watermarker": False} if "add_watermarker" in optional else {}))


def guidance_of(components: Any, given: float | None) -> float | None:
    """The guidance scale that the workflow drew with."""
    guider = components.components.get("guider")
    return given if guider is None else getattr(guider, "guidance_scale", given)
