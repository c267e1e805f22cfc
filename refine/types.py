"""The nouns of refine, and the roles that pass them around.

Frames and units, everywhere in the project:
    image   RGB ``PIL.Image``, width × height pixels
    mask    (H, W) bool array, True inside, in the frame of the image it was found in
    box     (x0, y0, x1, y1) pixels, x1 and y1 exclusive
    score   float; an artifact score is in [0, 1], a reward has its own scale (higher is better)
Pure: numpy and Pillow only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import PIL.Image

Image: TypeAlias = PIL.Image.Image
Mask: TypeAlias = npt.NDArray[np.bool_]
Heat: TypeAlias = npt.NDArray[np.float32]
Box: TypeAlias = tuple[int, int, int, int]
Category: TypeAlias = Literal["physics", "structure", "distortion"]
Scores: TypeAlias = Mapping[str, float]

CATEGORIES: tuple[Category, ...] = ("physics", "structure", "distortion")


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """One fault: where it is (mask), what it is (phrase), why it is wrong (explanation)."""

    mask: Mask
    phrase: str
    explanation: str = ""
    category: Category | None = None
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class Critique:
    """What a controller says of one image of ``size`` (width, height).

    doubt: artifact mass, in pixels, that is to be expected beyond the regions, from findings too unsure to be any.
    """

    size: tuple[int, int]
    regions: tuple[Region, ...] = ()
    summary: str = ""
    fake_probability: float | None = None
    doubt: float = 0.0

    @cached_property
    def heat(self) -> Heat:
        """(H, W) float32 in [0, 1]: per pixel, the highest score of a region that covers it."""
        heat = np.zeros((self.size[1], self.size[0]), np.float32)
        for region in self.regions:
            np.maximum(heat, np.float32(region.score), out=heat, where=region.mask)
        return heat

    @property
    def area(self) -> float:
        """Fraction of the image covered by the union of all regions."""
        return float((self.heat > 0).mean())

    @property
    def mass(self) -> float:
        """Sum of the heat, in pixels."""
        return float(self.heat.sum())

    @property
    def expected(self) -> float:
        """Artifact mass to be expected, in pixels: that of the regions, and the doubt."""
        return self.mass + self.doubt


@dataclass(frozen=True, slots=True, eq=False)
class InpaintJob:
    """One masked repaint at the generator's own size.

    ``mask`` is (H, W) bool, True where new content is wanted. ``strength`` in (0, 1]: the share of the noise schedule that is
    walked. ``soft``: (H, W) float32 in [0, 1], how free each pixel of the mask is, so that an edge is redrawn less the farther out it
    lies; None: all of the mask is free. The generator paints the whole picture; pasting back is the loop's business.
    """

    image: Image
    mask: Mask
    prompt: str
    seed: int
    negative_prompt: str = ""
    strength: float = 0.85
    soft: Heat | None = None


@dataclass(frozen=True, slots=True)
class Inpaint:
    """Repair these regions in place (a set of regions that are repainted and judged as one)."""

    region: Region
    prompt: str
    negative_prompt: str = ""
    dropped: str = ""  # words of the prompt beyond the text encoder's budget
    note: str = ""  # what else a reader of the record should know of these words


@dataclass(frozen=True, slots=True)
class Redraw:
    """Draw the whole image again. ``first``: one of several first drawings, a choice before anything is repaired."""

    prompt: str
    negative_prompt: str = ""
    dropped: str = ""
    note: str = ""
    first: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Nothing more to do, and why."""

    reason: str


Action: TypeAlias = Inpaint | Redraw | Stop


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One image that was tried, with everything it was judged on. ``box`` is the crop that was repainted (None: all of it).

    ``blank``: what the generator gave was one flat colour, as a safety checker gives it.
    """

    image: Image
    prompt: str
    seed: int
    critique: Critique
    scores: Scores
    strength: float | None = None
    box: Box | None = None
    crop_scores: Scores = field(default_factory=dict)
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Accepted or not, a reason code, and the numbers it was decided on."""

    accepted: bool
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """One action on one image: its candidates, one verdict each, and which one was kept (None: none)."""

    action: Action
    candidates: tuple[Candidate, ...]
    verdicts: tuple[Verdict, ...]
    kept: int | None
    mask: Mask | None = None  # pixels that the repair may change; None: all
    kept_pixels_sha256: str | None = None  # hash of the pixels outside ``mask``, equal before and after


