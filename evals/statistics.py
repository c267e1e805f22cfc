"""Statistics of paired comparisons: is after better than before, by how much, and how sure is that?

Arrays: ``pairs`` is (n, k) float, one row per sample, one column per condition (column 0 is the baseline). Fractions are in
[0, 1]. Every random draw comes from the ``seed`` that is passed. Pure: numpy and scipy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from refine.errors import InputError

Floats: TypeAlias = npt.NDArray[np.float64]
Statistic: TypeAlias = Callable[[Floats], Floats]  # (..., n, k) -> (...)
Method: TypeAlias = Literal["bca", "percentile"]

CHUNK = 4_000_000  # numbers held at once while resampling: 32 MB
NOISE = 1e-6  # of a value, or of 1: what the last bits of a model's output may do from one batch to another


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval."""

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.estimate:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_change(pairs: Floats) -> Floats:
    """Mean of after − before: (..., n, 2) -> (...)."""
    change: Floats = (pairs[..., 1] - pairs[..., 0]).mean(-1)
    return change


def relative_change(pairs: Floats) -> Floats:
    """Ratio of means − 1: (..., n, 2) -> (...); −0.25 says that after sums to a quarter less than before. 0 / 0 is no change."""
    before, after = pairs[..., 0].sum(-1), pairs[..., 1].sum(-1)
    nothing = (before == 0) & (after == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(nothing, 0.0, after / before - 1)


def mean_ratio_change(pairs: Floats) -> Floats:
    """Mean of ratios − 1: (..., n, 2) -> (...). Defined only where every baseline is above 0."""
    change: Floats = (pairs[..., 1] / pairs[..., 0] - 1).mean(-1)
    return change


def mean(pairs: Floats) -> Floats:
    """Mean of column 0: (..., n, k) -> (...)."""
    average: Floats = pairs[..., 0].mean(-1)
    return average


def group_means(rows: Floats, groups: Sequence[str]) -> Floats:
    """(n, k) rows to (groups, k) means, groups in the order of their first row: seeds of one prompt are no independent samples."""
    names = list(dict.fromkeys(groups))
    place = {name: index for index, name in enumerate(names)}
    sums, counts = np.zeros((len(names), rows.shape[1])), np.zeros((len(names), 1))
    where = np.array([place[name] for name in groups], int)
    np.add.at(sums, where, rows)
    np.add.at(counts, where, 1.0)
    means: Floats = sums / counts
    return means


def settled(pairs: Floats) -> Floats:
    """(n, k) with every value that differs from column 0 by no more than ``NOISE`` set to it: no win and no loss."""
    before = pairs[:, :1]
    return np.where(np.abs(pairs - before) <= NOISE * np.maximum(1.0, np.abs(before)), before, pairs)


def bootstrap(
    pairs: npt.ArrayLike,
    statistic: Statistic = mean_change,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    method: Method = "bca",
    seed: int = 0,
) -> Interval:
    """Paired bootstrap: rows are resampled together, so that what belongs to one sample stays together.

    ``pairs`` is (n,) or (n, k). ``bca`` corrects bias and skew (Efron 1987, "Better bootstrap confidence intervals", eq. 6.4 for
    the acceleration by the jackknife); ``percentile`` does not. A statistic that never varies gives an interval of width 0.
    Raises InputError for fewer than 2 samples or numbers that are not finite.
    """
    rows = _rows(pairs)
    estimate = float(statistic(rows))
    drawn = _resampled(rows, statistic, resamples, seed)
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if np.ptp(drawn) == 0:
        return Interval(estimate, float(drawn[0]), float(drawn[0]))
    if method == "bca":
        tails = _bca_levels(tails, estimate, drawn, _jackknife(rows, statistic))
    low, high = np.quantile(drawn, tails)
    return Interval(estimate, float(low), float(high))


def _rows(pairs: npt.ArrayLike) -> Floats:
    """(n, k) float64, checked."""
    rows = np.asarray(pairs, np.float64)
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) < 2:
        raise InputError(f"A bootstrap needs a table of at least 2 samples, one row each; got shape {rows.shape}.")
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(1))
        raise InputError(f"{len(bad)} of {len(rows)} samples hold NaN or infinity (first: row {bad[0]}); drop or repair them first.")
    return rows


def _resampled(rows: Floats, statistic: Statistic, resamples: int, seed: int) -> Floats:
    """(resamples,) the statistic of as many draws with replacement; in chunks, so that memory stays flat."""
    rng = np.random.default_rng(seed)
    size = max(1, CHUNK // rows.size)
    counts = [min(size, resamples - done) for done in range(0, resamples, size)]
    return np.concatenate([statistic(rows[rng.integers(0, len(rows), (count, len(rows)))]) for count in counts])


def _jackknife(rows: Floats, statistic: Statistic) -> Floats:
    """(n,) the statistic with one row left out."""
    keep = np.arange(len(rows) - 1)
    return np.array([statistic(rows[keep + (keep >= left)]) for left in range(len(rows))])


def _bca_levels(tails: Floats, estimate: float, drawn: Floats, left_out: Floats) -> Floats:
    """The tail levels, shifted for bias (z0, ties counted half) and skew (acceleration)."""
    below = ((drawn < estimate).mean() + (drawn <= estimate).mean()) / 2
    edge = 0.5 / len(drawn)
    z0 = stats.norm.ppf(np.clip(below, edge, 1 - edge))
    gaps = left_out.mean() - left_out
    spread = float((gaps**2).sum())
    acceleration = 0.0 if spread == 0 else float((gaps**3).sum()) / (6 * spread**1.5)
    shifted = z0 + stats.norm.ppf(tails)
    levels: Floats = stats.norm.cdf(z0 + shifted / (1 - acceleration * shifted))
    return levels


def wilson(successes: int, trials: int, level: float = 0.95) -> Interval:
    """Score interval of a proportion (Wilson 1927). Raises InputError unless 0 <= successes <= trials and trials > 0."""
    if trials < 1 or not 0 <= successes <= trials:
        raise InputError(f"{successes} successes of {trials} trials is no proportion: 0 <= successes <= trials and trials >= 1.")
    z = float(stats.norm.ppf((1 + level) / 2))
    share = successes / trials
    shrink = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / shrink
    half = z / shrink * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Interval(share, max(0.0, centre - float(half)), min(1.0, centre + float(half)))


def sign_test(changes: npt.ArrayLike) -> float:
    """Two-sided exact p-value of as many wins as losses; ties are dropped. 1.0 where every change is a tie."""
    values = np.asarray(changes, np.float64)
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def win_rate(changes: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Share of samples that rose among those that changed, with Wilson's interval; 0.5 in [0, 1] where none changed."""
    values = np.asarray(changes, np.float64)
    changed = int((values != 0).sum())
    return wilson(int((values > 0).sum()), changed, level) if changed else Interval(0.5, 0.0, 1.0)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p-values adjusted for their number (Holm 1979), in the order given."""
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
