import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pydyn.report.statistics import (
    Estimate,
    estimate,
    independent_trials,
    paired_difference,
    sampling_half_width,
    share_interval,
    shares_differ,
)

# Student's t at 0.975, from a printed table: degrees of freedom 1, 2, 3.
QUANTILES = {2: 12.7062, 3: 4.3027, 4: 3.1824}

values = st.lists(st.floats(0, 100), min_size=2, max_size=30)


@pytest.mark.parametrize("sample", [[80.0, 82.0], [80.0, 82.0, 87.0], [1.0, 2.0, 3.0, 4.0]])
def test_interval_equals_the_printed_quantile_times_the_standard_error(sample: list[float]) -> None:
    found = estimate(sample)
    mean = sum(sample) / len(sample)
    std = (sum((value - mean) ** 2 for value in sample) / (len(sample) - 1)) ** 0.5
    assert found.mean == pytest.approx(mean)
    assert found.std == pytest.approx(std)
    assert found.half_width == pytest.approx(QUANTILES[len(sample)] * std / len(sample) ** 0.5, rel=1e-4)


def test_one_value_has_no_interval() -> None:
    assert estimate([80.0]) == Estimate(1, 80.0, None, None)
    assert estimate([80.0]).interval is None
    assert estimate([80.0]).verdict == "n = 1, no interval"


@given(values)
def test_interval_equals_scipy(sample: list[float]) -> None:
    found = estimate(sample)
    error = stats.sem(sample)
    if found.interval is None:
        assert error == pytest.approx(0, abs=1e-7)
        return
    low, high = stats.t.interval(0.95, len(sample) - 1, loc=np.mean(sample), scale=error)
    assert found.interval == pytest.approx((low, high), abs=1e-9)


@given(values)
def test_a_difference_holds_exactly_where_a_t_test_rejects_zero(sample: list[float]) -> None:
    differences = [value - 50 for value in sample]
    found = estimate(differences)
    if found.std and abs(abs(found.mean) - found.half_width) > 1e-6:
        assert (found.verdict == "holds") == (stats.ttest_1samp(differences, 0).pvalue < 0.05)


def test_divisions_of_the_same_images_are_no_independent_replicates() -> None:
    # Std 1 of three: 4.3027 sqrt(1 / 3 + 1 / 2), of 30 test images and 60 training images.
    found = estimate([1.0, 2.0, 3.0], redrawn=0.5)
    assert (found.mean, found.std) == (2.0, 1.0)
    assert found.half_width == pytest.approx(4.3027 * (5 / 6) ** 0.5, rel=1e-4)
    # However many there are, the images stay the same.
    many = estimate([1.0, 3.0] * 500, redrawn=0.5)
    assert many.half_width == pytest.approx(1.96 * 0.501**0.5, rel=2e-3)
    paired = paired_difference({0: 1.0, 1: 2.0, 2: 3.0}, {0: 0.0, 1: 0.0, 2: 0.0}, redrawn=0.5)
    assert paired == found


def test_pairs_are_the_shared_seeds() -> None:
    found = paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {1: 1.0, 2: 3.0, 7: 0.0})
    assert found == estimate([4.0, 6.0])
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@given(st.dictionaries(st.integers(0, 20), st.floats(0, 100), min_size=2), st.floats(-10, 10))
def test_a_constant_shift_is_found_and_claims_nothing(ours: dict[int, float], shift: float) -> None:
    found = paired_difference({seed: value + shift for seed, value in ours.items()}, ours)
    assert found is not None
    assert found.mean == pytest.approx(shift, abs=1e-9)
    assert (found.std, found.half_width, found.verdict) == (0.0, None, "no spread, no claim")


@pytest.mark.parametrize("sample", [[0.5, 0.5], [84.1 - 83.1, 85.3 - 84.3, 80.7 - 79.7], [0.0, 0.0]])
def test_equal_differences_show_no_spread_and_claim_nothing(sample: list[float]) -> None:
    found = estimate(sample)
    assert (found.std, found.interval, found.verdict) == (0.0, None, "no spread, no claim")


def test_the_smallest_spread_is_one() -> None:
    # One of 100,000 test images more.
    assert estimate([0.5, 0.501]).verdict == "holds"


