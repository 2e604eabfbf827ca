"""Trainings that end without numbers: named on the page, on which no figure is NaN for that."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pydyn.studies.run import Run
from pydyn.training.history import Epoch, History, read_history
from pydyn.training.summary import Summary, write_summary
from tests.report.conftest import write_partial
from tests.report.test_architectures import synthesise as write_architectures

NAN = float("nan")


def diverge(results: Path, written: dict[Run, Summary], chosen: Iterable[Run], in_last_step: bool = False) -> None:
    """From the third epoch on, or in the last step of all, as the loop would have it."""
    for run in chosen:
        path = run.directory(results) / "history.csv"
        gone = {"train_loss": NAN, "validation_loss": NAN, "train_accuracy": 0.0, "validation_accuracy": 0.0}
        rows = read_history(path, Epoch)
        first = rows[-1].epoch if in_last_step else 3
        if in_last_step:  # what was trained is told as it was before each step
            gone = {name: value for name, value in gone.items() if name.startswith("validation")}
        rows = [row if row.epoch < first else replace(row, **gone) for row in rows]
        History(path, Epoch).restart(rows)
        summary = written[run]
        held_out = summary.accuracy.test_at_last is not None
        accuracies = [row.validation_accuracy for row in rows]
        accuracy = replace(
            summary.accuracy,
            last_validation=0.0,
            best_validation=max(accuracies),
            best_epoch=accuracies.index(max(accuracies)) + 1,
            test_at_last=0.0 if held_out else None,
        )
        nothing = [[0] * len(row) for row in summary.confusion]
        write_summary(run.directory(results) / "summary.json", replace(summary, accuracy=accuracy, confusion=nothing))


@pytest.mark.parametrize("n_diverged", [0, 1, 12])
def test_diverged_runs_are_named(synthesise: Callable[..., Any], n_diverged: int) -> None:
    config, results, written = synthesise("comparison")
    chosen = list(written)[:n_diverged]
    diverge(results, written, chosen)
    page = write_partial(config, results)
    told = f"{n_diverged} of the 12 Runs diverged, such as {chosen[0].id} in epoch 3" if chosen else "Runs diverged"
    assert (told in page) == bool(chosen)


def test_a_run_that_diverged_in_its_last_step_is_named(synthesise: Callable[..., Any]) -> None:
    config, results, written = synthesise("comparison")
    run = next(iter(written))
    diverge(results, written, [run], in_last_step=True)
    assert f"1 of the 12 Runs diverged, such as {run.id} in epoch {run.epochs}" in write_partial(config, results)


def test_the_page_of_architectures_names_them_too(tmp_path: Path) -> None:
    results = tmp_path / "results"
    config, written = write_architectures(results, {})
    chosen = [run for run in written if run.setting == next(iter(written)).setting]
    diverge(results, written, chosen)
    page = write_partial(config, results)
    assert f"{len(chosen)} of the {len(written)} Runs diverged, such as {chosen[0].id} in epoch 3" in page
