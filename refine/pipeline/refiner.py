"""``Refiner``: a pipeline-like object around any loaded text-to-image pipeline, of any family that can also inpaint."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from refine import config, images, plugins, runner
from refine.engine import Engine, batches
from refine.errors import ConfigError, InputError
from refine.images import Picture
from refine.pipeline.output import RefineOutput, check_type, give
from refine.pipeline.pictures import pictures
from refine.pipeline.progress import bars, both
from refine.pipeline.roles import Spec, is_node, make_engine
from refine.pipeline.seeds import fresh, seeds
from refine.pipeline.words import prompt_list, prompts_for
from refine.policy import Budget
from refine.stages import Event
from refine.types import Candidate, Generator, Record

RoundEnd = Callable[["Refiner", int, dict[str, Any]], None]


class Refiner:
    """Draws with a pipeline, finds what is wrong, repairs only that, and keeps what is measurably better.

    pipe        a loaded pipeline of diffusers (left as it is: weights shared, nothing cast or hooked), a ``refine.types.Generator``,
                or a configuration's node: ``{"use": "diffusers", "source": ...}``
    controller  finds the faults: an object, a plugin's name, a node, or a function from an image to masks
    rewards     what a repair must not lower: none, one, a list, or a mapping of names; each an object, a name, a node, or a function
                from an image and its prompt to a number
    reviser, policy, gate, budget   objects, or nodes as in a configuration: ``budget={"rounds": 3}``
    batch       images in lockstep. What is in a batch decides its bytes, so equal results need an equal batch
    device      of what is made from a node; None is the pipeline's, "auto" the accelerator where there is one

    Raises ConfigError, with every fault, before any weights load.
    """

    def __init__(
        self,
        pipe: Any,
        *,
        controller: Any,
        rewards: Any = (),
        reviser: Any = "template",
        policy: Any = None,
        gate: Any = None,
        budget: Any = None,
        batch: int = 8,
        device: str | None = None,
    ) -> None:
        device = device or str(getattr(pipe, "_execution_device", "auto"))
        spec = Spec(controller, rewards, reviser, policy or {}, gate or {}, budget or {}, batch, device)
        self._given = _generator_from_node(pipe, device) if is_node(pipe) else pipe
        self._engine: Engine = make_engine(generator(self._given), spec)
        self._drawers: dict[tuple[tuple[str, Any], ...], Generator] = {(): self._engine.models.generator}
        self._interrupted = False

    @classmethod
    def from_preset(cls, *presets: str, overrides: Sequence[str] = ()) -> Refiner:
        """What ``refine run --preset NAME --set KEY=VALUE`` would work with. Raises ConfigError and CheckpointError."""
        tree = config.load(presets, overrides).tree
        parts = ("controller", "rewards", "reviser", "policy", "gate", "budget", "batch", "device")
        return cls(tree["generator"], **{name: tree[name] for name in parts})

    @property
    def pipe(self) -> Any:
        """The pipeline (or generator) that was given."""
        return self._given

    @property
    def engine(self) -> Engine:
        """Models and rules."""
        return self._engine

    def interrupt(self) -> None:
        """End the call that is running after its round; it gives what it has. Images of later batches are drawn and not repaired."""
        self._interrupted = True

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_images_per_prompt: int = 1,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        height: int | None = None,
        width: int | None = None,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_round_end: RoundEnd | None = None,
        callback_on_stage: Callable[[Event], None] | None = None,
    ) -> Any:
        """Draw and refine ``num_images_per_prompt`` images of each prompt, those of one prompt beside each other.

        generator: a CPU generator whose seed is the first image's (the others count up, as with ``refine run --seed``), or one per image.
        callback_on_round_end: called with the refiner, the round (from 0) and {"images": the best so far}; it may call ``interrupt``.
        Returns RefineOutput, or (images, records) where ``return_dict`` is False. Raises InputError.
        """
        check_type(output_type)
        if num_images_per_prompt < 1:
            raise InputError(f"num_images_per_prompt is {num_images_per_prompt}; it must be at least 1.")
        prompts = [one for one in prompt_list(prompt) for _ in range(num_images_per_prompt)]
        settings = {"steps": num_inference_steps, "guidance_scale": guidance_scale, "size": _side(height, width)}
        numbers = seeds(fresh(generator), len(prompts))
        records = self._run(prompts, numbers, [None] * len(prompts), settings, callback_on_round_end, callback_on_stage)
        return _packed(records, [None] * len(records), output_type, return_dict)

    def refine_images(
        self,
        images: Any,
        prompts: str | Sequence[str] | None = None,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        size: int | None = None,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_round_end: RoundEnd | None = None,
        callback_on_stage: Callable[[Event], None] | None = None,
    ) -> Any:
        """Refine images that exist: PIL images, paths, numpy arrays (H, W, 3) and torch tensors (3, H, W), of any mix of sizes.

        prompts: what the images should show: one for all, or one per image; None takes those in the images' metadata or beside the
        files. size: side in pixels that repairs are painted at; None is the one the model was trained at. The generator gives seeds, as
        in a call, may have drawn the images, and may live on any device. Alpha of a PIL image or file is put back.
        """
        check_type(output_type)
        given = pictures(images)
        texts = prompts_for(prompts, images, given)
        settings = {"steps": num_inference_steps, "guidance_scale": guidance_scale, "size": size}
        numbers = seeds(generator, len(given), draws=False)
        records = self._run(texts, numbers, given, settings, callback_on_round_end, callback_on_stage)
        return _packed(records, given, output_type, return_dict)

    def _run(
        self,
        prompts: Sequence[str],
        numbers: Sequence[int],
        given: Sequence[Picture | None],
        settings: Mapping[str, Any],
        round_end: RoundEnd | None,
        stage: Callable[[Event], None] | None,
    ) -> list[Record]:
        """Every record, batch by batch."""
        self._interrupted = False
        engine = replace(self._engine, models=replace(self._engine.models, generator=self._drawer(settings)))

        def after_round(turn: int, best: Sequence[Candidate]) -> bool:
            if round_end:
                round_end(self, turn, {"images": [candidate.image for candidate in best]})
            return not self._interrupted

        records: list[Record] = []
        for places in batches(range(len(prompts)), engine.batch):
            late = self._interrupted
            asked = replace(engine, budget=Budget(rounds=0)) if late else engine
            sources = [one.image if (one := given[i]) else None for i in places]
            words, chosen = [prompts[i] for i in places], [numbers[i] for i in places]
            with runner.enough_memory(len(places)), bars(self._given) as shown:
                done = asked.refine(words, chosen, sources, both(shown, stage), after_round)
            records += [replace(one, stop_reason="interrupted") if late and one.stop_reason == "rounds" else one for one in done]
        return records

    def _drawer(self, settings: Mapping[str, Any]) -> Generator:
        """The generator at the settings of one call; None leaves a setting as it is."""
        key = tuple(sorted((name, value) for name, value in settings.items() if value is not None))
        if key not in self._drawers:
            if not is_pipeline(self._given):
                names = ", ".join(name for name, _ in key)
                raise InputError(f"{names} cannot be set in a call for a {type(self._given).__name__}: set them where it is made.")
            self._drawers[key] = generator(self._given, **dict(key))
        return self._drawers[key]


def is_pipeline(given: Any) -> bool:
    """True for what looks like a pipeline of diffusers."""
    return callable(given) and hasattr(given, "components")


def generator(pipe: Any, **settings: Any) -> Generator:
    """A generator from a pipeline, or the object itself where it is one. Raises ConfigError with what works instead."""
    if all(hasattr(pipe, name) for name in plugins.ROLES["generator"]):
        made: Generator = pipe
        return made
    kind = type(pipe).__name__
    if not is_pipeline(pipe):
        raise ConfigError(
            f"pipe is a {kind}, which is no image pipeline. Load one first, for example with "
            "AutoPipelineForText2Image.from_pretrained(...), and give that object."
        )
    from refine.generators.adapter import DiffusersGenerator

    try:
        return DiffusersGenerator.from_pipe(pipe, **settings)
    except ConfigError as error:
        if settings:
            raise
        raise ConfigError(
            f"{' '.join(error.faults)} Images that a {kind} draws can still be refined with another pipeline: "
            "Refiner(other_pipe, ...).refine_images(pipe(prompt).images, prompt)."
        ) from error


def _generator_from_node(node: Any, device: str) -> Any:
    """The generator of a name or node; checked like a configuration's."""
    tree = config.check({"generator": node, "controller": "blind", "device": device}).tree
    return runner.make("generator", tree["generator"])


def _side(height: int | None, width: int | None) -> int | None:
    """The side of a square image. Raises InputError for another shape."""
    if height is not None and width is not None and height != width:
        raise InputError(
            f"{width} × {height} is not square, and a Refiner draws squares. Draw with the pipeline itself, then refine_images(images, "
            "prompts), which takes any shape."
        )
    return height if height is not None else width


def _packed(records: Sequence[Record], given: Sequence[Picture | None], output_type: str, return_dict: bool) -> Any:
    """The result as a pipeline gives it; alpha is put back in PIL images."""
    finals = [
        images.whole(record.best.image, picture) if picture and output_type == "pil" else record.best.image
        for record, picture in zip(records, given, strict=True)
    ]
    made = give(finals, output_type)
    return RefineOutput(images=made, records=list(records)) if return_dict else (made, list(records))
