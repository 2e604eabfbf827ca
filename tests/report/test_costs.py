"""Comparisons at equal cost, and which images were trained how often: hand-worked, and on the page."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pydyn.report.dynamic.budgets import accuracies_within, budget_frame, budget_table, images_so_far, seconds_so_far
from pydyn.report.page import write_report
from pydyn.report.results import Replicates, Result, StudyResults, read_study

Synthesise = Callable[..., Any]
ReadTables = Callable[[Path], dict[str, list[list[str]]]]


def with_epochs(result: Result, accuracies: list[float], images: list[int], seconds: list[float]) -> Result:
    """The same Run with another history."""
    rows = [
        replace(
            result.history[0],
            epoch=position + 1,
            validation_accuracy=accuracy,
            images_trained=trained,
            seconds_train=spent,
            seconds_evaluate=0.0,
            seconds_select=0.0,
        )
        for position, (accuracy, trained, spent) in enumerate(zip(accuracies, images, seconds, strict=True))
    ]
    return replace(result, history=tuple(rows))


@pytest.fixture
def results(synthesise: Synthesise) -> StudyResults:
    config, folder, _ = synthesise("comparison")
    return read_study(config, "dynamic", folder)


def test_of_the_dearer_run_only_what_fits_the_budget_counts(results: StudyResults) -> None:
    full, _, base, _ = results.replicates("comparison", "paper")
    ours = with_epochs(base.results[0], [0.3, 0.6, 0.5], [50, 100, 150], [1.0, 1.0, 1.0])
    theirs = with_epochs(full.results[0], [0.4, 0.5, 0.9], [100, 200, 300], [1.5, 1.5, 1.5])
    assert accuracies_within(theirs, images_so_far, 150).tolist() == [0.4]
    assert accuracies_within(theirs, images_so_far, 200).tolist() == [
        0.4,
        0.5,
    ]  # one that ends with the budget is within
    assert accuracies_within(theirs, seconds_so_far, 1.0).tolist() == []
    found = budget_frame([Replicates((theirs,)), Replicates((ours,))], ["full", "base"])
    row = found.iloc[0]
    assert (row.strategy, row.against, row.pairs) == ("base", "full", 1)
    # 150 images: the last of ours 0.5, of theirs 0.4; the best 0.6, 0.4. 3 seconds: 0.5 and 0.5; 0.6 and 0.5.
    assert (row.images_budget, row.seconds_budget) == (150, 3.0)
    assert row.images_difference_points == pytest.approx(10)
    assert row.images_best_difference_points == pytest.approx(20)
    assert row.seconds_difference_points == pytest.approx(0)
    assert row.seconds_best_difference_points == pytest.approx(10)
    assert row.images_verdict == "n = 1, no interval"


def test_a_run_without_an_epoch_within_the_budget_is_not_compared(results: StudyResults) -> None:
    full, _, base, _ = results.replicates("comparison", "paper")
    pairs = []
    for ours, theirs in zip(base.results, full.results, strict=True):
        cheap = with_epochs(ours, [0.6, 0.7], [40, 80], [1.0, 1.0])
        pairs.append((cheap, with_epochs(theirs, [0.4, 0.5], [100, 200], [1.0, 1.0])))
    cheap, dear = (Replicates(tuple(results)) for results in zip(*pairs, strict=True))
    found = budget_frame([dear, cheap], ["full", "base"])
    assert found.images_budget.tolist() == [80]
    assert found[["images_difference_points", "images_verdict", "images_best_difference_points"]].isna().all(axis=None)
    assert found.seconds_difference_points.tolist() == pytest.approx([20])
    for other in ({"precision": "bf16"}, {"earlier_places": ["another machine"]}):
        slower = [replace(r, summary=replace(r.summary, **other)) for r in dear.results]
        elsewhere = budget_frame([Replicates(tuple(slower)), cheap], ["full", "base"])
        assert elsewhere[["seconds_difference_points", "seconds_verdict"]].isna().all(axis=None)
    assert [cell.text for cell in budget_table(elsewhere, "paper").body[0][7:]] == ["not on one machine", "no interval"]
    cells = budget_table(found, "paper").body[0]
    assert [(cell.text, cell.note) for cell in cells[4:6]] == [("no epoch by then", ""), ("no interval", "")]
    assert (cells[7].text, cells[7].note) == ("+20.00", "best so far +20.00")
    assert cells[8].note == "no spread, no claim"


def test_every_dynamic_strategy_against_every_control_at_equal_cost(
    synthesise: Synthesise, read_tables: ReadTables
) -> None:
    config, folder, _ = synthesise("comparison", "both protocols")
    write_report(config, folder, folder / "report" / "index.html", progress=lambda line: None)
    shown = read_tables(folder / "report" / "index.html")
    for protocol in ("paper", "holdout"):
        found = pd.read_csv(folder / "report" / "tables" / f"dynamic-comparison-budgets-{protocol}.csv")
        assert len(found) == 2 * 2  # base and best-set against full and fixed
        assert (found.pairs == 3).all()
        assert len(shown[f"dynamic-comparison-budgets-{protocol}"]) == 1 + len(found)
        half = found[found.against == "fixed half"]
        # As many images an epoch: the budget is all of both, the differences those of the ends and of the maxima.
        rows = read_study(config, "dynamic", folder).replicates("comparison", protocol)
        for column, value in (("difference", "last_validation"), ("best_difference", "best_validation")):
            of_rows = [[100 * getattr(r.summary.accuracy, value) for r in row.results] for row in rows]
            expected = [np.mean(np.subtract(of_rows[position], of_rows[1])) for position in (2, 3)]
            assert half[f"images_{column}_points"].tolist() == pytest.approx(expected)


def test_times_trained_are_counted_over_images_and_seeds(synthesise: Synthesise, read_tables: ReadTables) -> None:
    config, folder, written = synthesise("comparison")
    runs = list(written)
    by_strategy = {name: [run for run in runs if run.strategy.name == name] for name in ("full", "fixed")}
    for seed, run in enumerate(by_strategy["fixed"]):  # 60 of 120 images, 8 epochs each; two seeds agree, one does not
        counts = np.zeros(120, np.int32)
        counts[slice(0, 60) if seed < 2 else slice(60, 120)] = 8
        np.save(run.directory(folder) / "times_trained.npy", counts)
    for run in by_strategy["full"]:
        np.save(run.directory(folder) / "times_trained.npy", np.full(120, 8, np.int32))
    write_report(config, folder, folder / "report" / "index.html", progress=lambda line: None)
    shown = {row[0]: row[1:] for row in read_tables(folder / "report" / "index.html")["dynamic-times-trained-paper"]}
    #                              n    never   fewest median most  agreement: 1, -1, -1
    assert shown["fixed half"] == ["3", "50.0", "0", "4", "8", "−0.33"]
    assert shown["full pool"] == ["3", "0.0", "8", "8", "8", "–"]
    assert (folder / "report" / "figures" / "dynamic-times-trained-paper.png").exists()


@pytest.mark.parametrize("damage", ["missing", "other pool", "other sum"])
def test_counts_that_cannot_be_of_the_run_are_refused(synthesise: Synthesise, damage: str) -> None:
    from pydyn.errors import RunError

    config, folder, written = synthesise("single comparison")
    path = next(iter(written)).directory(folder) / "times_trained.npy"
    counts = np.load(path)
    if damage == "missing":
        path.unlink()
    else:
        np.save(path, counts[1:] if damage == "other pool" else counts + 1)
    with pytest.raises(RunError, match=r"times_trained\.npy"):
        read_study(config, "dynamic", folder)
