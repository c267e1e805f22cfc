"""How likely a finding of LEGION is a real fault: a logistic score over the evidence behind it, fitted on images known clean and faulty.

The published weights never saw a clean image and report artifacts on every photograph, so a critique needs a stop rule of its own. The
raw score of a region orders findings badly; five numbers together do better: how sure the mask is, how sure the [SEG] token and the
phrase are, how large the region is, and what the detector says of the whole image (Platt 1999, with L2 as in scikit-learn's default).
The operating point is part of the fit: a score of 0.5 is where the wanted share of clean images keeps no region.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from refine.errors import CheckpointError, InputError
from refine.types import Mask

if TYPE_CHECKING:
    from refine.controllers.legion.controller import Evidence, Inspection

FEATURES = ("mask", "seg", "phrase", "area", "fake")
FILE = "calibration.json"
OPERATING_POINT = 0.5
LEAST_IMAGES = 20  # of each sort
LEAST_SPREAD = 0.02  # of a feature, in its own units (logarithms)
_EDGE = 1e-4  # probabilities are kept this far from 0 and 1

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """weights and bias of a logistic score over ``FEATURES``. ``figures``: what was measured when it was fitted."""

    weights: tuple[float, ...]
    bias: float
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.weights) != len(FEATURES) or not all(map(math.isfinite, (*self.weights, self.bias))):
            raise CheckpointError(f"A calibration needs {len(FEATURES)} finite weights and a bias; got {self.weights} and {self.bias}.")

    def score(self, evidence: Evidence) -> float:
        """The probability, in (0, 1), that this finding is a real fault; 0.5 is the operating point."""
        return float(expit(np.dot(self.weights, features(evidence)) + self.bias))

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Calibration:
    """Read what ``save`` wrote. Raises CheckpointError."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(tuple(map(float, kept["weights"])), float(kept["bias"]), kept.get("figures", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is no calibration of LEGION ({error}). Make one with: refine calibrate.") from error


def features(evidence: Evidence) -> Floats:
    """The numbers of ``FEATURES``, each roughly of order one. An image without a detector's opinion counts as undecided."""
    fake = 0.5 if evidence.fake_probability is None else evidence.fake_probability
    return np.array(
        [
            _logit(evidence.mask_confidence),
            max(evidence.finding.seg_logprob, math.log(_EDGE)),
            max(evidence.finding.phrase_logprob, math.log(_EDGE)),
            math.log(max(evidence.area, 1e-5)),
            _logit(fake),
        ]
    )


def _logit(probability: float) -> float:
    kept = min(1 - _EDGE, max(_EDGE, probability))
    return math.log(kept / (1 - kept))


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """One image of the fit: whether it is faulty, its findings, and for each whether it shows a real fault."""

    faulty: bool
    evidence: tuple[Evidence, ...]
    real: tuple[bool, ...]


def fit(observed: Sequence[Observed], keep_clean: float = 0.95, l2: float = 1.0) -> Calibration:
    """Fit the score, then move the bias so that ``keep_clean`` of the clean images have no region at 0.5 or above.

    Raises InputError where there are too few images of a sort, or findings of one kind only.
    """
    clean, faulty = [one for one in observed if not one.faulty], [one for one in observed if one.faulty]
    if min(len(clean), len(faulty)) < LEAST_IMAGES:
        raise InputError(f"A calibration needs {LEAST_IMAGES} clean and {LEAST_IMAGES} faulty images; got {len(clean)} and {len(faulty)}.")
    rows = [(features(e), real) for one in observed for e, real in zip(one.evidence, one.real, strict=True)]
    truth = np.array([real for _, real in rows], np.float64)
    if not 0 < truth.sum() < len(truth):
        raise InputError("Every finding on these images is of one kind (all real, or all false): there is nothing to tell apart.")
    weights, bias = _logistic(np.stack([row for row, _ in rows]), truth, l2)
    raw = Calibration(tuple(weights), bias)
    peaks = np.sort([peak(raw, one) for one in clean])
    at = peaks[min(len(peaks) - 1, math.ceil(keep_clean * len(peaks)))] if keep_clean < 1 else peaks[-1] + _EDGE
    operating = _logit(float(at)) + 1e-6
    return Calibration(raw.weights, bias - max(operating, _logit(_EDGE)))


def _logistic(rows: Floats, truth: Floats, l2: float) -> tuple[list[float], float]:
    """Weights and bias in the units of ``rows`` (N, F); both kinds weigh the same in sum."""
    mean, std = rows.mean(0), rows.std(0)
    std[std < LEAST_SPREAD] = np.inf  # a feature that hardly changes says nothing, and would get an absurd weight
    scaled = (rows - mean) / std
    weight = np.where(truth > 0, 0.5 / truth.sum(), 0.5 / (len(truth) - truth.sum())) * len(truth)

    def loss(theta: Floats) -> tuple[float, Floats]:
        logits = scaled @ theta[:-1] + theta[-1]
        error = weight * (expit(logits) - truth)
        value = -(weight * log_expit(np.where(truth > 0, logits, -logits))).sum() + l2 / 2 * (theta[:-1] ** 2).sum()
        return float(value), np.append(scaled.T @ error + l2 * theta[:-1], error.sum())

    theta = minimize(loss, np.zeros(rows.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weights = theta[:-1] / std
    return [float(w) for w in weights], float(theta[-1] - weights @ mean)


def peak(calibration: Calibration, one: Observed) -> float:
    """The highest score of an image's findings; 0 without any."""
    return max((calibration.score(evidence) for evidence in one.evidence), default=0.0)


def figures(calibration: Calibration, observed: Sequence[Observed]) -> dict[str, float]:
    """Shares in [0, 1]: clean images kept clean, faulty images found faulty, findings above 0.5 that are real; and the counts."""
    clean, faulty = [one for one in observed if not one.faulty], [one for one in observed if one.faulty]
    told = [real for one in observed for e, real in zip(one.evidence, one.real, strict=True) if calibration.score(e) >= OPERATING_POINT]
    return {
        "clean kept clean": _mean([peak(calibration, one) < OPERATING_POINT for one in clean]),
        "faulty found": _mean([peak(calibration, one) >= OPERATING_POINT for one in faulty]),
        "findings real": _mean(told),
        "clean images": len(clean),
        "faulty images": len(faulty),
    }


def _mean(flags: Sequence[bool]) -> float:
    return round(float(np.mean(flags)), 4) if flags else float("nan")


def is_real(mask: Mask, truth: Mask | None, least: float = 0.5) -> bool:
    """Whether a finding's mask (H, W) shows a real fault: half of it or more lies on the truth, or it covers half of the truth.

    truth None: where the faults lie is not known, and every finding in a faulty image counts as real.
    """
    if truth is None:
        return True
    both = float((mask & truth).sum())
    return both >= least * min(max(1.0, float(mask.sum())), max(1.0, float(truth.sum())))


def observe(inspections: Sequence[Inspection], truths: Sequence[Mask | bool]) -> list[Observed]:
    """What was found in each image against what is true of it: a mask (H, W) of its faults, or only whether it has any."""
    seen = []
    for inspection, truth in zip(inspections, truths, strict=True):
        faulty = truth if isinstance(truth, bool) else bool(truth.any())
        where = None if isinstance(truth, bool) else truth
        real = tuple(faulty and is_real(region.mask, where) for region in inspection.critique.regions)
        seen.append(Observed(faulty, inspection.evidence, real))
    return seen
