"""The statistics agree with scipy, with hand-worked numbers, and with what their names promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from refine.errors import InputError
from refine.evals import statistics
from refine.evals.statistics import bootstrap, holm, sign_test, wilson


def skewed(n: int = 60, seed: int = 3) -> statistics.Floats:
    """(n, 2) before and after: skewed, dependent, falling by about a third."""
    rng = np.random.default_rng(seed)
    before = rng.lognormal(0.0, 1.0, n)
    return np.stack([before, before * rng.uniform(0.3, 1.0, n)], 1)


@pytest.mark.parametrize(("method", "scipys"), [("bca", "BCa"), ("percentile", "percentile")])
@pytest.mark.parametrize("statistic", [statistics.mean_change, statistics.relative_change])
def test_bootstrap_agrees_with_scipy(method: statistics.Method, scipys: str, statistic: statistics.Statistic) -> None:
    pairs = skewed()
    ours = bootstrap(pairs, statistic, method=method, resamples=20_000)

    def theirs(before: statistics.Floats, after: statistics.Floats, axis: int = -1) -> statistics.Floats:
        return statistic(np.stack([before, after], -1))

    reference = stats.bootstrap(
        (pairs[:, 0], pairs[:, 1]), theirs, paired=True, vectorized=True, method=scipys, n_resamples=20_000, batch=2000, rng=1
    ).confidence_interval
    width = reference.high - reference.low
    assert ours.low == pytest.approx(reference.low, abs=0.04 * width)
    assert ours.high == pytest.approx(reference.high, abs=0.04 * width)


def test_bootstrap_is_seeded_and_paired() -> None:
    pairs = skewed()
    assert bootstrap(pairs, seed=1) == bootstrap(pairs, seed=1) != bootstrap(pairs, seed=2)
    shifted = np.stack([pairs[:, 0], pairs[:, 0] - 0.5], 1)  # the pairing removes all the spread
    interval = bootstrap(shifted)
    assert interval.low == pytest.approx(-0.5) == interval.high
    assert interval.excludes_zero


def test_bootstrap_chunks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(skewed(), resamples=500)
    monkeypatch.setattr(statistics, "CHUNK", 1000)
    assert bootstrap(skewed(), resamples=500) == whole


def test_bootstrap_covers_the_truth() -> None:
    rng = np.random.default_rng(0)
    hits = [bootstrap(rng.normal(1.0, 1.0, 40), statistics.mean, resamples=500, seed=i) for i in range(200)]
    assert 0.89 <= np.mean([h.low <= 1.0 <= h.high for h in hits]) <= 0.99


@pytest.mark.parametrize("pairs", [[], [1.0], [[1.0, np.nan], [1.0, 2.0]], np.zeros((2, 2, 2))])
def test_bootstrap_refuses(pairs: list[float]) -> None:
    with pytest.raises(InputError, match=r"at least 2 samples|NaN"):
        bootstrap(pairs)


def test_changes_by_hand() -> None:
    pairs = np.array([[1.0, 0.5], [3.0, 3.0]])
    assert statistics.mean_change(pairs) == -0.25
    assert statistics.relative_change(pairs) == 3.5 / 4 - 1
    assert statistics.mean_ratio_change(pairs) == -0.25
    assert statistics.relative_change(np.zeros((2, 2))) == 0.0


def test_seeds_of_one_prompt_are_averaged() -> None:
    rows = np.array([[1.0, 2.0], [5.0, 6.0], [3.0, 4.0]])
    assert statistics.group_means(rows, ["b", "a", "b"]).tolist() == [[2.0, 3.0], [5.0, 6.0]]
    doubled = statistics.group_means(np.repeat(skewed(), 3, axis=0), [str(i // 3) for i in range(180)])
    ours, plain = bootstrap(doubled), bootstrap(skewed())
    assert (ours.low, ours.high) == pytest.approx((plain.low, plain.high)), "copies of a sample must not narrow the interval"


def test_wilson_agrees_with_scipy() -> None:
    for hits, n in [(0, 10), (3, 10), (10, 10), (255, 256)]:
        reference = stats.binomtest(hits, n).proportion_ci(method="wilson")
        ours = wilson(hits, n)
        assert (ours.low, ours.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    with pytest.raises(InputError, match="11 successes of 10"):
        wilson(11, 10)


def test_sign_test_and_win_rate() -> None:
    assert sign_test([1, 1, 1, 1, 1, 0, 0]) == pytest.approx(2 / 2**5)
    assert sign_test([0.0, 0.0]) == 1.0
    assert statistics.win_rate([1, 1, -1, 0]).estimate == pytest.approx(2 / 3)
    assert statistics.win_rate([0.0]) == statistics.Interval(0.5, 0.0, 1.0)


def test_changes_in_the_last_bits_are_none() -> None:
    pairs = np.array([[0.5, 0.5 + 1e-7], [0.0, -1e-6], [1e4, 1e4 - 9e-3], [0.5, 0.500002], [np.nan, 1.0], [2.0, np.nan]])
    wanted = np.array([[0.5, 0.5], [0.0, 0.0], [1e4, 1e4], [0.5, 0.500002], [np.nan, 1.0], [2.0, np.nan]])
    assert np.array_equal(statistics.settled(pairs), wanted, equal_nan=True)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_never_below_the_raw_value(values: list[float]) -> None:
    raw = {str(i): value for i, value in enumerate(values)}
    adjusted = holm(raw)
    order = sorted(raw, key=lambda name: raw[name])
    assert all(adjusted[name] >= raw[name] for name in raw)
    assert [adjusted[name] for name in order] == sorted(adjusted.values())
    assert max(adjusted.values()) <= 1.0
