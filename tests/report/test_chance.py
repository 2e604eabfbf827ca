"""What the verdicts make of strategies that do not differ: they may hold by chance in one case of twenty, and no more."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats

from pydyn.report.dynamic.budgets import budget_frame
from pydyn.report.results import Replicates, Result, StudyResults, read_study
from pydyn.report.statistics import estimate

Synthesise = Callable[..., Any]

STUDIES = 200
BY_CHANCE = stats.binom(STUDIES, 0.05).ppf([1e-4, 1 - 1e-4])


@pytest.fixture(scope="module")
def results(synthesise: Synthesise) -> StudyResults:
    config, folder, _ = synthesise("comparison", {"dynamic": {"comparison": {"replicates": 20}}})
    return read_study(config, "dynamic", folder)


def learned(result: Result, images_an_epoch: int, epochs: int, generator: np.random.Generator) -> Result:
    """The same Run as if accuracy depended on the images trained so far alone, and chance; a second an image."""
    images = images_an_epoch * np.arange(1, epochs + 1)
    accuracies = 0.7 * (1 - np.exp(-images / 20)) + generator.normal(0, 0.02, epochs)
    rows = [
        replace(
            result.history[0],
            epoch=position + 1,
            validation_accuracy=float(accuracies[position]),
            images_trained=int(images[position]),
            seconds_train=float(images_an_epoch),
            seconds_evaluate=0.0,
            seconds_select=0.0,
        )
        for position in range(epochs)
    ]
    return replace(result, history=tuple(rows))


@pytest.fixture(scope="module", params=[16, 8])
def rows(request: pytest.FixtureRequest, results: StudyResults) -> pd.DataFrame:
    """A row of the table of equal costs of each study: the full pool for eight epochs against a half of it for so many."""
    generator = np.random.default_rng(20240607)
    full, _, base, _ = results.replicates("comparison", "paper")
    found: list[pd.DataFrame] = []
    for _ in range(STUDIES):
        theirs = Replicates(tuple(learned(result, 100, 8, generator) for result in full.results))
        ours = Replicates(tuple(learned(result, 50, request.param, generator) for result in base.results))
        found.append(budget_frame([theirs, ours], ["full", "base"]))
    return pd.concat(found)


@pytest.mark.parametrize("cost", ["images", "seconds"])
def test_at_equal_cost_strategies_that_do_not_differ_hold_one_time_in_twenty(rows: pd.DataFrame, cost: str) -> None:
    holding = (rows[f"{cost}_verdict"] == "holds").sum()
    assert BY_CHANCE[0] <= holding <= BY_CHANCE[1]


def test_the_best_of_more_epochs_is_higher_by_chance(rows: pd.DataFrame) -> None:
    # Why the table has no verdict for it: of 16 epochs within the budget the best lies higher than of 8, of 8 than of 4.
    assert stats.ttest_1samp(rows.images_best_difference_points, 0, alternative="greater").pvalue < 1e-6


@pytest.mark.parametrize("n", [2, 3, 20])
def test_the_verdict_of_a_difference_holds_one_time_in_twenty(n: int) -> None:
    generator = np.random.default_rng(n)
    noise: NDArray[np.float64] = generator.normal(0, 0.5, (STUDIES, n))
    holding = sum(estimate(list(differences)).verdict == "holds" for differences in noise)
    assert BY_CHANCE[0] <= holding <= BY_CHANCE[1]
