"""Statistics against scipy, against values computed by hand, and against simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from ultralytics.ablation.statistics import (
    bca_interval,
    compare_pairs,
    confidence_interval,
    expanded_level,
    fewest_pairs,
    holm,
    needed_pairs,
    sign_flip_p,
)

VALUES = [0.011, -0.004, 0.009, 0.012, 0.016, 0.010, 0.003, -0.001]


def test_the_bca_interval_is_that_of_scipy():
    rng = np.random.default_rng(0)
    expected = stats.bootstrap((np.array(VALUES),), np.mean, confidence_level=0.9, method="BCa", rng=rng)
    found = bca_interval(VALUES, 0.9)
    assert found == pytest.approx((expected.confidence_interval.low, expected.confidence_interval.high), abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 6, 8])
def test_the_permutation_p_counts_all_sign_patterns(n):
    values = np.array(VALUES[:n])
    signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)  # (2^n, n)
    means = (signs * values).mean(1)
    expected = np.mean(np.abs(means) >= abs(values.mean()) - 1e-15)
    assert sign_flip_p(values) == pytest.approx(expected, abs=1e-12)


def test_the_smallest_p_of_n_pairs():
    assert [sign_flip_p([1.0 + i for i in range(n)]) for n in (2, 5, 6)] == [0.5, 0.0625, 0.03125]
    assert math.isnan(sign_flip_p([0.1]))
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1
    assert sign_flip_p(np.linspace(0.1, 0.2, 25)) < 1e-4  # random patterns


def test_holm():
    assert holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_small_samples_get_the_interval_of_student():
    low, high, method = confidence_interval([0.01, 0.02, 0.03])
    expected = stats.t.interval(0.95, 2, loc=0.02, scale=stats.sem([0.01, 0.02, 0.03]))
    assert (low, high) == pytest.approx(expected)
    assert method == "t"
    assert confidence_interval([0.5]) == (pytest.approx(math.nan, nan_ok=True),) * 2 + ("",)
    assert confidence_interval([0.5] * 6) == (0.5, 0.5, "BCa")


@pytest.mark.parametrize("n", [3, 6, 8])
def test_intervals_cover_the_true_mean_in_90_to_97_percent(n):
    rng = np.random.default_rng(n)
    covered = []
    for _ in range(300):
        low, high, _ = confidence_interval(rng.normal(0.3, 1, n))
        covered.append(low <= 0.3 <= high)
    assert 0.89 <= np.mean(covered) <= 0.98  # expected 0.92 to 0.95; standard error 0.015


def test_the_expanded_level_widens_small_samples_only():
    assert expanded_level(5, 0.95) > 0.99
    assert expanded_level(1000, 0.95) == pytest.approx(0.95, abs=2e-3)


def test_needed_pairs_agree_with_the_power_of_the_t_test():
    values = np.array([0.01, 0.03, -0.01, 0.02, 0.0, 0.01])
    needed = needed_pairs(values)
    effect = values.mean() / values.std(ddof=1)
    power = [stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, effect * math.sqrt(n)) for n in (needed - 1, needed)]
    assert power[0] < 0.8 <= power[1]
    assert needed_pairs([0.02, 0.02, 0.02]) == fewest_pairs() == 6
    assert needed_pairs([0.1]) is None
    assert needed_pairs([1e-6, -1e-6, 1e-6, -9e-7]) > 1000


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.011, 0.014, 0.009, 0.012, 0.016, 0.010], "better"),
        ([-0.011, -0.014, -0.009, -0.012, -0.016, -0.010], "worse"),
        ([0.011, 0.014, 0.009, 0.012, 0.016], "not shown: needs about 6 seeds (5 pairs cannot give p below 0.0625)"),
        ([0.01], "not shown: needs at least 2 runs each"),
        ([], "not shown: needs at least 2 runs each"),
        ([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "not shown"),
    ],
)
def test_verdicts(values, verdict):
    assert compare_pairs({"change": values})["change"].verdict == verdict


def test_verdicts_are_adjusted_for_the_number_of_changes():
    six = [0.011, 0.014, 0.009, 0.012, 0.016, 0.010]
    results = compare_pairs({"a": six, "b": [0.01, -0.01, 0.02, -0.02, 0.0, 0.001]})
    assert results["a"].p == 0.03125
    assert results["a"].adjusted == 0.0625
    assert results["a"].verdict == "not shown: needs about 7 seeds"
    assert compare_pairs({"a": six, "b": six}, folds=3)["a"].verdict == "not shown: needs about 3 seeds"


def test_equal_models_are_called_better_in_at_most_5_percent():
    rng = np.random.default_rng(1)
    better = [compare_pairs({"null": rng.normal(0, 0.01, 7)})["null"].verdict == "better" for _ in range(200)]
    assert np.mean(better) <= 0.05
