"""The stages of the loop, batched: each calls one model once for everything that waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from refine import regions, repair
from refine.adapters import as_controller
from refine.errors import ConfigError, InputError
from refine.gate import is_flat
from refine.policy import Budget, Policy
from refine.seeds import derive
from refine.types import (
    Candidate,
    Controller,
    Critique,
    Generator,
    Image,
    Inpaint,
    InpaintJob,
    Mask,
    Redraw,
    Region,
    Reviser,
    Reward,
    Scores,
)


@dataclass(frozen=True, slots=True)
class Models:
    """Who does the work. ``truth`` knows the real faults; only a benchmark has it, and only the policy ``oracle-mask`` asks it.

    A function from an image to masks may stand for the controller (see ``refine.adapters``).
    """

    generator: Generator
    controller: Controller
    rewards: tuple[Reward, ...]
    reviser: Reviser
    truth: Controller | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "controller", as_controller(self.controller))


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: ``done`` of ``total`` images (or candidates) of a stage (draw, inspect, score, repair) in a round (0: before any)."""

    stage: str
    done: int
    total: int
    round: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One repair to be tried: what, where, from which image, with which seeds and strengths (None: a redraw)."""

    prompt: str
    action: Inpaint | Redraw
    where: repair.Plan | None
    before: Candidate
    draws: tuple[tuple[float | None, int], ...]
    cost: int


def ignore(event: Event) -> None:
    """The observer that does nothing."""


def go_on(turn: int, best: Sequence[Candidate]) -> bool:
    """No interruption."""
    return True


def check(policy: Policy, models: Models, budget: Budget, drawn: bool) -> None:
    """Raises ConfigError where the policy or the budget cannot work with these models."""
    if policy.masks == "true" and models.truth is None:
        raise ConfigError("the policy oracle-mask needs the true masks, which only refine bench has, on faults of its own making.")
    price = models.generator.cost() if drawn else 0
    if budget.evaluations is not None and budget.evaluations < price:
        raise ConfigError(f"budget.evaluations is {budget.evaluations}, but one image takes {price} to draw. Give that much, or more.")


def begin(
    prompts: Sequence[str], seeds: Sequence[int], images: Sequence[Image | None] | None, models: Models, observe: Callable[[Event], None]
) -> tuple[list[Candidate], list[int]]:
    """Draw what is not given; inspect and score all. Returns the first candidates and the denoiser evaluations of each."""
    given: list[Image | None] = list(images) if images is not None else [None] * len(prompts)
    if not len(prompts) == len(seeds) == len(given):
        raise InputError(f"{len(prompts)} prompts, {len(seeds)} seeds and {len(given)} images: there must be one of each per image.")
    missing = [index for index, image in enumerate(given) if image is None]
    observe(Event("draw", 0, len(missing)))
    drawn = models.generator.draw([prompts[i] for i in missing], [seeds[i] for i in missing]) if missing else []
    observe(Event("draw", len(missing), len(missing)))
    for index, image in zip(missing, drawn, strict=True):
        given[index] = image
    ready = [image for image in given if image is not None]
    critiques, scores = examine(ready, prompts, models, observe, 0)
    price = models.generator.cost() if missing else 0
    costs = [price if index in set(missing) else 0 for index in range(len(ready))]
    firsts = [Candidate(image, p, s, c, r) for image, p, s, c, r in zip(ready, prompts, seeds, critiques, scores, strict=True)]
    return firsts, costs


def examine(
    images: Sequence[Image], prompts: Sequence[str], models: Models, observe: Callable[[Event], None], turn: int
) -> tuple[list[Critique], list[dict[str, float]]]:
    """Inspect and score whole images; the prompts are the user's own."""
    observe(Event("inspect", 0, len(images), turn))
    critiques = models.controller.inspect(images) if images else []
    observe(Event("inspect", len(images), len(images), turn))
    scores = score(images, prompts, models, observe, turn)
    return critiques, scores


def score(
    images: Sequence[Image], prompts: Sequence[str], models: Models, observe: Callable[[Event], None], turn: int
) -> list[dict[str, float]]:
    """Every reward for every image."""
    observe(Event("score", 0, len(images), turn))
    columns = {reward.name: reward.score(images, prompts) if images else [] for reward in models.rewards}
    observe(Event("score", len(images), len(images), turn))
    return [{name: column[index] for name, column in columns.items()} for index in range(len(images))]


