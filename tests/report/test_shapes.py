"""The study `shapes` on the page: networks trained for real, and what the page says of them."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pydyn.config.datasets import ShapesDataset
from pydyn.config.main import Config, overlay, parse
from pydyn.errors import RunError
from pydyn.report import published
from pydyn.report.blocks import Paragraph
from pydyn.report.page import write_report
from pydyn.report.shapes.analyses import (
    pairs_table,
)
from pydyn.report.shapes.causes import CLIPPED_LOSS, at_the_clip, causes_in_words, factors_table
from pydyn.report.shapes.findings import findings
from pydyn.report.shapes.pruning import beside_the_thesis
from pydyn.report.shapes.read import Combination, read_shapes
from pydyn.report.shapes.study import report
from pydyn.report.shapes.trainings import counts_table, totals_table
from pydyn.report.statistics import share_interval, shares_differ
from pydyn.studies.registry import experiments, runs
from pydyn.training.analysis_summary import (
    SizeRange,
    read_analysis_summary,
)
from pydyn.training.population_summary import (
    PopulationSummary,
    end_of,
    read_population_summary,
    write_population_summary,
)
from tests.report.conftest import some_of, write_partial
from tests.report.small_shapes import RAW, RUN, member, population_of


@pytest.fixture(scope="session")
def page(trained: tuple[Config, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    config, results = trained
    output = tmp_path_factory.mktemp("page") / "index.html"
    write_report(config, results, output, progress=lambda line: None)
    return output


def summary_of(results: Path, run: Any) -> PopulationSummary:
    return read_population_summary(run.directory(results) / "summary.json")


def test_counts_are_those_of_the_summaries(trained: tuple[Config, Path], page: Path) -> None:
    config, results = trained
    table = pd.read_csv(page.parent / "tables" / "shapes-trainings-figures.csv")
    assert table.filters.tolist() == ["2-2", "4-12"]
    for row, run in zip(table.itertuples(), experiments(config, "shapes")["trainings"], strict=False):
        ends = [end_of(member.validation_accuracy, 3) for member in summary_of(results, run).members]
        assert row.n == len(ends) == 3
        assert row.learnt == ends.count("learnt")
        assert row.published_n == 0
    assert (table[["learnt", "2/3", "1/3", "other", "diverged"]].sum(axis=1) == 3).all()


def test_causes_count_each_training_once_for_each_factor(page: Path) -> None:
    table = pd.read_csv(page.parent / "tables" / "shapes-factors-figures-2-2-e2.csv")
    assert table.groupby("factor").n.sum().unique().tolist() == [8 * 3]


def test_the_pruning_tables_go_on_over_a_pages_width(
    trained: tuple[Config, Path], page: Path, read_tables: Callable[[Path], dict[str, list[list[str]]]]
) -> None:
    config, results = trained
    (run,) = experiments(config, "shapes")["analyses"]
    summary = read_analysis_summary(run.directory(results) / "summary.json")
    tables = read_tables(page)
    parts = [tables[name] for name in sorted(tables) if name.startswith("shapes-pruning-figures-4-12-e2-")]
    assert len(parts) == math.ceil(len(summary.steps) / 9) > 1
    cells = {row[0]: [cell for part in parts for cell in part[line][1:]] for line, row in enumerate(parts[0]) if line}
    assert list(cells) == summary.filters
    for number, step in enumerate(summary.steps):
        for name in summary.filters:
            if name not in step.without:
                assert cells[name][number] == "-"
            else:
                goes = " | goes" if name in step.removed else ""
                assert cells[name][number] == f"{100 * step.without[name]:.2f}{goes}"


def test_every_picture_of_an_analysis_is_there_and_one_is_named_for_each_layer(page: Path) -> None:
    drawn = {path.stem for path in (page.parent / "figures").glob("*.png")}
    of_analysis = {f"shapes-{what}-figures-4-12-e2" for what in ("maps", "pruning", "similarity", "failures")}
    of_analysis |= {
        "shapes-maps-figures-4-12-e2-layer1",
        "shapes-maps-figures-4-12-e2-layer2",
        "shapes-pruning-courses",
    }
    assert of_analysis - {"shapes-maps-figures-4-12-e2"} <= drawn
    assert {"shapes-shares-figures", "shapes-causes-figures-2-2-e2", "shapes-dying-figures-2-2-e2"} <= drawn


def test_other_images_than_were_trained_on_are_refused(trained: tuple[Config, Path], tmp_path: Path) -> None:
    config, results = trained
    run = experiments(config, "shapes")["trainings"][0]
    path = run.directory(results) / "summary.json"
    before = path.read_bytes()
    try:
        write_population_summary(path, replace(read_population_summary(path), data="0" * 64))
        with pytest.raises(RunError, match=r"is of other images than figures\.h5 holds now"):
            write_report(config, results, tmp_path / "index.html", progress=lambda line: None)
    finally:
        path.write_bytes(before)


def test_pairs_that_change_by_just_the_threshold_are_listed(trained: tuple[Config, Path]) -> None:
    (one,) = read_shapes(*trained).analyses
    assert one.summary.run.interaction_above == 0.05
    pairs: list[list[float | None]] = [[None] * row for row in range(len(one.summary.filters))]
    # As accuracies of 6,000 images give it: 300 of them, and 299.
    pairs[1], pairs[2] = [(600 - 100) / 6000 - (600 - 400) / 6000], [299 / 6000, None]
    assert pairs[1] == [0.049999999999999996]
    table = pairs_table(replace(one, summary=replace(one.summary, pairs=pairs)))
    assert table is not None
    assert table.data["first"].tolist() == [one.summary.filters[1]]


def test_pruning_stands_beside_the_theses(trained: tuple[Config, Path], page: Path) -> None:
    (row,) = pd.read_csv(page.parent / "tables" / "shapes-pruning.csv").itertuples()
    assert np.isnan(row.published_steps)
    (one,) = read_shapes(*trained).analyses
    assert row.steps == len(one.summary.steps)
    assert row.left_percent == pytest.approx(100 * one.summary.accuracy_left)
    told = tuple(published.shapes_pruning("2.1", "16-16"))
    frame = beside_the_thesis([replace(one, told=told)]).data
    # Table 9 by hand: six at once, then one a step; with F10 of layer 2 at step 8 the accuracy is 91.67 %, at step 15 85.33 %.
    assert frame.published_steps.item() == 25
    assert frame.published_together.item() == 6
    assert frame.published_spared.item() == 6 + 13
    assert frame.published_left_percent.item() == pytest.approx(73.9)


def test_pooled_trainings_share_their_seeds(trained: tuple[Config, Path]) -> None:
    results = read_shapes(*trained)

    def combination(learnt: list[bool], told: tuple[float, ...]) -> Combination:
        members = [
            replace(member(seed, 0.1), validation_accuracy=1.0 if did else 1 / 3) for seed, did in enumerate(learnt)
        ]
        return Combination(population_of(*members), told)

    # Of three combinations a seed learns all or none.
    every = [combination([True, False, False, False], (1.0, 1 / 3))] * 3
    frame = totals_table(replace(results, combinations=every)).data
    assert frame.trainings.tolist() == ["published", "measured, as many of each combination", "measured, all seeds"]
    assert (frame.n.tolist(), frame.independent.tolist()) == ([6, 6, 12], [6, 2, 4])
    assert frame.interval_high.tolist()[2] == pytest.approx(100 * share_interval(1, 4)[1])
    assert frame.p_value_against_published.tolist()[1:] == pytest.approx(
        [shares_differ(1, 2, 3, 6), shares_differ(1, 4, 3, 6)]
    )
    (said, *_) = findings(replace(results, combinations=every))
    assert (
        "3 of 12 trainings learn, 5 to 70 % with 95 % confidence, as of 4 independent ones (published: 3 of 6)" in said
    )


def test_stuck_beyond_the_clip_is_told_from_stuck_otherwise() -> None:
    # The last diverged, and is not stuck.
    summary = population_of(member(0, CLIPPED_LOSS * 2 / 3), member(1, 1.0986), member(2, float("nan")))
    assert at_the_clip([summary]) == (1, 2)
    assert np.isclose(CLIPPED_LOSS, 16.118, atol=1e-3)
    assert any("1 of 2 stuck trainings" in text for text in causes_in_words(("figures", "2-2", 1), [summary]))


def test_what_diverged_is_not_counted_as_dead() -> None:
    nan = float("nan")
    some = population_of(member(0, 1.1, (1, 0, 1)), member(1, nan, (2, 2, 3)), member(2, nan, (2, 2, 3)))
    none = population_of(member(0, nan, (2, 2, 3)), run=replace(RUN, optimiser="sgd"))
    table = factors_table(("figures", "2-2", 1), [some, none])
    assert table is not None
    assert table.data.dead_filters_percent.tolist() == pytest.approx([25, nan], nan_ok=True)
    assert table.data.dead_outputs_mean.tolist() == pytest.approx([1, nan], nan_ok=True)
    assert [cell.text for cell in table.body[1][-2:]] == ["–", "–"]
    counts = counts_table("figures", [Combination(some, ()), Combination(none, ())])
    assert [row[-1].text for row in counts.body] == ["25", "–"]


@pytest.mark.parametrize(
    ("correct", "learnt", "expected"),
    [  # of 15 figures of each of 8 ranges of sizes from 0.1 to 0.9
        ([14, 15, 15, 15, 15, 15, 15, 15], True, "a difference that may be chance (p = 0.25"),
        ([5, 15, 15, 15, 15, 15, 15, 15], True, "the reason that the thesis gives for data set 1.3 (p ="),
        ([15] * 8, True, "this network does not fail by size"),
        ([5, 15, 15, 15, 15, 15, 15, 15], False, None),
    ],
)
def test_failures_by_size_are_told_from_chance(
    trained: tuple[Config, Path], correct: list[int], learnt: bool, expected: str | None
) -> None:
    results = read_shapes(*trained)
    (one,) = results.analyses
    # As they come out of images: the smallest is above 0.1.
    edges = np.linspace(0.1001, 0.8999, 9)
    sizes = [SizeRange(*edges[place : place + 2].tolist(), 15, right) for place, right in enumerate(correct)]
    facts = results.data["figures"]
    of_1_2 = replace(facts, declaration=ShapesDataset(source="shapes", size=(0.1, 0.9)).model_dump())
    analysed = replace(one, summary=replace(one.summary, sizes=sizes, learnt=learnt))
    said = [
        text for text in findings(replace(results, data={"figures": of_1_2}, analyses=[analysed])) if "sizes" in text
    ]
    assert len(said) == (expected is not None)
    if expected:
        assert "of the figures of sizes up to 0.30 are classified correctly" in said[0]
        assert expected in said[0]


def test_as_many_trainings_as_published_are_said_where_there_are_as_many(trained: tuple[Config, Path]) -> None:
    results = read_shapes(*trained)
    first = replace(results.combinations[0], told=(1.0, 1 / 3, 1 / 3))
    few = replace(first, told=(1.0, 1 / 3, 1 / 3, 1 / 3))
    for one, as_many in ((first, True), (few, False)):
        (said, *_) = findings(replace(results, combinations=[one]))
        assert f"published: 1 of {len(one.told)}" in said
        assert ("as many of each combination as published" in said) == as_many


def test_a_network_with_nothing_to_prune_has_no_finding_of_pruning(trained: tuple[Config, Path]) -> None:
    results = read_shapes(*trained)
    (one,) = results.analyses
    assert any("greedy pruning" in text for text in findings(results))
    bare = replace(one, summary=replace(one.summary, steps=[]))
    assert not any("greedy pruning" in text for text in findings(replace(results, analyses=[bare])))


@pytest.mark.parametrize("own", [{}, {"setting": {"pixels": "unit"}}, {"batch_size": 64}])
def test_only_the_reconstructed_setting_is_called_so(trained: tuple[Config, Path], own: dict[str, Any]) -> None:
    results = read_shapes(*trained)
    said = report(replace(results, config=parse(overlay(RAW, {"shapes": own}))))
    (method,) = said.sections[0].blocks
    assert isinstance(method, Paragraph)
    assert ("a reconstruction" in method.text, "is reconstructed" in said.caveats[0]) == (not own, not own)
    if own:
        pixels, batch = own.get("setting", {}).get("pixels", "bytes"), own.get("batch_size", 32)
        assert f"batch {batch}, glorot_uniform, pixels as {pixels}" in method.text


def test_which_part_of_a_data_set_is_called_validation_is_said(page: Path) -> None:
    # The table of the data has 81 training, 9 validation and 45 test images.
    text = page.read_text()
    assert "90 training and 45 validation images" in text
    assert (
        "Validation images are what the thesis calls so: the test part of a data set, whose other two parts are trained"
        in text
    )


@pytest.fixture
def copied(trained: tuple[Config, Path], tmp_path: Path) -> tuple[Config, Path]:
    config, results = trained
    shutil.copytree(results, tmp_path / "results")
    return config, tmp_path / "results"


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_missing_there_is_a_page(copied: tuple[Config, Path], seed: int) -> None:
    config, results = copied
    write_partial(config, results, some_of(runs(config, "shapes"), seed))


def test_what_is_missing_is_said_and_not_called_unasked(copied: tuple[Config, Path]) -> None:
    config, results = copied
    listed = experiments(config, "shapes")
    page = write_partial(config, results, [*listed["causes"], *listed["analyses"]])
    assert "No Run is there of the causes." in page
    assert "No Run is there of the analyses." in page
    assert "asks for no causes" not in page


def test_one_population_of_the_causes_makes_no_table_of_factors(copied: tuple[Config, Path]) -> None:
    config, results = copied
    kept = experiments(config, "shapes")["causes"][-1]
    page = write_partial(config, results, [run for run in runs(config, "shapes") if run != kept])
    assert "No Run is there of the trainings." in page
    assert "shapes-factors" not in page


@pytest.mark.parametrize("name", ["maps.safetensors", "images.safetensors"])
def test_an_analysis_with_a_damaged_file_is_named_and_left_out(
    trained: tuple[Config, Path], tmp_path: Path, name: str
) -> None:
    config, results = trained[0], tmp_path / "results"
    shutil.copytree(trained[1], results)
    (run,) = experiments(config, "shapes")["analyses"]
    path = run.directory(results) / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=f"Run {run.id} cannot be read"):
        read_shapes(config, results)
    assert f"1 of these cannot be read, such as {run.id}" in write_partial(config, results)


def test_nothing_lies_beyond_the_edge_of_a_picture(
    trained: tuple[Config, Path], tmp_path: Path, cut_off: list[bool]
) -> None:
    config, results = trained
    write_report(config, results, tmp_path / "index.html", progress=lambda line: None)
    assert cut_off and not any(cut_off)
