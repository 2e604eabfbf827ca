import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pydyn.errors import DataError, RunError
from pydyn.files import write_text
from pydyn.report.page import write_report
from pydyn.report.results import Replicates, read_facts, read_study
from pydyn.studies.registry import STUDIES


def test_facts_of_a_store(synthesise: Callable[..., Any]) -> None:
    _, results, _ = synthesise("single comparison", skipped={"a/broken.jpg": "truncated"})
    data = read_facts("figures", results)
    assert (data.n_images, data.n_train, data.n_test) == (180, 120, 60)
    assert data.counts.tolist() == [[36, 4, 20]] * 3
    assert data.class_names == ("ellipse", "rectangle", "triangle")
    assert data.size == "8 × 8, grey"
    assert data.source == "shapes (generated)"
    assert (data.mean, data.std) == ((0.25,), (0.125,))
    assert data.skipped == {"a/broken.jpg": "truncated"}
    told = {
        "source": "folder",
        "path": "photos/all",
        "labels": {"manifest": "m.csv", "column": "kind", "pattern": None},
    }
    assert replace(data, declaration=told).source == "folder all (classes by kind)"
    assert replace(data, declaration={**told, "labels": None}).source == "folder all"


def test_replicates_are_grouped_in_the_order_of_the_configuration(synthesise: Callable[..., Any]) -> None:
    config, results, written = synthesise("comparison", "both protocols")
    study = read_study(config, "dynamic", results)
    rows = study.replicates("comparison", "holdout")
    assert [row.run.strategy.label for row in rows] == [
        "full",
        "fixed-a0.5",
        "dynamic-base-a0.5-b0.7-g0.97",
        "dynamic-best-set-a0.5-b0.7-g0.97",
    ]
    assert all(len(row.results) == 3 and row.run.protocol == "holdout" for row in rows)
    assert {result.run: result.summary for result in study.results} == written


def test_a_run_that_two_experiments_share_counts_once(synthesise: Callable[..., Any]) -> None:
    config, results, written = synthesise("comparison", "robustness")
    study = read_study(config, "dynamic", results)
    assert sum(map(len, study.experiments.values())) == 12 + 8
    assert len(study.results) == len(written) == 12 + 2


def test_replicates_refuse_repeated_seeds_and_other_settings(synthesise: Callable[..., Any]) -> None:
    config, results, _ = synthesise("comparison")
    first, second, *_ = read_study(config, "dynamic", results).replicates("comparison", "paper")
    with pytest.raises(ValueError, match="repeat a seed"):
        Replicates((*first.results, first.results[0]))
    with pytest.raises(ValueError, match="one setting"):
        Replicates((*first.results, second.results[0]))
    with pytest.raises(ValueError, match="at least one"):
        Replicates(())


