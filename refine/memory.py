"""What a configuration needs of memory, from counted weights: before anything is downloaded or loaded. Weights only, no activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from refine import embedded, plugins, sizes
from refine.device import POLICIES, Offload

# Precision by plugin, where nothing is configured; the others load weights as they are stored.
USUAL: Mapping[str, str] = {"diffusers": "bfloat16", "legion": "bfloat16", "local": "bfloat16"}
OWN = {name for table in plugins.TABLE.values() for name in table}
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
    """The models of a checked configuration, plugins within plugins included, as far as their sizes are known; and what is not known.

    Embedded models are small, and left out.
    """
    nodes = [(role, tree[role]) for role in ("generator", "controller", "reviser")]
    nodes += [(f"rewards.{name}", node) for name, node in tree["rewards"].items()]
    found: list[Model] = []
    unknown: list[str] = []
    for where, node in nodes:
        networks: list[float] = []
        for source, dtype, quantize in sources(node):
            if source in sizes.TABLE:
                networks += sizes.loaded(sizes.TABLE[source], dtype, quantize)
            elif not embedded.is_reference(source):
                unknown.append(f"{source} ({where})")
        if networks:
            found.append(Model(where, tuple(networks)))
    return found, unknown


def sources(node: Mapping[str, Any]) -> Iterator[tuple[str, str | None, str | None]]:
    """The weights that a plugin's node and the nodes within it name, with precision and quantization; others' plugins by their names."""
    use = str(node.get("use", ""))
    if use and use not in OWN:
        yield use, None, None
    given = node.get("dtype")
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from sources(value)
        elif key in ("source", "inpaint_source") and value and use != "endpoint":
            yield str(value), given if given in sizes.BYTES else USUAL.get(use), node.get("quantize")


def demands(found: Sequence[Model]) -> list[Demand]:
    """What each offloading policy of the generator asks for."""
    generators = [model for model in found if model.where == "generator"]
    fixed = sum(model.total for model in found if model.where == "reviser")  # no stage is its own: it stays
    others = [model for model in found if model.where not in ("generator", "reviser")]
    largest = max((network for model in generators for network in model.networks), default=0.0)
    drawn = sum(model.total for model in generators)
    rest = [model.total for model in others]
    resident: Mapping[Offload, float] = {"none": drawn, "model": largest, "group": largest * 2 * LAYER, "sequential": largest * LAYER}
    return [
        Demand(
            policy,
            together=resident[policy] + sum(rest) + fixed,
            staged=max([resident[policy], *rest]) + fixed,
            machine=drawn + sum(rest) + fixed if policy != "none" else max([drawn, fixed, *rest]),
        )
        for policy in POLICIES
    ]


def advice(asked: Sequence[Demand], video: float | None, lacking: bool = False) -> str:
    """The least offloading that fits, as the settings that ask for it. video: gigabytes of the accelerator, None where there is none.
    lacking: some weights are not in the numbers."""
    least = "at least " if lacking else ""
    if video is None:
        return "There is no accelerator here: everything runs on the CPU, in minutes per image at this size."
    for demand in asked:
        for residency, gigabytes in (("all", demand.together), ("stage", demand.staged)):
            if gigabytes <= ROOM * video:
                settings = [f"--set generator.offload={demand.offload}"] if demand.offload != "none" else []
                settings += ["--set residency=stage"] if residency == "stage" else []
                return f"Fits: {' '.join(settings) or 'as it is'} ({least}{gigabytes:.1f} GB of weights of {video:.1f} GB)."
    smallest = min(demand.staged for demand in asked)
    return (
        f"Does not fit: the smallest way needs {least}{smallest:.1f} GB of weights, and {ROOM:.0%} of {video:.1f} GB are there for them. "
        "Quantize (--set controller.quantize=4bit, --set generator.quantize=4bit) or take a smaller preset."
    )
