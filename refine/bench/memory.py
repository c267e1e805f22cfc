"""What arms have in common is computed once: the first drawing, the first look at it, the repaints that two arms would try alike.

Whole calls are remembered, by the bytes of all that goes in (pictures, masks, words, seeds, strengths), and not single pictures: what else
is in a batch may decide a picture's last bits. So a call that is answered from memory gives exactly what it would have computed. Arms that
share a picture but not its batch share nothing.

Nothing is free: the seconds that a call took are charged to every arm that would have made it (``Memory.now``).
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import PIL.Image

from refine.stages import Models
from refine.types import Controller, Critique, Generator, Image, InpaintJob, Reward

T = TypeVar("T")


LIMIT = 2**30  # bytes of pictures and masks that are kept


@dataclass(slots=True)
class Memory:
    """Answers of calls and the seconds that they took, the latest ``limit`` bytes of them.

    credit: seconds that answers from memory would have taken.
    """

    limit: int = LIMIT
    credit: float = 0.0
    answers: OrderedDict[bytes, tuple[Any, float, int]] = field(default_factory=OrderedDict)
    held: int = 0

    def now(self) -> float:
        """A clock on which an answer from memory takes as long as it took to compute."""
        return time.monotonic() + self.credit

    def recall(self, key: bytes, call: Callable[[], T]) -> T:
        """The answer of ``call``, from memory where an equal call was made."""
        if key in self.answers:
            answer, seconds, _ = self.answers[key]
            self.answers.move_to_end(key)
            self.credit += seconds
            return answer  # type: ignore[no-any-return]
        began = self.now()
        answer = call()
        self.answers[key] = answer, self.now() - began, weight(answer)
        self.held += weight(answer)
        while self.held > self.limit:
            self.held -= self.answers.popitem(last=False)[1][2]
        return answer

    def forget(self) -> None:
        """Answers are of use for one batch of samples; the next one has others."""
        self.answers.clear()
        self.held = 0


def weight(answer: Any) -> int:
    """Bytes of the pictures and masks in a list of pictures or critiques; anything else is light."""
    total = 0
    for one in answer:
        if isinstance(one, PIL.Image.Image):
            total += one.width * one.height * len(one.getbands())
        elif isinstance(one, Critique):
            total += sum(region.mask.nbytes for region in one.regions)
    return total


def digest(parts: Iterable[object]) -> bytes:
    """SHA-256 of pictures (size, mode and bytes), arrays (shape and bytes) and plain values, in this order."""
    made = hashlib.sha256()
    for part in parts:
        if hasattr(part, "tobytes"):
            made.update(repr((getattr(part, "size", None), getattr(part, "shape", None), getattr(part, "mode", None))).encode())
            made.update(part.tobytes())
        else:
            made.update(repr(part).encode() + b"\0")
    return made.digest()


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A ``Generator`` with a memory."""

    generator: Generator
    memory: Memory

    @property
    def native_size(self) -> int:
        return self.generator.native_size

    @property
    def grid(self) -> int:
        return self.generator.grid

    def fits(self, prompt: str) -> tuple[str, str]:
        return self.generator.fits(prompt)

    def cost(self, strength: float | None = None) -> int:
        return self.generator.cost(strength)

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]:
        key = digest(("draw", id(self.generator), list(prompts), list(seeds), negative_prompts and list(negative_prompts)))
        return self.memory.recall(key, lambda: self.generator.draw(prompts, seeds, negative_prompts))

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]:
        words = [(job.prompt, job.negative_prompt, job.seed, job.strength) for job in jobs]
        seen = [part for job in jobs for part in (job.image, job.mask, job.soft)]
        return self.memory.recall(digest(("inpaint", id(self.generator), words, *seen)), lambda: self.generator.inpaint(jobs))


@dataclass(frozen=True, slots=True, eq=False)
class Looking:
    """A ``Controller`` with a memory."""

    controller: Controller
    memory: Memory

    def inspect(self, images: Sequence[Image]) -> list[Critique]:
        return self.memory.recall(digest(("inspect", id(self.controller), *images)), lambda: self.controller.inspect(images))


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """A ``Reward`` with a memory."""

    reward: Reward
    memory: Memory

    @property
    def name(self) -> str:
        return self.reward.name

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        key = digest(("score", id(self.reward), list(prompts), *images))
        return self.memory.recall(key, lambda: self.reward.score(images, prompts))


def remembering(models: Models, memory: Memory) -> Models:
    """The same models, their calls answered from memory where they can be."""
    rewards = tuple(Scoring(reward, memory) for reward in models.rewards)
    return replace(models, generator=Drawing(models.generator, memory), controller=Looking(models.controller, memory), rewards=rewards)
