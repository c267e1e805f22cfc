"""Who can play which role: names for classes, imported only when they are used.

A name is looked up in the table below, then among the entry points of the group ``refine.plugins`` (called ``kind.name``), and else must be
spelled out as ``module:Class``. What is called is the class's own ``from_pretrained`` where it defines one, else its constructor;
the signature of that callable is the plugin's configuration schema. A controller or grader may also be a plain function of one image (see
``refine.adapters``): what it takes beside the image is configured.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any

from refine import adapters
from refine.errors import ConfigError, MissingDependency, UnknownName

GROUP = "refine.plugins"
REQUIRED: Any = inspect.Parameter.empty

TABLE: Mapping[str, Mapping[str, str]] = {
    "generator": {
        "diffusers": "refine.generators.adapter:DiffusersGenerator",
        "painter": "refine.stilllife.oracle:Painter",
    },
    "controller": {
        "legion": "refine.controllers.legion.controller:LegionController",
        "vlm": "refine.controllers.vlm:VlmController",
        "detector": "refine.controllers.detector:GradedDetector",
        "objects": "refine.controllers.objects:ObjectFinder",
        "yolo": "refine.controllers.yolo:YoloFinder",
        "union": "refine.controllers.union:UnionController",
        "oracle": "refine.stilllife.oracle:Oracle",
        "blind": "refine.stilllife.oracle:Blind",
    },
    "grader": {
        "clip": "refine.controllers.graders:ClipGrader",
        "reward": "refine.controllers.graders:RewardGrader",
    },
    "segmenter": {"sam": "refine.controllers.sam:SamSegmenter"},
    "chat": {
        "local": "refine.chats.local:LocalChat",
        "endpoint": "refine.chats.endpoint:Endpoint",
    },
    "reward": {
        "hps": "refine.evals.backends:hps",
        "imagereward": "refine.evals.backends:imagereward",
        "pickscore": "refine.evals.clip_rewards:PickScore",
        "clipscore": "refine.evals.clip_rewards:CLIPScore",
        "aesthetic": "refine.evals.clip_rewards:Aesthetic",
        "likeness": "refine.stilllife.oracle:Likeness",
    },
    "reviser": {
        "template": "refine.reviser:TemplateReviser",
        "llm": "refine.rewriter:Rewriter",
        "endpoint": "refine.rewriter:through_endpoint",
    },
    "policy": {
        "auto": "refine.policies:auto",
        "inpaint": "refine.policies:inpaint",
        "redraw": "refine.policies:redraw",
        "paper-inpaint": "refine.policies:paper_inpaint",
        "paper-regenerate": "refine.policies:paper_regenerate",
        "best-of-n": "refine.policies:best_of_n",
        "random-mask": "refine.policies:random_mask",
        "oracle-mask": "refine.policies:oracle_mask",
    },
}

# What an object must offer to play the role.
ROLES: Mapping[str, tuple[str, ...]] = {
    "generator": ("native_size", "grid", "fits", "draw", "inpaint", "cost"),
    "controller": ("inspect",),
    "reward": ("name", "score"),
    "reviser": ("revise",),
    "policy": ("decide",),
    "chat": ("ask",),
    "grader": ("grade",),
    "segmenter": ("segment",),
}

# Roles that a plain function can play.
ADAPTERS: Mapping[str, Callable[[Any], Any]] = {"controller": adapters.as_controller, "grader": adapters.as_grader}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a plugin: its type hint (Any where none is written) and default (``REQUIRED`` where there is none)."""

    name: str
    hint: Any
    default: Any

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


def names(kind: str) -> dict[str, str]:
    """Every known name of a kind and the ``module:Class`` behind it; the project's own names win."""
    prefix = f"{kind}."
    offered = {point.name.removeprefix(prefix): point.value for point in _entry_points() if point.name.startswith(prefix)}
    return offered | dict(TABLE[kind])


@functools.cache
def _entry_points() -> tuple[Any, ...]:
    return tuple(entry_points(group=GROUP))


def find(kind: str, name: str) -> Callable[..., Any]:
    """The callable that makes the plugin. Raises UnknownName, ConfigError or MissingDependency."""
    known = names(kind)
    target = known.get(name, name)
    module, separator, path = target.partition(":")
    if not separator:
        raise UnknownName(kind, name, known)
    made = _attribute(kind, _import(kind, name, module), target, path)
    if inspect.isclass(made) and "from_pretrained" in vars(made):
        made = made.from_pretrained  # type: ignore[attr-defined]
    if not callable(made):
        raise ConfigError(f"{kind} {name!r} is {type(made).__name__}, which cannot be called. Name a class or a function.")
    if kind in ADAPTERS and adapters.takes_an_image(made):
        return adapters.configured(made)
    return typing.cast(Callable[..., Any], made)


def _import(kind: str, name: str, module: str) -> Any:
    try:
        if not all(part.isidentifier() for part in module.split(".")):  # such as the path of a file
            raise ModuleNotFoundError(name=module)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        if module == missing or module.startswith(f"{missing}."):
            raise ConfigError(f"{kind} {name!r}: there is no module {missing!r}. Write module:Class, importable from here.") from error
        raise MissingDependency(missing.partition(".")[0], f"{kind} {name!r}") from error


def _attribute(kind: str, holder: Any, target: str, path: str) -> Any:
    for part in path.split("."):
        if not hasattr(holder, part):
            raise UnknownName(f"{kind} {target!r}: attribute", part, [one for one in vars(holder) if not one.startswith("_")])
        holder = getattr(holder, part)
    return holder


def schema(make: Callable[..., Any]) -> dict[str, Parameter]:
    """The arguments that can be configured, by name. ``*args`` and ``**kwargs`` are not: what has no name cannot be checked.

    What a ``functools.partial`` binds is no argument any more.
    """
    if isinstance(make, functools.partial):
        return {name: one for name, one in schema(make.func).items() if name not in make.keywords}
    hints = typing.get_type_hints(vars(make)["__init__"] if inspect.isclass(make) and "__init__" in vars(make) else make)
    factories = _factories(make)
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    listed = [one for one in inspect.signature(make).parameters.values() if one.kind not in variadic]
    return {one.name: Parameter(one.name, hints.get(one.name, Any), factories.get(one.name, one.default)) for one in listed}


def _factories(make: Callable[..., Any]) -> dict[str, Any]:
    """Fresh defaults of the dataclass fields that have a factory, which a signature cannot show."""
    fields = dataclasses.fields(make) if dataclasses.is_dataclass(make) else ()
    return {one.name: one.default_factory() for one in fields if one.default_factory is not dataclasses.MISSING}


def create(kind: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """Make the plugin and check that it can play its role."""
    made = find(kind, name)(**arguments)
    if kind in ADAPTERS:
        made = ADAPTERS[kind](made)
    lacking = [one for one in ROLES[kind] if not hasattr(made, one)]
    if lacking:
        raise ConfigError(f"{kind} {name!r} is a {type(made).__name__} without {', '.join(lacking)}. See refine.types.{kind.title()}.")
    return made
