import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pydyn.report.statistics import Estimate, estimate, paired_difference

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
    low, high = stats.t.interval(0.95, len(sample) - 1, loc=np.mean(sample), scale=error) if error else found.interval
    assert found.interval == pytest.approx((low, high), abs=1e-9)


@given(values)
def test_a_difference_holds_exactly_where_a_t_test_rejects_zero(sample: list[float]) -> None:
    differences = [value - 50 for value in sample]
    found = estimate(differences)
    if found.std and abs(abs(found.mean) - found.half_width) > 1e-6:
        assert (found.verdict == "holds") == (stats.ttest_1samp(differences, 0).pvalue < 0.05)


def test_pairs_are_the_shared_seeds() -> None:
    found = paired_difference({0: 3.0, 1: 5.0, 2: 9.0}, {1: 1.0, 2: 3.0, 7: 0.0})
    assert found == estimate([4.0, 6.0])
    assert paired_difference({0: 1.0}, {1: 1.0}) is None


@given(st.dictionaries(st.integers(0, 20), st.floats(0, 100), min_size=2), st.floats(-10, 10))
def test_a_constant_shift_is_found_whatever_the_spread(ours: dict[int, float], shift: float) -> None:
    found = paired_difference({seed: value + shift for seed, value in ours.items()}, ours)
    assert found is not None and found.half_width is not None
    assert found.mean == pytest.approx(shift, abs=1e-9)
    assert found.half_width == pytest.approx(0, abs=1e-6)
