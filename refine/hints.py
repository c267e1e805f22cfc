"""From a Python type hint to what a configuration can hold, and from there back to an argument."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refine import embedded
from refine.types import Chat, Controller, Grader, Reward, Segmenter

DTYPES = ("float32", "float16", "bfloat16")
PLAIN = (int, float, str, bool)
ROLES: Mapping[Any, str] = {Controller: "controller", Reward: "reward", Chat: "chat", Grader: "grader", Segmenter: "segmenter"}


def annotation(hint: Any) -> Any:
    """The OmegaConf annotation for a hint: plain types, lists and string-keyed mappings of them; Any for everything else."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if _is_dtype(hint) or hint is Path:
        return str
    if origin is typing.Literal:
        return str if all(isinstance(one, str) for one in arguments) else Any
    if origin in (typing.Union, types.UnionType):
        return _union(arguments)
    if origin in (tuple, list, Sequence):
        same = len(arguments) == 1 or arguments[1:] == (...,)
        return list[annotation(arguments[0]) if same else Any]  # type: ignore[misc]
    if origin in (dict, Mapping):
        return dict[str, annotation(arguments[1])]  # type: ignore[misc]
    return hint if hint in PLAIN else Any


def _union(arguments: tuple[Any, ...]) -> Any:
    kinds = [one for one in arguments if one is not types.NoneType]
    inner = str if str in kinds else annotation(kinds[0]) if len(kinds) == 1 else Any
    return inner if inner is Any or len(kinds) == len(arguments) else inner | None


def plugged(hint: Any) -> tuple[str, bool] | None:
    """The kind of plugin that an argument is, and whether it is a mapping of names to them; None for a plain value.

    A plain function that a hint allows beside a plugin changes nothing.
    """
    if _is_union(hint):
        return next(filter(None, map(plugged, typing.get_args(hint))), None)
    if typing.get_origin(hint) in (dict, Mapping):
        one = plugged(typing.get_args(hint)[1])
        return (one[0], True) if one else None
    return (ROLES[hint], False) if isinstance(hint, type) and hint in ROLES else None


def is_optional(hint: Any) -> bool:
    """True where None is allowed."""
    return _is_union(hint) and types.NoneType in typing.get_args(hint)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def choices(hint: Any) -> tuple[str, ...]:
    """The values a hint allows, where it lists them; else nothing."""
    if _is_dtype(hint):
        return DTYPES
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if str in typing.get_args(hint):
            return ()
        return next(filter(None, map(choices, typing.get_args(hint))), ())
    listed = typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()
    return tuple(one for one in listed if isinstance(one, str))


def plain(value: Any) -> Any:
    """A default as a configuration can hold it: paths and dtypes become text, tuples lists."""
    if isinstance(value, Path) or _is_dtype(type(value)) or type(value).__module__ == "torch":
        return str(value).removeprefix("torch.")
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def argument(value: Any, hint: Any) -> Any:
    """A configured value as the callable wants it: tuples, dtypes, paths of embedded weights."""
    if value is None:
        return None
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if any(map(_is_dtype, members)) and value in DTYPES:
        import torch

        return getattr(torch, value)
    if isinstance(value, list) and any(typing.get_origin(one) is tuple for one in members):
        return tuple(value)
    return embedded.resolve(value) if isinstance(value, str) else value


def name(hint: Any) -> str:
    """How a hint is called in a message."""
    plain_type = isinstance(hint, type) and not typing.get_args(hint)
    return " or ".join(choices(hint)) or (hint.__name__ if plain_type else str(hint).replace("typing.", ""))


def _is_dtype(hint: Any) -> bool:
    return getattr(hint, "__module__", "") == "torch" and getattr(hint, "__name__", "") == "dtype"