def trial(
    prompt: str,
    seed: int,
    path: tuple[int, int],
    best: Candidate,
    target: Region | None,
    policy: Policy,
    models: Models,
    purse: int | None,
) -> Trial | None:
    """What to try for one region (None: the whole image); as many candidates as ``purse`` evaluations pay for, None for none."""
    generator = models.generator
    revision = repair.words(prompt, best, target, policy, models.reviser)
    text, dropped = generator.fits(revision.prompt)
    negative, beyond = generator.fits(revision.negative_prompt)
    note = "; ".join(filter(None, (revision.note, beyond and f"the negative prompt's end is not read: {beyond!r}")))
    action = Inpaint(target, text, negative, dropped, note) if target is not None else Redraw(text, negative, dropped, note)
    strengths: Sequence[float | None] = policy.strengths * policy.seeds if target is not None else [None] * policy.redraws
    draws: list[tuple[float | None, int]] = []
    cost = 0
    for index, strength in enumerate(strengths):
        price = generator.cost(strength)
        if purse is not None and cost + price > purse:
            continue
        draws.append((strength, derive(seed, *path, index)))
        cost += price
    where = repair.plan(action, best.image, policy, generator) if draws and isinstance(action, Inpaint) else None
    return Trial(prompt, action, where, best, tuple(draws), cost) if draws else None


def opening(trial: Trial) -> Trial:
    """The trial, its drawings marked as first ones."""
    assert isinstance(trial.action, Redraw)
    return replace(trial, action=replace(trial.action, first=True))


def propose(trials: Sequence[Trial], models: Models, observe: Callable[[Event], None], turn: int) -> list[tuple[Trial, list[Candidate]]]:
    """Paint, inspect and score all candidates of all trials. Each trial comes back with the image it starts from scored on its crop."""
    if not trials:
        return []
    trials = with_crop_scores(trials, models, observe, turn)
    flat = [(trial, strength, seed) for trial in trials for strength, seed in trial.draws]
    observe(Event("repair", 0, len(flat), turn))
    painted = paint(flat, models.generator)
    images = [image for image, _ in painted]
    observe(Event("repair", len(flat), len(flat), turn))
    critiques, scores = examine(images, [trial.prompt for trial, _, _ in flat], models, observe, turn)
    crops = crop_scores([(trial, image) for (trial, _, _), image in zip(flat, images, strict=True)], models, observe, turn)
    made = [
        Candidate(image, trial.action.prompt, seed, critique, score, strength, trial.where.box if trial.where else None, crop, blank)
        for (trial, strength, seed), (image, blank), critique, score, crop in zip(flat, painted, critiques, scores, crops, strict=True)
    ]
    rest = iter(made)
    return [(trial, [next(rest) for _ in trial.draws]) for trial in trials]


def paint(flat: Sequence[tuple[Trial, float | None, int]], generator: Generator) -> list[tuple[Image, bool]]:
    """All repaints in one call, all redraws in another; each finished image, and whether the generator's own picture was blank."""
    done: dict[int, tuple[Image, bool]] = {}
    jobs: dict[int, InpaintJob] = {}
    redraws: list[int] = []
    for index, (trial, strength, seed) in enumerate(flat):
        if isinstance(trial.action, Inpaint):
            assert trial.where is not None
            assert strength is not None
            jobs[index] = repair.job(trial.where, trial.action, trial.before.image, strength, seed)
        else:
            redraws.append(index)
    for index, painted in zip(jobs, generator.inpaint(list(jobs.values())) if jobs else [], strict=True):
        trial = flat[index][0]
        assert trial.where is not None
        done[index] = repair.put_back(trial.where, trial.before.image, painted), is_flat(painted)
    actions = [flat[index][0].action for index in redraws]
    drawn = (
        generator.draw([a.prompt for a in actions], [flat[i][2] for i in redraws], [a.negative_prompt for a in actions]) if redraws else []
    )
    for index, image in zip(redraws, drawn, strict=True):
        done[index] = repair.fit(image, flat[index][0].before.image.size), is_flat(image)
    return [done[index] for index in range(len(flat))]


def with_crop_scores(trials: Sequence[Trial], models: Models, observe: Callable[[Event], None], turn: int) -> list[Trial]:
    """The same trials, the image they start from scored on the crop as well."""
    scores = crop_scores([(trial, trial.before.image) for trial in trials], models, observe, turn)
    return [replace(trial, before=replace(trial.before, crop_scores=crop)) for trial, crop in zip(trials, scores, strict=True)]


def crop_scores(pairs: Sequence[tuple[Trial, Image]], models: Models, observe: Callable[[Event], None], turn: int) -> list[Scores]:
    """Every reward on every repaired crop; empty where the crop is the whole image."""
    small = [i for i, (trial, image) in enumerate(pairs) if not repair.whole(trial.action, trial.where, image)]
    crops = [pairs[i][1].crop(where.box) for i in small if (where := pairs[i][0].where) is not None]
    rows = dict(zip(small, score(crops, [pairs[i][0].prompt for i in small], models, observe, turn), strict=True)) if small else {}
    return [rows.get(index, {}) for index in range(len(pairs))]


def prove(before: Image, options: Sequence[Candidate], mask: Mask | None) -> str | None:
    """The hash of the pixels outside the mask, the same for the image before and every candidate; None where all may change."""
    if mask is None:
        return None
    proof = regions.kept_hash(before, mask)
    assert all(regions.kept_hash(option.image, mask) == proof for option in options), "a repair changed pixels outside its mask"
    return proof