def test_sampling_error_of_an_accuracy() -> None:
    normal = 1.96 * (0.85 * 0.15 / 10_000 + 0.98**2 / 10_000**2) ** 0.5
    assert sampling_half_width(0.85, 10_000) == pytest.approx(normal / (1 + 1.96**2 / 10_000), rel=1e-4)
    # Of 50 images all right, 93 % may be: (z^2 / n) / (1 + z^2 / n) is Wilson's other end.
    assert sampling_half_width(1.0, 50) == pytest.approx(0.5 * 3.8415 / 53.8415, rel=1e-4)


@pytest.mark.parametrize("n_images", [60, 500, 10_000])
@pytest.mark.parametrize("share", [0.5, 0.97, 0.99])
def test_as_many_accuracies_lie_within_their_sampling_error_as_is_said(share: float, n_images: int) -> None:
    right = np.arange(n_images + 1)
    within = [abs(count / n_images - share) <= sampling_half_width(count / n_images, n_images) for count in right]
    assert stats.binom.pmf(right, n_images, share)[within].sum() > 0.94


def test_wilsons_interval_and_fishers_test_by_hand() -> None:
    z, n, p = 1.959963984540054, 57, 19 / 57
    middle, half = p + z**2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    expected = ((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n))
    assert share_interval(19, 57) == pytest.approx(expected)
    # Of 4 successes in 2 x 4 trials, 4 to 0 either way: 2 of the 70 ways.
    assert shares_differ(4, 4, 0, 4) == pytest.approx(2 / 70)


def test_trainings_of_one_seed_count_as_far_as_they_differ() -> None:
    # All of a seed alike: as many as there are seeds.
    assert independent_trials([[True] * 4, [False] * 4, [True] * 4, [False] * 4]) == 4
    # Each seed has the same share: no less than independent ones.
    assert independent_trials([[True, False], [False, True], [True, False]]) == 6
    # Nothing learns: nothing tells them apart, so as many as there are seeds; of seeds with 2 and 1 trainings 9 / 5 of them.
    assert independent_trials([[False] * 5] * 3) == 3
    assert independent_trials([[False] * 2, [False]]) == 2
    assert independent_trials([[True, False, True]]) == 1
    # 6, 4, 4 and 2 of 8: a share of 1/2; between (4 + 4) 16 / 9 3 / 4 = 32 / 3, within 32 / 4 = 8. Of three degrees of freedom.
    by_t = (1.95996 / 3.18245) ** 2
    four = [[True] * right + [False] * (8 - right) for right in (6, 4, 4, 2)]
    assert independent_trials(four) == round(by_t * 32 * 8 / (32 / 3)) == 9
    # Most are of one seed, and make the share that they lie near to: 4 of 36, 0 of 12, 0 of 12. From that of the others they are
    # 1.6 / 0.4 and twice 0.8 / 0.8 away: between (16 + 1 + 1) 2 / 3 = 12, within 4 (1 - 1 / 15).
    most = [[True] * 4 + [False] * 32, [False] * 12, [False] * 12]
    assert independent_trials(most) == round((1.95996 / 4.30265) ** 2 * 60 * (56 / 15) / 12) == 4
    # One combination: a training of each seed.
    assert independent_trials([[True], [False], [False]]) == 3


@pytest.mark.parametrize("sizes", [[11] * 20, [11] * 5 + [2], [49, 19, 1]])
@pytest.mark.parametrize("likeness", [0.05, 0.16, 0.3])
def test_trainings_that_go_together_leave_the_share_where_the_interval_says(sizes: list[int], likeness: float) -> None:
    # Seeds and trainings as in the published tables; on set 1.3 trainings of a seed are measured to be alike by 0.16.
    generator, share, found = np.random.default_rng(20241127), 0.2, 0
    for _ in range(400):
        shares = generator.beta(share * (1 / likeness - 1), (1 - share) * (1 / likeness - 1), len(sizes))
        groups = [(generator.random(size) < of_seed).tolist() for size, of_seed in zip(sizes, shares, strict=True)]
        independent, measured = independent_trials(groups), sum(map(sum, groups)) / sum(sizes)
        low, high = share_interval(measured * independent, independent)
        found += low <= share <= high
    assert found / 400 > 0.9
