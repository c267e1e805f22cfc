"""``RefinePipeline``: a pipeline of diffusers that is saved and loaded as a whole, controller and rewards included.

It holds one component, ``base``: the pipeline that draws. Its sub-folder is a stock pipeline folder. Controller, rewards and rules are
configuration: names and nodes, with the weights that lie on this machine copied into the folder.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import DiffusionPipeline

from refine.errors import ConfigError
from refine.generators.quiet import quiet
from refine.pipeline.portable import CODE, located, portable, write_code
from refine.pipeline.refiner import Refiner, generator
from refine.pipeline.roles import Spec, objects_in, tree_of

FOR_BASE = ("dtype", "torch_dtype", "variant", "device_map", "quantization_config", "use_safetensors", "low_cpu_mem_usage")


def forwarded(name: str, moves: bool = False) -> Callable[..., Any]:
    """A method that the base pipeline answers: diffusers does not pass these on to a pipeline within a pipeline.

    moves: it may change the device that the base works on, which models made from nodes follow.
    """

    def method(self: Any, *arguments: Any, **more: Any) -> Any:
        if moves:
            self._refiner = None
        return getattr(self.base, name)(*arguments, **more)

    method.__name__ = name
    method.__doc__ = f"``{name}`` of the base pipeline."
    return method


class RefinePipeline(DiffusionPipeline):  # type: ignore[misc]
    """Draws with ``base``, then refines; see ``Refiner`` for the arguments. Raises ConfigError.

    ``RefinePipeline.from_pretrained(folder)`` loads what ``save_pretrained`` wrote; without importing refine first, so does
    ``DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)`` (its ``dtype`` does not reach a pipeline
    within a pipeline: use ``.to(dtype)``). Models made from nodes follow the device of the base.
    """

    def __init__(
        self,
        base: DiffusionPipeline,
        controller: object = None,
        rewards: object = None,
        reviser: object = None,
        policy: object = None,
        gate: object = None,
        budget: object = None,
        batch: int = 8,
    ) -> None:
        super().__init__()
        if controller is None:
            raise ConfigError(
                "RefinePipeline needs a controller: an object, a plugin's name, a node, or a function from an image to masks."
            )
        self._spec = Spec(controller, rewards or (), reviser or "template", policy or {}, gate or {}, budget or {}, batch)
        tree_of(self._spec)
        generator(base)
        self.register_modules(base=base)
        kept = {"controller": controller, "rewards": rewards, "reviser": reviser, "policy": policy, "gate": gate, "budget": budget}
        objects = {name.partition(".")[0] for name in objects_in(self._spec)}
        self.register_to_config(**{name: None if name in objects else given for name, given in kept.items()}, batch=batch)
        self._refiner: Refiner | None = None

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **arguments: Any) -> Self:
        """Load a folder that ``save_pretrained`` wrote. dtype, device_map, variant and quantization reach the base pipeline."""
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir() and "base" not in arguments:
            inner = {name: arguments.pop(name) for name in FOR_BASE if name in arguments}
            arguments["base"] = DiffusionPipeline.from_pretrained(str(folder / "base"), **inner)
        with quiet():  # a pipeline within a pipeline makes diffusers doubt its type
            made: Self = super().from_pretrained(str(pretrained_model_name_or_path), **arguments)
        return made

    @classmethod
    def from_pipe(cls, pipeline: Any, **settings: Any) -> Self:
        """Around a loaded pipeline, which stays as it is: nothing is cast, hooked or copied. ``settings`` as for the constructor."""
        return cls(pipeline.base if isinstance(pipeline, RefinePipeline) else pipeline, **settings)

    def save_pretrained(self, save_directory: str | os.PathLike[str], **arguments: Any) -> None:
        """Write a folder that can be moved. Raises ConfigError where the controller or a reward is an object: it has no configuration."""
        if objects := objects_in(self._spec):
            raise ConfigError(
                f"{', '.join(objects)} cannot be saved: an object or a function has no configuration. Give a plugin's name or a node "
                "({'use': ..., 'source': ...}) in its place, or save the base pipeline alone: pipeline.base.save_pretrained(...)."
            )
        if arguments.pop("push_to_hub", False):
            raise ConfigError("push_to_hub would send a folder that is not complete. Save first, then huggingface_hub.upload_folder(...).")
        super().save_pretrained(str(save_directory), **arguments)
        portable(Path(save_directory), located(self._spec, self.name_or_path))
        write_code(Path(save_directory) / CODE, "RefinePipeline")

    def __call__(self, prompt: Any, **arguments: Any) -> Any:
        """Draw and refine; the arguments are those of a call of ``Refiner``."""
        return self.refiner(prompt, **arguments)

    def refine_images(self, images: Any, prompts: Any = None, **arguments: Any) -> Any:
        """Refine images that exist; see ``Refiner.refine_images``."""
        return self.refiner.refine_images(images, prompts, **arguments)

    @property
    def refiner(self) -> Refiner:
        """The engine around the base; controller and rewards are loaded when it is first needed."""
        if self._refiner is None:
            spec = located(self._spec, self.name_or_path)
            self._refiner = Refiner(
                self.base,
                controller=spec.controller,
                rewards=spec.rewards,
                reviser=spec.reviser,
                policy=spec.policy,
                gate=spec.gate,
                budget=spec.budget,
                batch=spec.batch,
            )
        return self._refiner

    def to(self, *arguments: Any, **more: Any) -> Self:
        """Move or cast the base; models made from nodes are made anew beside it when they are next needed."""
        self.base.to(*arguments, **more)
        self._refiner = None
        return self

    @property
    def device(self) -> torch.device:
        device: torch.device = self.base.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.base.dtype
        return dtype

    enable_model_cpu_offload = forwarded("enable_model_cpu_offload", moves=True)
    enable_sequential_cpu_offload = forwarded("enable_sequential_cpu_offload", moves=True)
    enable_group_offload = forwarded("enable_group_offload", moves=True)
    remove_all_hooks = forwarded("remove_all_hooks", moves=True)
    reset_device_map = forwarded("reset_device_map", moves=True)
    maybe_free_model_hooks = forwarded("maybe_free_model_hooks")
    set_progress_bar_config = forwarded("set_progress_bar_config")
    progress_bar = forwarded("progress_bar")
    enable_attention_slicing = forwarded("enable_attention_slicing")
    disable_attention_slicing = forwarded("disable_attention_slicing")
    enable_xformers_memory_efficient_attention = forwarded("enable_xformers_memory_efficient_attention")
    disable_xformers_memory_efficient_attention = forwarded("disable_xformers_memory_efficient_attention")