def test_a_run_that_an_experiment_lists_twice_counts_once(
    synthesise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, results, written = synthesise("comparison")
    listed = STUDIES["dynamic"].experiments(config)
    twice_listed = replace(
        STUDIES["dynamic"], experiments=lambda config: {name: [*runs, *runs] for name, runs in listed.items()}
    )
    monkeypatch.setitem(STUDIES, "dynamic", twice_listed)
    study = read_study(config, "dynamic", results)
    assert len(study.experiments["comparison"]) == len(written)
    twice = replace(study, experiments={name: both + both for name, both in study.experiments.items()})
    for each in (study, twice):
        rows = each.replicates("comparison", "paper")
        assert len(rows) == 4 and all(len(row.results) == 3 for row in rows)


def test_sizes_refer_to_the_runs_own_pool(synthesise: Callable[..., Any]) -> None:
    config, results, _ = synthesise("comparison", "both protocols")
    study = read_study(config, "dynamic", results)
    paper, holdout = (study.replicates("comparison", protocol)[1] for protocol in ("paper", "holdout"))
    assert (paper.n_pool, paper.n_subset, paper.share) == (120, 60, 0.5)
    assert (holdout.n_pool, holdout.n_subset, holdout.share) == (108, 54, 0.5)


def remove_summary(directory: Path) -> None:
    (directory / "summary.json").unlink()


def cut_history(directory: Path) -> None:
    path = directory / "history.csv"
    write_text(path, "".join(path.read_text().splitlines(keepends=True)[:-1]))


def cut_last_line(directory: Path) -> None:
    path = directory / "history.csv"
    write_text(path, path.read_text()[:-20])


def lengthen_last_line(directory: Path) -> None:
    path = directory / "history.csv"
    write_text(path, path.read_text().removesuffix("\n") + "0" * 200_000)  # more than Python's csv takes


def change_history(directory: Path) -> None:
    """As if it were another Run's of as many epochs."""
    path = directory / "history.csv"
    *others, last = path.read_text().splitlines()
    images_trained = last.split(",")[6]
    write_text(path, "\n".join([*others, last.replace(f",{images_trained},", ",1,")]) + "\n")


def swap_epochs(directory: Path) -> None:
    path = directory / "history.csv"
    header, first, second, *others = path.read_text().splitlines()
    write_text(path, "\n".join([header, second, first, *others]) + "\n")


def empty_times_trained(directory: Path) -> None:
    (directory / "times_trained.npy").write_bytes(b"")


def cut_times_trained(directory: Path) -> None:
    path = directory / "times_trained.npy"
    path.write_bytes(path.read_bytes()[:-4])


def flip_a_bit_of_times_trained(directory: Path) -> None:
    """The length that the header is said to have: it no longer ends where the reader thinks."""
    path = directory / "times_trained.npy"
    content = bytearray(path.read_bytes())
    content[8] ^= 1 << 6
    path.write_bytes(content)


def archive_times_trained(directory: Path) -> None:
    path = directory / "times_trained.npy"
    with path.open("wb") as file:
        np.savez(file, times=np.zeros(120, np.int32))


def half_archive_times_trained(directory: Path) -> None:
    archive_times_trained(directory)
    cut_times_trained(directory)


def change_seed(directory: Path) -> None:
    change(directory, lambda values: values["run"].update(seed=99))


def change_data(directory: Path) -> None:
    change(directory, lambda values: values.update(data="other"))


def change(directory: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads((directory / "summary.json").read_text())
    edit(values)
    write_text(directory / "summary.json", json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove_summary, "is not complete"),
        (cut_history, "7 epochs instead of 8"),
        (cut_last_line, "cannot be read"),
        (lengthen_last_line, "history.csv: not a readable history"),
        (change_history, "history.csv and summary.json contradict each other"),
        (swap_epochs, "history.csv and summary.json contradict each other"),
        (empty_times_trained, "cannot be read: times_trained.npy"),
        (cut_times_trained, "cannot be read: times_trained.npy"),
        (flip_a_bit_of_times_trained, "cannot be read: times_trained.npy"),
        (archive_times_trained, "cannot be read: times_trained.npy"),
        (half_archive_times_trained, "cannot be read: times_trained.npy"),
        (change_seed, "holds another Run"),
        (change_data, "other images"),
    ],
)
def test_a_broken_run_is_refused_by_name(
    synthesise: Callable[..., Any], damage: Callable[[Path], None], reason: str
) -> None:
    config, results, written = synthesise("single comparison")
    run = list(written)[2]
    damage(run.directory(results))
    output = results / "report" / "index.html"
    with pytest.raises(RunError) as caught:
        write_report(config, results, output)
    message = str(caught.value)
    assert run.id in message and reason in message and "run" in message.rpartition(";")[2]
    assert "\n" not in message
    assert not output.parent.exists()


def test_a_missing_store_is_refused_by_name(synthesise: Callable[..., Any]) -> None:
    config, results, _ = synthesise("single comparison")
    (results / "data" / "figures.h5").unlink()
    with pytest.raises(DataError, match=r"figures\.h5"):
        write_report(config, results, results / "report" / "index.html")
