"""The configuration: presets merged left to right, then ``key=value`` overrides; checked as a whole before any weights load.

generator, controller, reviser, policy   {use: plugin, ...its own arguments}; the text ``oracle`` is short for {use: oracle}
rewards                                  {name: {use: plugin, ...}}; ``use`` is the name itself where it is left out; null removes one
gate, budget                             the fields of refine.gate.Gate and refine.policy.Budget
batch, device                            images in lockstep · auto, cpu, cuda, ... for every plugin that takes a device
residency                                all: every model stays on the accelerator · stage: only the one that works (refine.device)

An argument that is a plugin itself holds a node of its own, and one that is a mapping of plugins holds names and nodes as ``rewards`` does:
controller: {use: union, members: {legion: {source: PATH}, hands: {use: my_module:find_hands}}}

No field is written down twice: the schema of a node is the signature of what it configures (see ``refine.plugins``).
A layer that changes ``use`` drops the arguments of its predecessor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass
from math import isfinite
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from refine import embedded, hints, plugins, presets
from refine.device import Where
from refine.errors import CheckpointError, ConfigError, RefineError, unknown
from refine.gate import Gate
from refine.policy import Budget
from refine.trees import ROLES, Tree, merge, parse_override

PARTS: Mapping[str, Callable[..., Any]] = {"gate": Gate, "budget": Budget}
TOP: Mapping[str, tuple[Any, Any]] = {"batch": (int, 8), "device": (str, "auto"), "residency": (Where, "all")}
KEYS = (*ROLES, "rewards", *PARTS, *TOP)
FALLBACK: Mapping[str, str] = {"reviser": "template", "policy": "auto"}


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without faults. ``tree`` holds every value, defaults included, and nothing that is tied to this machine."""

    tree: Tree
    presets: tuple[str, ...] = ()


def load(names: Sequence[str] = (), overrides: Sequence[str] = ()) -> Config:
    """Presets (names or YAML files) and ``key=value`` overrides to a checked configuration.

    Where no preset brings a generator, the default preset goes below. Raises ConfigError with every fault that was found.
    """
    layers = [presets.read(name) for name in names]
    used = tuple(names)
    if not any("generator" in layer for layer in layers):
        layers, used = [presets.read(presets.DEFAULT), *layers], (presets.DEFAULT, *used)
    faults: list[str] = []
    for text in overrides:
        try:
            layers.append(parse_override(text))
        except ConfigError as error:
            faults += error.faults
    resolved = resolve(merge(layers), faults)
    if faults:
        raise ConfigError(dict.fromkeys(faults))
    return Config(resolved, used)


def check(tree: Tree) -> Config:
    """The checked form of a complete tree, such as the one that a run folder keeps."""
    faults: list[str] = []
    resolved = resolve(merge([tree]), faults)
    if faults:
        raise ConfigError(faults)
    return Config(resolved)


def resolve(tree: Tree, faults: list[str]) -> Tree:
    """Every node checked against its schema and filled with its defaults; what is wrong goes to ``faults``."""
    faults.extend(unknown("key", str(key), KEYS) for key in tree if key not in KEYS)
    top = {key: _value(key, tree.get(key, default), hint, {}, faults) for key, (hint, default) in TOP.items()}
    full: Tree = {role: _plugin(role, role, _node(role, tree, faults), top, faults) for role in ROLES}
    rewards = tree.get("rewards", {})
    if not isinstance(rewards, Mapping):
        faults.append(f"rewards is {rewards!r}; it must be a mapping of names to nodes, for example {{hps: {{source: PATH}}}}.")
        rewards = {}
    full["rewards"] = {
        name: _plugin("reward", f"rewards.{name}", _reward(name, node, faults), top, faults, name)
        for name, node in rewards.items()
        if node is not None
    }
    full |= {part: _checked(part, make, tree.get(part, {}), top, faults) for part, make in PARTS.items()}
    if isinstance(top["batch"], int) and top["batch"] < 1:
        faults.append(f"batch is {top['batch']}; it must be at least 1.")
    return full | top


def _node(role: str, tree: Tree, faults: list[str]) -> Tree:
    node = tree.get(role, {})
    if not isinstance(node, Mapping):
        faults.append(f"{role} is {node!r}; it must be a plugin's name or a mapping with the key 'use'.")
        node = {}
    return ({"use": FALLBACK[role]} if role in FALLBACK else {}) | dict(node)


def _reward(name: str, node: Any, faults: list[str]) -> Tree:
    if not isinstance(node, Mapping):
        faults.append(f"rewards.{name} is {node!r}; it must be a plugin's name or a mapping.")
        node = {}
    return {"use": name} | dict(node)


