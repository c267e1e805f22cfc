"""Presets: the YAML files in configs/, or a file of the user's own.

The header comment of a preset says what it is, the command, what it costs, the hardware it needs and what to expect. The key ``base``
names presets that it stands on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from refine.errors import ConfigError, UnknownName
from refine.trees import Tree, merge, parse

DEFAULT = "mini"
FACTS = ("command", "cost", "hardware", "expect")
FOLDER = "refine.configs"


@dataclass(frozen=True, slots=True)
class Preset:
    """What the header of a preset says of it."""

    name: str
    about: str
    facts: Mapping[str, str]


def names() -> list[str]:
    """The presets that ship with the package."""
    return sorted(entry.name.removesuffix(".yaml") for entry in files(FOLDER).iterdir() if entry.name.endswith(".yaml"))


def text(name: str) -> str:
    """The YAML text of a preset (a name, or the path of a .yaml file)."""
    if name.endswith((".yaml", ".yml")):
        try:
            return Path(name).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the preset file {name}: {error}") from error
    if name not in names():
        raise UnknownName("preset", name, names())
    return (files(FOLDER) / f"{name}.yaml").read_text(encoding="utf-8")


def read(name: str, above: tuple[str, ...] = ()) -> Tree:
    """A preset as a plain tree, its bases merged below it."""
    if name in above:
        raise ConfigError(f"Preset {name} stands on itself: {' → '.join((*above, name))}.")
    tree = parse(text(name), f"Preset {name}")
    bases = tree.pop("base", [])
    named = [bases] if isinstance(bases, str) else bases
    if not isinstance(named, list) or not all(isinstance(base, str) for base in named):
        raise ConfigError(f"Preset {name}: base is {bases!r}; it must be a preset's name or a list of names.")
    return merge([*(read(base, (*above, name)) for base in named), tree])


def describe(name: str) -> Preset:
    """The header comment of a preset, taken apart."""
    header: list[str] = []
    for line in text(name).splitlines():
        if not line.startswith("#"):
            break
        header.append(line.removeprefix("#").strip())
    about: list[str] = []
    facts: dict[str, str] = {}
    latest = ""
    for line in header:
        match = re.match(rf"({'|'.join(FACTS)}):\s*(.*)", line)
        if match:
            latest = match[1]
            facts[latest] = match[2]
        elif latest:
            facts[latest] += f" {line}"
        else:
            about.append(line)
    return Preset(name, " ".join(about), facts)
