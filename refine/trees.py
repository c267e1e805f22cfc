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
        merged = _over(_without_replaced(merged, layer), layer)
    return merged


def _over(base: Tree, layer: Tree) -> Tree:
    """Mappings are merged key by key; anything else of the layer replaces what was there."""
    both = {key: _over(base[key], value) for key, value in layer.items() if isinstance(value, dict) and isinstance(base.get(key), dict)}
    return base | layer | both


def spelled_out(layer: Tree) -> Tree:
    """The layer with ``controller: oracle`` written as ``controller: {use: oracle}``, for rewards as well."""

    def node(value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    full = {key: node(value) if key in ROLES else value for key, value in layer.items()}
    if isinstance(rewards := full.get("rewards"), Mapping):
        full["rewards"] = {name: node(value) for name, value in rewards.items()}
    return full


def _without_replaced(base: Tree, layer: Tree) -> Tree:
    kept = {key: value for key, value in base.items() if key not in ROLES or not _replaces(value, layer.get(key))}
    if isinstance(kept.get("rewards"), Mapping) and isinstance(new := layer.get("rewards"), Mapping):
        kept["rewards"] = {key: value for key, value in kept["rewards"].items() if not _replaces(value, new.get(key))}
    return kept


def _replaces(old: Any, new: Any) -> bool:
    return isinstance(old, Mapping) and isinstance(new, Mapping) and "use" in new and new["use"] != old.get("use")


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