def _plugin(kind: str, path: str, node: Tree, top: Tree, faults: list[str], label: str | None = None) -> Tree:
    """A plugin's node; its device and (for a reward) its name come from outside where they are not written."""
    use = node.get("use")
    if not isinstance(use, str):
        faults.append(f"{path}.use is missing: name a {kind}. Known: {', '.join(sorted(plugins.names(kind)))}.")
        return {}
    try:
        make = plugins.find(kind, use)
    except ConfigError as error:
        faults.extend(f"{path}.use: {fault}" for fault in error.faults)
        return {"use": use}
    except RefineError as error:
        faults.append(f"{path}.use: {error}")
        return {"use": use}
    given = {key: value for key, value in node.items() if key != "use"}
    outer = {"device": top["device"]} | ({"name": label} if label else {})
    known = plugins.schema(make)
    given = {key: value for key, value in outer.items() if key in known} | given
    filled = _checked(path, make, given, top, faults) if kind == "policy" else _filled(path, known, given, top, faults)
    return {"use": use} | filled


def _checked(path: str, make: Callable[..., Any], node: Any, top: Tree, faults: list[str]) -> Tree:
    """A node of plain numbers: also made once, so that a value out of its range is a fault now."""
    if not isinstance(node, Mapping):
        faults.append(f"{path} is {node!r}; it must be a mapping.")
        return {}
    before = len(faults)
    filled = _filled(path, plugins.schema(make), dict(node), top, faults)
    if len(faults) == before:
        try:
            make(**arguments(make, filled))
        except ValueError as error:
            faults.append(f"{path}: {error}")
    return filled


def _filled(path: str, known: Mapping[str, plugins.Parameter], given: Tree, top: Tree, faults: list[str]) -> Tree:
    """Every parameter of the schema with its given or default value."""
    faults.extend(unknown("key", f"{path}.{key}", [f"{path}.{one}" for one in known]) for key in given if key not in known)
    faults.extend(f"{path}.{one.name} is required." for one in known.values() if one.required and given.get(one.name, MISSING) == MISSING)
    return {
        one.name: _value(f"{path}.{one.name}", given[one.name], one.hint, top, faults) if one.name in given else hints.plain(one.default)
        for one in known.values()
        if one.name in given or not one.required
    }


def _nested(path: str, value: Any, kind: str, many: bool, top: Tree, faults: list[str]) -> Any:
    """An argument that is a plugin (its node), or many of them (a mapping of names to nodes; null leaves one out)."""
    if not many:
        node = {"use": value} if isinstance(value, str) else value
        if not isinstance(node, Mapping):
            faults.append(f"{path} is {value!r}; it must be a {kind} plugin's name or a mapping with the key 'use'.")
            return value
        return _plugin(kind, path, dict(node), top, faults)
    if not isinstance(value, Mapping):
        faults.append(f"{path} is {value!r}; it must be a mapping of names to {kind} nodes, or a list of nodes with the key 'use'.")
        return value
    nodes = {name: {"use": name} | dict(node) if isinstance(node, Mapping) else node for name, node in value.items() if node is not None}
    return {name: _nested(f"{path}.{name}", node, kind, False, top, faults) for name, node in nodes.items()}


def _value(path: str, value: Any, hint: Any, top: Tree, faults: list[str]) -> Any:
    """One value, typed by OmegaConf; embedded weights that it names must exist."""
    role = hints.plugged(hint)
    if role and not (value is None and hints.is_optional(hint)):
        return _nested(path, value, *role, top, faults)
    allowed = hints.choices(hint)
    if value is False and "off" in allowed:  # YAML reads the bare word as a truth value
        value = "off"
    if allowed and isinstance(value, str) and value not in allowed:
        faults.append(unknown(f"value of {path}", value, allowed))
        return value
    schema = make_dataclass("Node", [("value", hints.annotation(hint), field(default=MISSING))])
    try:
        typed = OmegaConf.to_container(OmegaConf.merge(OmegaConf.structured(schema), {"value": value}))
        if isinstance(value, str) and embedded.is_reference(value):
            embedded.locate(value)
    except OmegaConfBaseException:
        faults.append(f"{path} is {value!r}; it must be {hints.name(hint)}.")
        return value
    except CheckpointError as error:
        faults.append(f"{path}: {error}")
        return value
    made = typed["value"]  # type: ignore[index,call-overload]
    if not _finite(made):
        faults.append(f"{path} is {value}; it must be finite, as a record holds no other numbers.")
    return made


def _finite(value: Any) -> bool:
    """False where a number in a plain value is infinite or not a number."""
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return all(map(_finite, inside)) and not (isinstance(value, float) and not isfinite(value))


def arguments(make: Callable[..., Any], node: Tree) -> Tree:
    """A checked node as keyword arguments."""
    known = plugins.schema(make)
    return {key: hints.argument(value, known[key].hint) for key, value in node.items() if key in known}
