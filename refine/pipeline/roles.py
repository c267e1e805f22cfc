"""Who does the work, from whatever a user has at hand: an object, a plugin's name, a node of a configuration, or a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from refine import adapters, config, plugins, runner
from refine.engine import Engine
from refine.errors import ConfigError
from refine.gate import Gate
from refine.loop import Models
from refine.policy import Budget
from refine.trees import Tree
from refine.types import Controller, Generator, Image, Reward

STAND_IN = {"generator": "painter", "controller": "blind"}  # checked in the place of what is an object already


@dataclass(frozen=True, slots=True)
class Spec:
    """Everything of an engine but its generator, as it was given. Objects are shared, whoever copies a spec."""

    controller: Any
    rewards: Any = ()
    reviser: Any = "template"
    policy: Any = field(default_factory=dict)
    gate: Any = field(default_factory=dict)
    budget: Any = field(default_factory=dict)
    batch: int = 8
    device: str = "auto"

    def __deepcopy__(self, memo: object) -> Spec:
        return self


def is_node(given: Any) -> bool:
    """True for a plugin's name and for a mapping: what a configuration can hold."""
    return isinstance(given, str | Mapping)


def tree_of(spec: Spec) -> Tree:
    """The checked configuration of a spec; objects are stood in for. Raises ConfigError with every fault."""
    rewards = dict(pair for pair in rewards_of(spec.rewards) if is_node(pair[1]))
    parts = {"controller": spec.controller, "reviser": spec.reviser, "policy": spec.policy, "gate": spec.gate, "budget": spec.budget}
    nodes = {name: given for name, given in parts.items() if is_node(given)}
    return config.check(STAND_IN | nodes | {"rewards": rewards, "batch": spec.batch, "device": spec.device}).tree


def objects_in(spec: Spec) -> list[str]:
    """What of a spec is an object or a function, and so cannot be written into a configuration."""
    parts = {"controller": spec.controller, "reviser": spec.reviser, "policy": spec.policy, "gate": spec.gate, "budget": spec.budget}
    return [name for name, given in parts.items() if not is_node(given)] + [
        f"rewards.{name}" for name, given in rewards_of(spec.rewards) if not is_node(given)
    ]


def make_engine(generator: Generator, spec: Spec) -> Engine:
    """The engine. Every fault of the spec is raised (ConfigError) before any weights load."""
    tree = tree_of(spec)
    pairs = rewards_of(spec.rewards)
    controller = runner.make("controller", tree["controller"]) if is_node(spec.controller) else as_controller(spec.controller)
    rewards = tuple(runner.make("reward", tree["rewards"][name]) if is_node(given) else as_reward(given) for name, given in pairs)
    reviser = runner.make("reviser", tree["reviser"]) if is_node(spec.reviser) else _player("reviser", spec.reviser)
    engine = runner.make_engine(tree, Models(generator, controller, rewards, reviser))
    if not is_node(spec.policy):
        engine = replace(engine, policy=_player("policy", spec.policy))
    rules = {name: given for name, given in (("gate", spec.gate), ("budget", spec.budget)) if not is_node(given)}
    for name, given in rules.items():
        if not isinstance(given, Gate | Budget):
            raise ConfigError(f"{name} is a {type(given).__name__}. Give a {name.title()} of refine, or a mapping of its fields.")
    return replace(engine, **rules)


def rewards_of(given: Any) -> list[tuple[str, Any]]:
    """(name, node or object) of every reward: one, a list, or a mapping of names. Raises ConfigError where a name comes twice."""
    pairs = _rewards(given)
    names = [name for name, _ in pairs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"Two rewards are called {twice[0]!r}. Give them as a mapping with a name for each.")
    return pairs


def _rewards(given: Any) -> list[tuple[str, Any]]:
    if given is None:
        return []
    if isinstance(given, str):
        return [(given, {"use": given})]
    if isinstance(given, Mapping):
        if "use" in given:
            return [(str(given.get("name", given["use"])), given)]
        return [(name, {"use": name, **node} if isinstance(node, Mapping) else node) for name, node in given.items() if node is not None]
    if isinstance(given, Sequence):
        return [pair for one in given for pair in _rewards(one)]
    return [(str(getattr(given, "name", getattr(given, "__name__", type(given).__name__))), given)]


def as_controller(given: Any) -> Controller:
    """An object that inspects, or a function from one image to masks."""
    if hasattr(given, "inspect") or inspect.isclass(given) or not callable(given):
        return _player("controller", given)  # type: ignore[no-any-return]
    return adapters.as_controller(given)


def as_reward(given: Any) -> Reward:
    """An object that scores, or a function from one image and its prompt to a number (higher is better)."""
    if hasattr(given, "score") or inspect.isclass(given) or not callable(given):
        return _player("reward", given)  # type: ignore[no-any-return]
    return Verifier(getattr(given, "__name__", type(given).__name__), given)


def _player(role: str, given: Any) -> Any:
    """The object itself, if it has what its role asks for. Raises ConfigError."""
    kind = given.__name__ if inspect.isclass(given) else type(given).__name__
    if inspect.isclass(given):
        raise ConfigError(f"{role} is the class {kind}. Give an object of it: {kind}(...) or {kind}.from_pretrained(...).")
    if lacking := [name for name in plugins.ROLES[role] if not hasattr(given, name)]:
        ways = {"controller": ", a function from an image to masks", "reward": ", a function from an image and its prompt to a number"}
        known = ", ".join(sorted(plugins.names(role)))
        wanted = f"{', '.join(lacking)}. Give an object that has (refine.types.{role.title()})"
        raise ConfigError(f"{role} is a {kind}, which has no {wanted}{ways.get(role, '')}, or a plugin's name ({known}).")
    return given


@dataclass(frozen=True, slots=True)
class Verifier:
    """A ``Reward`` from a function of one image and its prompt."""

    name: str
    judge: Callable[[Image, str], float]

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        return [float(self.judge(image, prompt)) for image, prompt in zip(images, prompts, strict=True)]
