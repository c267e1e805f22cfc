"""From torch generators to one seed per image.

refine derives a seed for every draw of an image's story from that image's seed, so of a generator only its seed is used.
Several images from one generator get its seed and those that follow, as ``refine run --seed`` counts them.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import torch

from refine.errors import InputError

LIMIT = 2**63


def seeds(generator: Any, count: int, draws: bool = True) -> list[int]:
    """One seed per image, from None (random), one generator, or a list with one for each image. Raises InputError.

    draws: whether first images are drawn, which takes a CPU generator; for images that are there already, its device means nothing.
    """
    if generator is None:
        return _following(secrets.randbits(31), count)
    if not isinstance(generator, Sequence):
        return _following(_seed(generator, draws), count)
    if len(generator) != count:
        raise InputError(f"{len(generator)} generators for {count} images. Give one per image, or a single one for all.")
    return [_seed(one, draws) for one in generator]


def fresh(generator: Any) -> Any:
    """The generator, or, where it was used before, one that starts from its next number; what was given is moved on, so that
    a second call with it gives other images, as in every pipeline of diffusers. Lists are treated one by one."""
    if isinstance(generator, list | tuple):
        return [fresh(one) for one in generator]
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        return generator
    untouched = torch.Generator("cpu").manual_seed(generator.initial_seed())
    used = not torch.equal(untouched.get_state(), generator.get_state())
    drawn = int(torch.randint(2**31, (1,), generator=generator))
    return torch.Generator("cpu").manual_seed(drawn) if used else untouched


def _following(first: int, count: int) -> list[int]:
    return [(first + index) % LIMIT for index in range(count)]


def _seed(generator: Any, draws: bool) -> int:
    if not isinstance(generator, torch.Generator):
        kind = type(generator).__name__
        hint = f"torch.Generator('cpu').manual_seed({generator})" if isinstance(generator, int) else "torch.Generator('cpu')"
        raise InputError(f"generator is {generator!r} ({kind}); it must be a torch.Generator: {hint}.")
    if draws and generator.device.type != "cpu":
        raise InputError(
            f"The generator lives on {generator.device}. refine draws noise on the CPU, so that a seed gives the same image on any "
            f"device: torch.Generator('cpu').manual_seed({generator.initial_seed()})."
        )
    return generator.initial_seed() % LIMIT
