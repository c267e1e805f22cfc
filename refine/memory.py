"""What a configuration needs of memory, from counted weights: before anything is downloaded or loaded. Weights only, no activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refine import sizes
from refine.device import POLICIES, Offload

USUAL: Mapping[str, str] = {"generator": "bfloat16", "controller": "bfloat16", "rewards": "float32"}  # where nothing is configured
ROOM = 0.8  # share of an accelerator's memory that weights may fill; a rule of thumb, the rest is for activations
LAYER = 0.07  # share of a network that its largest layer takes: 0.54 of 8.3 billion, Qwen2.5-VL's embedding, is the most of refine.sizes


@dataclass(frozen=True, slots=True)
class Model:
    """One model of a loop: the configuration's key, and its networks' gigabytes in memory."""

    where: str
    networks: tuple[float, ...]

    @property
    def total(self) -> float:
        """Gigabytes of all its networks."""
        return sum(self.networks)


@dataclass(frozen=True, slots=True)
class Demand:
    """Gigabytes of weights at once: on the accelerator with all models resident, with the stage's alone, and in the machine's memory."""

    offload: Offload
    together: float
    staged: float
    machine: float


def models(tree: Mapping[str, Any]) -> tuple[list[Model], list[str]]:
    """The models of a checked configuration whose sizes are known, and the repositories whose sizes are not."""
    nodes = [("generator", tree["generator"]), ("controller", tree["controller"])]
    nodes += [(f"rewards.{name}", node) for name, node in tree["rewards"].items()]
    found: list[Model] = []
    unknown: list[str] = []
    for where, node in nodes:
        for source in filter(None, (node.get("source"), node.get("inpaint_source"))):
            if source not in sizes.TABLE:
                unknown.append(str(source))
                continue
            dtype = node.get("dtype")
            precise = dtype if dtype in sizes.BYTES else USUAL[where.partition(".")[0]]
            found.append(Model(where, tuple(sizes.loaded(sizes.TABLE[source], precise))))
    return found, unknown


def demands(found: Sequence[Model]) -> list[Demand]:
    """What each offloading policy of the generator asks for."""
    generators = [model for model in found if model.where == "generator"]
    others = [model for model in found if model.where != "generator"]
    largest = max((network for model in generators for network in model.networks), default=0.0)
    drawn = sum(model.total for model in generators)
    rest = [model.total for model in others]
    resident: Mapping[Offload, float] = {"none": drawn, "model": largest, "group": largest * 2 * LAYER, "sequential": largest * LAYER}
    return [
        Demand(
            policy,
            together=resident[policy] + sum(rest),
            staged=max([resident[policy], *rest]),
            machine=drawn + sum(rest) if policy != "none" else max([drawn, *rest]),
        )
        for policy in POLICIES
    ]


def advice(asked: Sequence[Demand], video: float | None) -> str:
    """The least offloading that fits, as the settings that ask for it. video: gigabytes of the accelerator, None where there is none."""
    if video is None:
        return "There is no accelerator here: everything runs on the CPU, in minutes per image at this size."
    for demand in asked:
        for residency, gigabytes in (("all", demand.together), ("stage", demand.staged)):
            if gigabytes <= ROOM * video:
                settings = [f"--set generator.offload={demand.offload}"] if demand.offload != "none" else []
                settings += ["--set residency=stage"] if residency == "stage" else []
                return f"Fits: {' '.join(settings) or 'as it is'} ({gigabytes:.1f} GB of weights of {video:.1f} GB)."
    least = min(demand.staged for demand in asked)
    return (
        f"Does not fit: the smallest way needs {least:.1f} GB of weights, and {ROOM:.0%} of {video:.1f} GB are there for them. "
        "Quantize (--set controller.quantize=4bit, --set generator.quantize=4bit) or take a smaller preset."
    )