@dataclass(frozen=True, slots=True, eq=False)
class Round:
    """One turn of the loop: the critique it started from and what was tried."""

    index: int
    critique: Critique
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One image's whole story; rejected candidates included."""

    prompt: str
    seed: int
    first: Candidate
    best: Candidate
    rounds: tuple[Round, ...]
    stop_reason: str
    evaluations: int = 0  # denoiser evaluations spent, the first draw included
    seconds: float = 0.0

    @property
    def drawing(self) -> tuple[int, int]:
        """Which of how many first drawings was gone on from, counted from 1, that of the record's own seed; (1, 1) without a choice."""
        attempts = (attempt for turn in self.rounds for attempt in turn.attempts)
        choice = next((one for one in attempts if isinstance(one.action, Redraw) and one.action.first), None)
        return (1, 1) if choice is None else (1 if choice.kept is None else choice.kept + 2, len(choice.candidates) + 1)

    @property
    def repairs(self) -> tuple[Attempt, ...]:
        """Every attempt to make the image better; a choice among first drawings is none."""
        attempts = (attempt for turn in self.rounds for attempt in turn.attempts)
        return tuple(one for one in attempts if not (isinstance(one.action, Redraw) and one.action.first))


@dataclass(frozen=True, slots=True)
class Revision:
    """A repair prompt in positive words, and what must not be painted. ``note``: what a reader of the record should know of it."""

    prompt: str
    negative_prompt: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """One question to a chat model, with an image to look at or without."""

    text: str
    image: Image | None = None
    system: str = ""


class Generator(Protocol):
    """Draws and repaints. One integer seed per image; equal seeds and batch give equal bytes."""

    @property
    def native_size(self) -> int:
        """The side, in pixels, the model draws best at."""

    @property
    def grid(self) -> int:
        """Sides must be multiples of this; masks act on cells of this size."""

    def fits(self, prompt: str) -> tuple[str, str]:
        """The part of the prompt that the text encoder reads, and the part that it would cut."""

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], negative_prompts: Sequence[str] | None = None) -> list[Image]: ...

    def inpaint(self, jobs: Sequence[InpaintJob]) -> list[Image]: ...

    def cost(self, strength: float | None = None) -> int:
        """Denoiser evaluations of one image: a draw (None) or a repaint at this strength."""


class Controller(Protocol):
    """Finds and explains faults. The critique is in the frame of the image given."""

    def inspect(self, images: Sequence[Image]) -> list[Critique]: ...


class Reviser(Protocol):
    """Turns what is wrong into what should be there."""

    def revise(self, prompt: str, critique: Critique, region: Region | None) -> Revision:
        """Repair prompt for one region (or, with None, for a whole new image). ``prompt`` is the user's own."""


class Reward(Protocol):
    """A human-preference score; always against the user's own prompt."""

    @property
    def name(self) -> str: ...

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]: ...


class Chat(Protocol):
    """A model that answers questions in words."""

    def ask(self, questions: Sequence[Question]) -> list[str]:
        """One answer each. Raises AnswerError where none can be had."""


class Segmenter(Protocol):
    """Outlines what is in a box."""

    def segment(self, image: Image, boxes: Sequence[Box]) -> list[Mask]:
        """One (H, W) mask per box, in the frame of the image, not empty and within its box."""


class Grader(Protocol):
    """Tells a faulty thing from a healthy one."""

    def grade(self, crops: Sequence[Image], phrases: Sequence[str]) -> list[float]:
        """The probability, 0 to 1, that each crop shows its thing (a phrase such as "hand") with a fault."""
