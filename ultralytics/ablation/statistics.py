"""Statistics of paired differences between runs: interval, permutation test, correction, verdict, needed runs.

Two models are compared over the same seeds and folds: each pair of runs shares its random numbers and its images, so
that their difference varies less than the runs themselves.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95  # of confidence intervals
ALPHA = 0.05  # of verdicts
POWER = 0.8  # probability that the needed runs show the difference
RESAMPLES = 9999
EXACT = 20  # pairs up to which all 2^n sign patterns are used
FEWEST_BOOTSTRAP = 5  # pairs; the means of fewer resampled values do not reach 95 %
MOST_RUNS = 1000  # above it, the needed number is not stated


@dataclass(frozen=True)
class Comparison:
    """Result of a change against its base, over n pairs of runs."""

    n: int
    mean: float  # of the paired differences, positive where the change is better
    std: float
    low: float  # confidence interval of the mean; nan for fewer than two pairs
    high: float
    method: str  # of the interval, `BCa` or `t`
    p: float  # exact two-sided sign-flip permutation p
    adjusted: float  # the same by Holm over the changes of the study
    needed: int | None  # pairs after which a difference of this size would be shown; None if there is no estimate
    folds: int = 1  # pairs of each seed

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `not shown` with the reason."""
        if self.n < 2:
            return "not shown: needs at least 2 runs each"
        if self.adjusted <= ALPHA:
            return "better" if self.mean > 0 else "worse"
        more = "" if self.needed is None else f": needs about {-(-max(self.needed, self.n + 1) // self.folds)} seeds"
        if self.needed is not None and self.needed > MOST_RUNS:
            more = f": needs more than {MOST_RUNS} seeds"
        smallest = 2.0 ** (1 - self.n)  # p that this number of pairs can give
        limit = f" ({self.n} pairs cannot give p below {smallest:.3g})" if smallest > ALPHA else ""
        return f"not shown{more}{limit}"


def compare_pairs(differences: dict[str, Sequence[float]], folds: int = 1) -> dict[str, Comparison]:
    """Compare each change with its base by its paired differences, `folds` a seed; p is adjusted over all changes.

    Examples:
        >>> result = compare_pairs({"EMA": [0.011, 0.014, 0.009, 0.012, 0.016, 0.010]})["EMA"]
        >>> round(result.mean, 3), result.p, result.verdict
        (0.012, 0.03125, 'better')
    """
    ps = {name: sign_flip_p(values) for name, values in differences.items()}
    adjusted = dict(zip(ps, holm(list(ps.values())), strict=True))
    results = {}
    for name, values in differences.items():
        values = np.asarray(values, float)
        low, high, method = confidence_interval(values)
        std = float(values.std(ddof=1)) if len(values) > 1 else math.nan
        needed = needed_pairs(values, len(differences))
        mean = float(values.mean()) if len(values) else math.nan
        results[name] = Comparison(len(values), mean, std, low, high, method, ps[name], adjusted[name], needed, folds)
    return results


def confidence_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float, str]:
    """Return the interval of a mean, and its method: bias-corrected and accelerated bootstrap (BCa), or Student's t.

    BCa (Efron, JASA 1987) is by scipy. Its level is widened for small samples (Hesterberg, The American Statistician
    2015, section 4.2), as resampling underestimates the spread of n values by (n - 1) / n. Below FEWEST_BOOTSTRAP
    values no bootstrap can reach the level, and the t interval is returned.
    """
    from scipy import stats  # slow to import

    values = np.asarray(values, float)
    if len(values) < 2:
        return math.nan, math.nan, ""
    center = float(values.mean())
    if np.ptp(values) == 0:
        return center, center, "BCa" if len(values) >= FEWEST_BOOTSTRAP else "t"
    if len(values) < FEWEST_BOOTSTRAP:
        half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
        return center - float(half), center + float(half), "t"
    low, high = bca_interval(values, expanded_level(len(values), level))
    return low, high, "BCa"


def expanded_level(n: int, level: float) -> float:
    """Return the level at which the bootstrap of n normal values has the width of their t interval at `level`."""
    from scipy import stats

    quantile = stats.t.ppf((1 - level) / 2, n - 1) * math.sqrt(n / (n - 1))
    return float(1 - 2 * stats.norm.cdf(quantile))


def bca_interval(
    values: Sequence[float], level: float, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return scipy's BCa interval of the mean, with random numbers of `seed`."""
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (np.asarray(values, float),), np.mean, confidence_level=level, n_resamples=resamples, method="BCa",
            vectorized=True, rng=np.random.default_rng(seed),
        ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def sign_flip_p(differences: Sequence[float], resamples: int = 99_999, seed: int = 0) -> float:
    """Return the two-sided p of the permutation test that flips the signs of paired differences.

    Exact, over all 2^n patterns, up to EXACT pairs, else of random patterns; nan for fewer than two pairs.
    """
    from scipy import stats

    values = np.asarray(differences, float)
    if len(values) < 2:
        return math.nan
    if not values.any():
        return 1.0
    count = np.inf if len(values) <= EXACT else resamples
    test = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=count, vectorized=True,
        rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(test.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Adjust p values for their number (Holm, Scandinavian Journal of Statistics 1979); nan stays nan and counts not.

    Examples:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted((i for i, p in enumerate(ps) if not math.isnan(p)), key=lambda i: ps[i])
    adjusted, highest = [math.nan] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def fewest_pairs(comparisons: int = 1) -> int:
    """Return the pairs from which on the permutation test can give p <= ALPHA, adjusted for the comparisons.

    Examples:
        >>> fewest_pairs(1), fewest_pairs(4)
        (6, 8)
    """
    return math.ceil(1 - math.log2(ALPHA / max(comparisons, 1)))


def needed_pairs(values: Sequence[float], comparisons: int = 1) -> int | None:
    """Return the pairs of runs that show the observed mean difference with probability POWER, or None.

    By the power of the paired t test at ALPHA / `comparisons`, and at least as many as the permutation test needs for
    a p that small.
    """
    from scipy import stats

    values = np.asarray(values, float)
    if len(values) < 2 or not values.any():
        return None
    alpha, fewest = ALPHA / max(comparisons, 1), fewest_pairs(comparisons)
    spread = float(values.std(ddof=1))
    if spread == 0:
        return fewest
    effect = abs(float(values.mean())) / spread
    n = np.arange(fewest, MOST_RUNS + 1)
    power = stats.nct.sf(stats.t.ppf(1 - alpha / 2, n - 1), n - 1, effect * np.sqrt(n))
    enough = n[np.nan_to_num(power, nan=1.0) >= POWER]
    return int(enough[0]) if len(enough) else MOST_RUNS + 1
