"""Several controllers as one: what any of them finds counts, and who found it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from refine.adapters import Detector, as_controller
from refine.errors import ConfigError
from refine.overlap import overlap
from refine.regions import union
from refine.types import Controller, Critique, Image, Region


class UnionController:
    """A ``Controller`` made of named others.

    Regions of different members that cover the same thing (intersection over union of at least ``same``) become one: all their pixels,
    the highest score, the words of both. An explanation says whose it is: "legion: The thumb is missing." The probability of being
    generated is the highest that a member states.
    """

    def __init__(self, members: Mapping[str, Controller | Detector], *, same: float = 0.5) -> None:
        if not members:
            raise ConfigError("A union needs members: a mapping of names to controllers.")
        if not 0 < same <= 1:
            raise ConfigError(f"same is {same}; it must be above 0 and at most 1 (1: only equal masks are joined).")
        self.members = {name: as_controller(member) for name, member in members.items()}
        self.same = same

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        """One critique per image: every member looks at all images once."""
        looks = {name: member.inspect(images) for name, member in self.members.items()}
        return [self._one(image, {name: critiques[index] for name, critiques in looks.items()}) for index, image in enumerate(images)]

    def _one(self, image: Image, critiques: Mapping[str, Critique]) -> Critique:
        found = [(name, signed(region, name)) for name, critique in critiques.items() for region in critique.regions]
        fakes = [critique.fake_probability for critique in critiques.values() if critique.fake_probability is not None]
        summary = " ".join(f"{name}: {critique.summary}" for name, critique in critiques.items() if critique.summary)
        return Critique(image.size, tuple(join(found, self.same)), summary, max(fakes, default=None))


def signed(region: Region, name: str) -> Region:
    """The region with its finder's name before the explanation."""
    return replace(region, explanation=f"{name}: {region.explanation or region.phrase}")


def join(found: Sequence[tuple[str, Region]], same: float) -> list[Region]:
    """(finder, region) pairs as regions, those of different finders joined where their masks agree; highest scores first."""
    groups: list[list[tuple[str, Region]]] = []
    for name, region in sorted(found, key=lambda pair: -pair[1].score):
        others = (group for group in groups if all(name != other for other, _ in group))
        group = next((one for one in others if agree(region, one[0][1], same)), None)
        if group is None:
            groups.append([(name, region)])
        else:
            group.append((name, region))
    return [union([region for _, region in group]) for group in groups]


def agree(a: Region, b: Region, same: float) -> bool:
    """True where the intersection is at least ``same`` of the union."""
    shared = overlap(a.mask, b.mask)
    return shared.both >= same * (shared.predicted + shared.true - shared.both)
