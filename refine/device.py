"""Who is on the accelerator, and when.

A pipeline keeps off the accelerator what it does not need right now, by one of four policies. From left to right they need less of its
memory and more time:

    none        every model stays on it
    model       one model at a time: text encoders, denoiser, VAE
    group       one layer at a time, the next one copied meanwhile (CUDA streams)
    sequential  one layer at a time

Of the models of a loop (generator, controller, rewards), ``Residency`` lets only the one whose stage it is onto the accelerator.
Nothing here imports torch before it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from refine.errors import RefineError

T = TypeVar("T")
Offload = Literal["none", "model", "group", "sequential"]
Where = Literal["all", "stage"]
POLICIES: tuple[Offload, ...] = get_args(Offload)
WORK = ("draw", "inpaint", "inspect", "score")  # the methods of roles that run a model
HOOKS = ("group_offloading", "layer_execution_tracker", "lazy_prefetch_group_offloading")
DEPTH = 4  # how far below a plugin its networks are looked for

say = logging.getLogger("refine").warning


def smaller(policy: Offload) -> Offload | None:
    """The policy that needs the next less of the accelerator's memory; None after the last."""
    place = POLICIES.index(policy) + 1
    return POLICIES[place] if place < len(POLICIES) else None


def place(pipe: Any, policy: Offload, device: str) -> None:
    """Put a diffusers pipeline under a policy, whatever it was under before."""
    release(pipe)
    if policy == "none":
        pipe.to(device)
    elif policy == "model":
        pipe.enable_model_cpu_offload(device=device)
    elif policy == "group":
        pipe.enable_group_offload(device, offload_type="leaf_level", use_stream=device.startswith("cuda"))
    else:
        pipe.enable_sequential_cpu_offload(device=device)


def release(pipe: Any) -> None:
    """Take a pipeline off every policy and off the accelerator."""
    networks = [part for part in pipe.components.values() if hasattr(part, "parameters")]
    pipe.remove_all_hooks()
    for network in networks:
        for part in network.modules():
            if registry := getattr(part, "_diffusers_hook", None):
                for name in HOOKS:
                    registry.remove_hook(name, recurse=False)
    if any(parameter.device.type != "cpu" for network in networks for parameter in network.parameters()):
        pipe.to("cpu")


def fitted(
    work: Callable[[], T], policy: Offload, change: Callable[[Offload], None], tell: Callable[[str], None] = say
) -> tuple[T, Offload]:
    """The answer of ``work`` and the policy it was got under: after a full memory, ``change`` goes to the next smaller one, and it is said.

    The policy changes no picture. The error of the last policy goes on as it is.
    """
    import torch

    while True:
        try:
            return work(), policy
        except torch.OutOfMemoryError:
            less = smaller(policy)
            if less is None:
                raise
        tell(
            f"The accelerator's memory is full under offload={policy}; going on with offload={less}, which is slower. "
            f"To start so: --set generator.offload={less}"
        )
        empty_cache()
        change(less)
        policy = less


def empty_cache() -> None:
    """Give memory that torch keeps for later back to the accelerator."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


class Residency:
    """Lets the networks of one model at a time onto ``device``: whoever works next sends the last one back to the CPU's memory."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._resident: Any = None

    def host(self, model: Any) -> Guest:
        """The model as a guest: off the accelerator until it works."""
        self._send(model, "cpu")
        return Guest(model, self)

    def enter(self, model: Any) -> None:
        """Before a model works."""
        if model is not self._resident:
            self._send(self._resident, "cpu")
            empty_cache()
            self._resident = model
            self._send(model, self.device)

    def _send(self, model: Any, device: str) -> None:
        for network in networks(model):
            network.to(device)


@dataclass(frozen=True, slots=True, eq=False)
class Guest:
    """A model that enters the accelerator when it works; everything else of it as it is."""

    model: Any
    residency: Residency

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.model, name)
        if name not in WORK:
            return found

        def work(*arguments: Any, **named: Any) -> Any:
            self.residency.enter(self.model)
            return found(*arguments, **named)

        return work


def hosting(residency: str, device: str) -> Callable[[T], T]:
    """What is done to each model of a loop when it is loaded: with "stage" it leaves the accelerator until its stage. On a CPU, nothing."""
    if residency == "all" or device == "cpu":
        return lambda model: model
    stay: Any = Residency(device)
    return stay.host  # type: ignore[no-any-return]


def networks(thing: Any, depth: int = DEPTH) -> Iterator[Any]:
    """The torch modules that an object of ours holds, outermost ones only. Not those under a policy of their own, nor quantized ones."""
    import torch

    if isinstance(thing, torch.nn.Module):
        parts = list(thing.modules())
        if not any(hasattr(part, "_hf_hook") or hasattr(part, "_diffusers_hook") or is_quantized(part) for part in parts):
            yield thing
    elif depth and (inside := _inside(thing)):
        for one in inside:
            yield from networks(one, depth - 1)


def is_quantized(network: Any) -> bool:
    """True for a network that a quantizer has pinned to its device."""
    return getattr(network, "quantization_method", None) is not None or bool(getattr(network, "is_quantized", False))


def _inside(thing: Any) -> list[Any]:
    """What an object of refine's or of a plugin's, a pipeline or a container holds."""
    if isinstance(thing, Mapping):
        return list(thing.values())
    if isinstance(thing, list | tuple):
        return list(thing)
    if isinstance(getattr(thing, "components", None), Mapping):
        return list(thing.components.values())
    names = [*getattr(thing, "__dict__", ()), *(name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ()))]
    return [getattr(thing, name) for name in names if hasattr(thing, name)]


def check_policy(policy: str, device: str) -> None:
    """Raises RefineError for a policy that the device cannot have."""
    if policy in ("group", "sequential") and device == "mps":
        raise RefineError(f"offload={policy} needs CUDA; an Apple GPU shares the machine's memory, so offload=none is right there.")
