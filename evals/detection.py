"""Real or generated: accuracy and average precision, per generator and as their mean (Wang et al. 2020; arXiv 2302.10174, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from refine.evals.statistics import Interval, wilson

BOUNDARY = 0.5  # above it a picture is called generated
RESAMPLES = 1_000
CHUNK = 100  # of them at once: a hundred weights for every picture
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detection:
    """One generator. Shares in [0, 1]; None where there are no pictures of that kind (real, fake; both, for the average precision)."""

    images: int
    accuracy: Interval
    real: float | None
    fake: float | None
    precision: Interval | None


def detection(probabilities: Sequence[float], fake: Sequence[bool]) -> Detection:
    """From the probability that each picture is generated, and whether it is. Needs at least one picture."""
    scores, truth = np.asarray(probabilities, np.float64), np.asarray(fake, np.bool_)
    right = (scores > BOUNDARY) == truth
    both = bool(truth.any() and not truth.all())
    return Detection(
        images=len(truth),
        accuracy=wilson(int(right.sum()), len(truth)),
        real=float(right[~truth].mean()) if not truth.all() else None,
        fake=float(right[truth].mean()) if truth.any() else None,
        precision=precision_interval(scores, truth) if both else None,
    )


def average_precision(scores: Floats, fake: Bools) -> float:
    """Area under the steps of the precision-recall curve, no interpolation; pictures of equal score count as one step.

    The order is by falling score, generated pictures are the positives. Needs at least one of them.
    """
    return float(_precisions(scores, fake, np.ones((1, len(scores))))[0])


def precision_interval(scores: Floats, fake: Bools, seed: int = 0) -> Interval:
    """Average precision with its 95 % interval: percentiles of a bootstrap within the real and within the generated pictures."""
    rng = np.random.default_rng(seed)
    drawn = [_precisions(scores, fake, _redrawn(fake, rng)) for _ in range(RESAMPLES // CHUNK)]
    low, high = np.quantile(np.concatenate(drawn), (0.025, 0.975))
    return Interval(average_precision(scores, fake), float(low), float(high))


def _redrawn(fake: Bools, rng: np.random.Generator) -> Floats:
    """(CHUNK, N) how often each picture is drawn, with replacement, among its own kind."""
    weights = np.zeros((CHUNK, len(fake)))
    for part in (np.flatnonzero(fake), np.flatnonzero(~fake)):
        weights[:, part] = rng.multinomial(len(part), np.full(len(part), 1 / len(part)), CHUNK)
    return weights


def _precisions(scores: Floats, fake: Bools, weights: Floats) -> Floats:
    """(R,) average precision where picture i counts ``weights[r, i]`` times; (N,), (N,), (R, N)."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # the end of each run of equal scores
    hits = np.cumsum(weights[:, order] * fake[order], axis=1)[:, last]
    called = np.cumsum(weights[:, order], axis=1)[:, last]
    gained = np.diff(hits, axis=1, prepend=0)
    return np.asarray((gained * hits / np.maximum(called, 1)).sum(1) / hits[:, -1])


def mean_accuracy(generators: Sequence[Detection], seed: int = 0, resamples: int = 10_000) -> Interval:
    """Plain mean over generators, however many pictures each has; 95 % bootstrap within each of them.

    Real pictures that generators share are drawn for each of them apart, so the interval is a little too narrow where there are any.
    """
    rng = np.random.default_rng(seed)
    drawn = np.mean([rng.binomial(one.images, one.accuracy.estimate, resamples) / one.images for one in generators], axis=0)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Interval(float(np.mean([one.accuracy.estimate for one in generators])), float(low), float(high))
