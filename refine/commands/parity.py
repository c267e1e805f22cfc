"""``refine parity``: the same images scored by us and by the authors' packages."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from refine import config as configuration
from refine import display, images, prompts, runner
from refine.errors import ConfigError, InputError, UnknownName
from refine.types import Reward

PRESET = "public"  # the authors' packages read the published checkpoints, not the embedded models
AT_ONCE = 16  # images in memory
BACKENDS = ("native", "official")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Scores of one reward by both backends, in the order of the images, and what the official one runs on."""

    reward: str
    native: tuple[float, ...]
    official: tuple[float, ...]
    protocol: Mapping[str, Any]

    @property
    def differences(self) -> tuple[float, ...]:
        return tuple(abs(ours - theirs) for ours, theirs in zip(self.native, self.official, strict=True))


def execute(args: Namespace) -> None:
    """A table per reward and a line that sums it up."""
    nodes = chosen(configuration.load(args.preset or [PRESET], args.set).tree["rewards"], args.reward)
    files = images.files(map(Path, args.images))
    texts = texts_of(files, Path(args.prompts) if args.prompts else None)
    screen = display.console()
    for name, node in nodes.items():
        found = compare(name, node, files, texts)
        screen.print(table(found, files, texts))
        screen.print(summary(found))


def chosen(rewards: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """The rewards that have two backends, or those of them that were asked for."""
    able = {name: node for name, node in rewards.items() if "backend" in node}
    if not able:
        raise ConfigError(f"No reward of this preset has an official backend ({', '.join(rewards) or 'none'}). Give another --preset.")
    for name in wanted:
        if name not in able:
            raise UnknownName("reward with an official backend", name, able)
    return {name: node for name, node in able.items() if not wanted or name in wanted}


def texts_of(files: Sequence[Path], source: Path | None) -> list[str]:
    """One prompt per image: from the file, in order, or from the text beside each image."""
    if source is not None:
        texts = [prompt.text for prompt in prompts.read(source)]
        if len(texts) != len(files):
            raise InputError(f"{source} has {len(texts)} prompts for {len(files)} images; give one per image, in the order of their names.")
        return texts
    found = [(file, images.prompt_of(file)) for file in files]  # the same file may come twice
    if without := [file.name for file, text in found if text is None]:
        raise InputError(f"No prompt for {', '.join(without[:3])}{' and more' if len(without) > 3 else ''}: give --prompts FILE.")
    return [text for _, text in found if text is not None]


def compare(name: str, node: Mapping[str, Any], files: Sequence[Path], texts: Sequence[str]) -> Comparison:
    """Both backends, one after the other: two models at once may not fit."""
    official: Any = runner.make("reward", {**node, "backend": "official"})  # first: it fails where there is no environment
    theirs = scores(official, files, texts)
    official.close()
    ours = scores(runner.make("reward", {**node, "backend": "native"}), files, texts)
    return Comparison(name, tuple(ours), tuple(theirs), official.protocol)


def scores(reward: Reward, files: Sequence[Path], texts: Sequence[str]) -> list[float]:
    """One score per file; a few images are in memory at a time."""
    found: list[float] = []
    for start in range(0, len(files), AT_ONCE):
        pictures = [images.read(file).image for file in files[start : start + AT_ONCE]]
        found += reward.score(pictures, texts[start : start + AT_ONCE])
    return found


def table(found: Comparison, files: Sequence[Path], texts: Sequence[str]) -> Table:
    """Image, prompt, both scores, how far apart they are."""
    made = Table(title=found.reward, title_justify="left")
    made.add_column("image", overflow="fold")
    made.add_column("prompt", overflow="fold")
    for heading in (*BACKENDS, "difference"):
        made.add_column(heading, justify="right")
    for file, text, ours, theirs, apart in zip(files, texts, found.native, found.official, found.differences, strict=True):
        made.add_row(display.safe(file.name), display.short(text), f"{ours:.7f}", f"{theirs:.7f}", f"{apart:.2g}")
    return made


def summary(found: Comparison) -> str:
    """How many, the largest and the mean difference, and the versions behind the official scores."""
    apart = found.differences
    versions = ", ".join(f"{name} {value}" for name, value in found.protocol.items() if isinstance(value, str) and value[:1].isdigit())
    figures = f"largest difference {max(apart):.2g}, mean {sum(apart) / len(apart):.2g}"
    return f"{found.reward}: {len(apart)} pairs, {figures} (official: {versions or 'versions not told'})"
