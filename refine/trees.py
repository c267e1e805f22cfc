"""Configuration trees (plain nested mappings): read, merged and compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from refine.errors import ConfigError

Tree = dict[str, Any]
ROLES = ("generator", "controller", "reviser", "policy")


def parse(text: str, name: str) -> Tree:
    """YAML text to a tree. ``name`` is what an error calls it."""
    try:
        node = OmegaConf.create(text or "{}")
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    except AssertionError:  # OmegaConf's answer to a single number
        node = None
    if not isinstance(node, DictConfig):
        raise ConfigError(f"{name} must be a mapping of keys to values.")
    return plain(node)


def parse_override(text: str) -> Tree:
    """``a.b=1`` to a tree; the value is YAML. Raises ConfigError."""
    key, separator, _ = text.partition("=")
    if not separator or not all(key.split(".")):
        raise ConfigError(f"--set {text!r} must read key=value, for example budget.rounds=3.")
    try:
        return plain(OmegaConf.from_dotlist([text]))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"--set {text!r}: {' '.join(str(error).split())}") from error


def dump(tree: Mapping[str, Any]) -> str:
    """A tree as YAML text."""
    text: str = yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True)
    return text


def load(text: str, name: str) -> Tree:
    """What ``dump`` wrote, value for value; unlike ``parse``, which reads what people write, it follows no references."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} must be a mapping of keys to values.")
    return tree


def plain(node: DictConfig) -> Tree:
    """An OmegaConf node as plain containers, references between keys followed."""
    try:
        tree: Tree = OmegaConf.to_container(node, resolve=True)  # type: ignore[assignment]
    except OmegaConfBaseException as error:
        raise ConfigError(f"A reference in the configuration cannot be followed: {str(error).splitlines()[0]}") from error
    return tree


def merge(layers: Sequence[Tree]) -> Tree:
    """Later layers win, key by key; a node whose ``use`` changes starts afresh."""
    merged: Tree = {}
    for layer in map(spelled_out, layers):
        merged = _over(merged, layer)
    return merged


def _over(base: Tree, layer: Tree) -> Tree:
    """Mappings are merged key by key; anything else of the layer replaces what was there, and so does a node with another ``use``."""
    both = {key: _node_over(base[key], value) for key, value in layer.items() if isinstance(value, dict) and key in base}
    return base | layer | both


def _node_over(old: Any, new: Tree) -> Tree:
    below = {"use": old} if isinstance(old, str) else old
    return new if not isinstance(below, dict) or _replaces(below, new) else _over(below, new)


def spelled_out(layer: Tree) -> Tree:
    """The layer with ``controller: oracle`` written as ``controller: {use: oracle}``, for rewards as well. A list of nodes within them
    becomes the mapping that it is short for, so that a later layer can change one of them."""

    def node(value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else _named(value)

    full = {key: node(value) if key in ROLES else value for key, value in layer.items()}
    if isinstance(rewards := full.get("rewards"), Mapping):
        full["rewards"] = {name: node(value) for name, value in rewards.items()}
    return full


def _named(value: Any) -> Any:
    """``[{use: a}, {use: b}]`` → ``{a: {use: a}, b: {use: b}}``, at any depth; the second of a name is called ``a-2``."""
    if isinstance(value, dict):
        return {key: _named(one) for key, one in value.items()}
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) and isinstance(one.get("use"), str) for one in value):
        return value
    named: Tree = {}
    for one in map(_named, value):
        count = 1 + sum(other["use"] == one["use"] for other in named.values())
        named[one["use"] if count == 1 else f"{one['use']}-{count}"] = one
    return named


def _replaces(old: Tree, new: Tree) -> bool:
    return "use" in new and new["use"] != old.get("use")


def differences(old: Tree, new: Tree) -> list[str]:
    """``key: old → new`` for every value that differs."""
    before, after = dict(_flat(old)), dict(_flat(new))
    absent = "(absent)"
    keys = [key for key in before | after if before.get(key, absent) != after.get(key, absent)]
    return [f"{key}: {before.get(key, absent)} → {after.get(key, absent)}" for key in keys]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
