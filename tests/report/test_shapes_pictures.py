"""What pictures and tables of the study shapes show: what is in the summaries."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from pydyn.config.main import Config
from pydyn.report.page import write_report
from pydyn.report.shapes.analyses import (
    contradictions_table,
    failures_table,
    filters_table,
    interactions_table,
)
from pydyn.report.shapes.causes import causes_in_words
from pydyn.report.shapes.findings import findings
from pydyn.report.shapes.read import Combination, read_shapes
from pydyn.report.shapes.study import _facts_of_population
from pydyn.report.shapes.trainings import one_layer_table
from pydyn.training.analysis_summary import (
    Contradicts,
    Failed,
    Interacts,
    PrunedStep,
)
from pydyn.training.history import read_history
from pydyn.training.population_summary import (
    MemberEpoch,
)
from tests.report.pages import cells, lines
from tests.report.small_shapes import RUN, member, population_of


def test_pictures_are_of_the_summaries(
    trained: tuple[Config, Path], tmp_path: Path, pictures: dict[str, Figure]
) -> None:
    config, results = trained
    write_report(config, results, tmp_path / "index.html", progress=lambda line: None)
    read = read_shapes(config, results)
    (shares,) = pictures["shapes-shares-figures"].axes
    learnt = {one.run.layers: f"{one.learnt}/3" for one in read.combinations if one.has_two_layers}
    places = [(first, second) for first in (2, 4) for second in (2, 12)]
    assert cells(shares) == {(str(one), str(two)): learnt.get((one, two), "–") for one, two in places}
    (one,) = read.analyses
    steps, accuracies = one.summary.steps, 100 * np.array([one.summary.accuracy, *one.after])
    course, *_ = pictures["shapes-pruning-courses"].axes
    assert lines(course)["measured"] == pytest.approx(accuracies)
    assert course.lines[0].get_xdata() == pytest.approx(np.cumsum([0, *(len(step.removed) for step in steps)]))
    above, below, _ = pictures["shapes-pruning-figures-4-12-e2"].axes
    assert above.lines[0].get_ydata() == pytest.approx(accuracies)
    gone = {(filter, str(number)): "×" for number, step in enumerate(steps, 1) for filter in step.removed}
    assert cells(below) == gone
    worth = np.array([[step.without.get(filter, np.nan) for step in steps] for filter in one.summary.filters])
    shown = np.ma.filled(below.collections[0].get_array().reshape(worth.shape), np.nan)
    assert shown == pytest.approx(100 * worth, nan_ok=True)
    for axis, what, size in zip(
        pictures["shapes-dying-figures-2-2-e2"].axes,
        ("dead_filters_1", "dead_filters_2", "dead_outputs"),
        (2, 2, 3),
        strict=True,
    ):
        by_end: dict[str, list[list[float]]] = {}
        for summary in read.causes:
            rows = read_history(summary.run.directory(results) / "history.csv", MemberEpoch)
            for each in summary.members:
                course_of = [100 * getattr(row, what) / size for row in rows if row.seed == each.seed]
                by_end.setdefault(summary.end(each), []).append(course_of)
        assert len(by_end) > 1
        expected = {f"{end} (n = {len(found)})": np.mean(found, axis=0) for end, found in by_end.items()}
        assert lines(axis) == {name: pytest.approx(mean) for name, mean in expected.items()}


def test_every_filter_is_ranked_within_its_layer_and_set_beside_the_others_of_it(trained: tuple[Config, Path]) -> None:
    (one,) = read_shapes(*trained).analyses
    norms, frame = one.summary.scores["L1 norm"], filters_table(one).data
    for layer, part in enumerate((slice(0, 4), slice(4, 16))):
        in_order = sorted(norms[part], reverse=True)
        assert frame.l1_rank[part].tolist() == [1 + in_order.index(norm) for norm in norms[part]]
        alike = [
            max((value for at, value in enumerate(row) if at != own and value is not None), default=math.nan)
            for own, row in enumerate(one.summary.activation_similarity[layer])
        ]
        assert frame.most_similar_maps_percent[part].tolist() == pytest.approx(alike, nan_ok=True)


def test_what_analyses_list_by_hand(trained: tuple[Config, Path]) -> None:
    (one,) = read_shapes(*trained).analyses
    summary = replace(
        one.summary,
        contradictions=[Contradicts(1, "layer 1 F1", 0.5, 0.75)],
        interactions=[Interacts(1, "layer 1 F2", ["layer 1 F1"], 0.1, 0.4)],
        failures=[Failed("test:3", 0, 2, 0.5)],
    )
    listed = [
        contradictions_table(replace(one, summary=summary)),
        interactions_table(replace(one, summary=summary)),
        failures_table(replace(one, summary=summary), ("ellipse", "rectangle", "triangle")),
    ]
    assert [[cell.text for cell in table.body[0]] for table in listed if table] == [
        ["1", "layer 1 F1", "50.00", "75.00", "+25.00"],
        ["1", "layer 1 F2", "layer 1 F1", "+10.00", "+40.00", "+30.00"],
        ["test:3", "ellipse", "triangle", "0.50"],
    ]


def test_what_pruning_and_causes_come_to_by_hand(trained: tuple[Config, Path]) -> None:
    results = read_shapes(*trained)
    (one,) = results.analyses
    # Within a point after the first step, below it after the second, and again within it at the end.
    steps = [PrunedStep(accuracy, {}, ["layer 1 F1"]) for accuracy in (1.0, 0.995, 0.5)]
    twice = [Contradicts(step, "layer 1 F1", 0.5, 0.75) for step in (1, 2)]
    summary = replace(one.summary, accuracy=1.0, steps=steps, accuracy_left=0.995, contradictions=twice)
    told = " ".join(findings(replace(results, analyses=[replace(one, summary=summary)])))
    assert "keeps the accuracy within a point of 100.00 % for the first of 3 steps" in told
    assert "1 of 16 filters contradict the others" in told
    assert "of 3 trainings learn, over 1 combinations of initialiser and optimiser" in told  # not those with a ReLU
    right, wrong = replace(member(0, 0.1), validation_accuracy=1.0), member(1, 1.1)
    relu = replace(RUN, output_relu=True)
    said = causes_in_words(("figures", "2-2", 1), [population_of(right), population_of(right, wrong, run=relu)])
    assert list(said)[:2] == [
        "2-2 on figures: every training learns under 1 of 2 settings, among them adam 0.001, glorot_uniform, bytes, clipped",
        "2-2 on figures, pixels of 0 to 255, loss clipped, linear outputs: 1 of 1 trainings learn",
    ]


def test_networks_of_one_layer_are_of_the_last_epoch(trained: tuple[Config, Path]) -> None:
    results = read_shapes(*trained)
    ended = [replace(member(seed, 1.0), best_validation=1.0, validation_accuracy=0.5 + seed / 4) for seed in (0, 1)]
    every = [Combination(population_of(*ended, run=replace(RUN, filters="3")), (told,)) for told in (0.5, 0.7)]
    row = one_layer_table(every).data.iloc[0]
    assert (row.accuracy_percent, row.best_percent, row.published_percent) == (62.5, 75, 50)
    told = " ".join(findings(replace(results, combinations=every)))
    assert "0 of 4 trainings learn; published: none of 2, 70.0 % at most" in told
    shown = _facts_of_population(every[0].summary)
    assert shown.accuracy_percent == 62.5
