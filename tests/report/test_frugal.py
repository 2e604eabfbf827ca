"""The study `frugal` on the page: every figure against a computation from what was written."""

import html
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from pydyn.report.frugal.accuracy import majority_sentences, sampling_sentences
from pydyn.report.frugal.changes import change_table, mean_sentences, saved
from pydyn.report.frugal.read import fine_tuning_of, proposed_of, read_frugal
from pydyn.report.frugal.searches import search_table
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun
from pydyn.training.frugal_summary import FrugalSummary
from tests.report.conftest import CLASSES
from tests.report.frugal_pages import PROPOSED, TWO_DATA_SETS, chosen, interval, reading, report, synthesise, table


def test_accuracies_with_intervals(tmp_path: Path) -> None:
    def uneven(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        return replace(summary, test=replace(summary.test, balanced_accuracy=summary.test.accuracy / 2))

    _, written = report(tmp_path, other=uneven)
    found = table(tmp_path, "frugal-accuracy-breakhis-resnet18-imagenet-declared").set_index("what")
    assert len(found) == 9
    for name, facts in {"fine-tuning": {}, "adapted, redesigned head, weighted (proposed)": PROPOSED}.items():
        summaries = chosen(written, "declared", **facts)
        mean, half_width = interval([100 * summary.test.accuracy for summary in summaries])
        assert found.loc[name].accuracy_percent_mean == pytest.approx(mean)
        assert found.loc[name].accuracy_percent_half_width_95 == pytest.approx(half_width)
        tests = [summary.test for summary in summaries]
        measures = {
            "balanced_accuracy_percent": [100 * test.balanced_accuracy for test in tests],
            "macro_f1_percent": [100 * test.macro_f1 for test in tests],
            "auroc": [test.auroc for test in tests],
            "ece": [test.ece for test in tests],
            "group_accuracy_percent": [100 * (test.group_accuracy or 0) for test in tests],
        }
        for measure, values in measures.items():
            assert found.loc[name][f"{measure}_mean"] == pytest.approx(np.mean(values))
    every = table(tmp_path, "runs")
    assert sorted(every.balanced_accuracy_percent) == pytest.approx(
        sorted(100 * summary.test.balanced_accuracy for summary in written.values())
    )


FOUR = ("resnet18", "resnet50", "densenet121", "mobilenet_v3_large")


@pytest.mark.parametrize("names", [FOUR, FOUR[:3], (*FOUR, "vit_b_16")])
def test_the_published_mean_stands_beside_a_mean_over_backbones(tmp_path: Path, names: tuple[str, ...]) -> None:
    def slower(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        """Fine-tuning takes longer and does worse with each backbone."""
        place = names.index(run.backbone.name)
        if not isinstance(run, FineTuningRun):
            return summary
        costs = {**summary.costs, "training": reading(400.0 * (1 + place))}
        return replace(summary, costs=costs, test=replace(summary.test, accuracy=summary.test.accuracy - 0.01 * place))

    backbones = {"backbones": [{"name": name} for name in names], "splits": ["declared"], "search": None}
    config, written = synthesise(tmp_path, {"frugal": backbones | {"replicates": 2}}, other=slower)
    results = read_frugal(config, tmp_path)
    shown = change_table(results)
    assert shown is not None
    found = shown.data.set_index("backbone")
    counted = names[:4]
    each = []
    for name in counted:
        mine = {run: summary for run, summary in written.items() if run.backbone.name == name}
        ours, rival = chosen(mine, "declared", **PROPOSED), chosen(mine, "declared")
        each.append(np.mean([100 * (a.test.accuracy - b.test.accuracy) for a, b in zip(ours, rival, strict=True)]))
    row = found.loc[f"mean of {len(counted)} backbones"]
    assert row.accuracy_change_points_mean == pytest.approx(np.mean(each))
    assert row.accuracy_change_points_std == pytest.approx(np.std(each, ddof=1))
    assert (row.published_accuracy_change_points_mean, row.published_accuracy_change_points_std) == (0.16, 0.78)
    singles = found[~found.index.str.startswith("mean")]
    assert len(singles) == len(names)
    assert singles.filter(like="published").isna().all(axis=None)
    (told,) = mean_sentences(results)
    assert f"breakhis, mean of {len(counted)} backbones, against fine-tuning: −{-np.mean(each):.2f} points" in told
    assert "published over four: +0.16 points, 89.71 and 90.15 %" in told


@pytest.mark.parametrize(
    "other", [{"device": "another"}, {"threads": 2}, {"earlier_places": ["another"]}, {"elsewhere": ["another"]}]
)
def test_what_several_machines_took_is_not_compared(tmp_path: Path, other: dict[str, Any]) -> None:
    def moved(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        kind = HeadRun if "elsewhere" in other else FineTuningRun
        return replace(summary, **other) if isinstance(run, kind) and run.seed == 0 else summary

    config, _ = synthesise(tmp_path, {"frugal": {"splits": ["declared"], "replicates": 2}}, other=moved)
    results = read_frugal(config, tmp_path)
    shown = change_table(results)
    assert shown is not None
    row = shown.data.iloc[0]
    assert row.accuracy_change_points_mean == pytest.approx(-250 / 60)
    assert pd.isna(row.training_time_reduction_percent_mean)
    assert pd.isna(row.emissions_reduction_percent_mean)
    assert [cell.text for cell in shown.body[0]][3::2] == ["not on one machine"] * 2
    (rows,) = results.places().values()
    ours, rival = proposed_of(rows), fine_tuning_of(rows)
    assert ours and rival and saved(ours, rival) == "trained on other machines or moved, so that time is not compared"
    assert search_table(results) is None


def test_findings_are_of_the_split_that_the_data_declares(tmp_path: Path) -> None:
    changes = {"frugal": {"splits": ["image", "declared"], "search": None}}
    page, written = report(tmp_path, TWO_DATA_SETS, changes)
    first = re.findall("<li>(.*?)</li>", page)[:2]
    assert [text.split(",")[0] for text in first] == ["breakhis", "brain-mri"]
    reached = np.mean(
        [100 * s.test.accuracy for s in chosen(written, "declared", **PROPOSED) if s.run.dataset == "breakhis"]
    )
    assert f"the proposed method reaches {reached:.1f}" in first[0]
    # Of two backbones it must be said which was torn apart.
    assert "breakhis, resnet18-imagenet, fine-tuning: " in page.lower()


def test_the_time_that_training_took_has_what_was_tried_in_vain(tmp_path: Path) -> None:
    page, written = report(tmp_path, {"frugal": {"splits": ["declared"]}})
    heads = sum(sum(r.seconds for r in s.costs.values()) for s in written.values() if isinstance(s.run, HeadRun))
    assert f"{(heads + 3 * 900) / 60:.0f} minutes added up, with the learning rates that did not win" in page


def test_where_the_test_images_are_given_intervals_do_not_hold_their_luck(tmp_path: Path) -> None:
    given = {"datasets": {"breakhis": {"split": {"method": "given", "test": None, "group": None}}}}
    page, written = report(tmp_path, given)
    found = table(tmp_path, "frugal-accuracy-breakhis-resnet18-imagenet-declared").set_index("what")
    expected = interval([100 * summary.test.accuracy for summary in chosen(written, "declared")], redrawn=0)
    row = found.loc["fine-tuning"]
    assert (row.accuracy_percent_mean, row.accuracy_percent_half_width_95) == pytest.approx(expected)
    assert "not that of the test images" in page
    assert "divides the images anew" not in page


def test_what_a_large_class_lends_to_accuracy_is_said(tmp_path: Path) -> None:
    def uneven(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        return replace(summary, test=replace(summary.test, confusion=[[40, 2, 3], [0, 9, 0], [0, 1, 5]]))

    config, _ = synthesise(tmp_path / "even")
    assert not list(majority_sentences(read_frugal(config, tmp_path / "even")))
    config, _ = synthesise(tmp_path / "uneven", TWO_DATA_SETS, other=uneven)
    told = list(majority_sentences(read_frugal(config, tmp_path / "uneven")))
    assert [text.split(":")[0] for text in told] == ["breakhis", "brain-mri"]
    assert told[0] == (
        f"breakhis: 75.0 % of the test images are of class {CLASSES[0]}. To say so of every image is right on as many, with a "
        "balanced accuracy of 33.3 %: go by the balanced accuracy."
    )


@pytest.mark.parametrize("method", ["given", "stratified"])
def test_what_few_test_images_leave_open_is_said_where_no_interval_holds_it(tmp_path: Path, method: str) -> None:
    split = {"method": method, "test": None if method == "given" else 0.3, "group": None}
    config, _ = synthesise(tmp_path, {"datasets": {"breakhis": {"split": split}}})
    grouped = read_frugal(config, tmp_path)
    assert not list(sampling_sentences(grouped))

    def alone(right: float | None) -> list[str]:
        """Without groups, and all replicates right so often, or as they are."""
        summaries = {
            name: tuple(
                replace(s, test=replace(s.test, n_groups=0, accuracy=s.test.accuracy if right is None else right))
                for s in listed
            )
            for name, listed in grouped.summaries.items()
        }
        return list(sampling_sentences(replace(grouped, summaries=summaries)))

    if method == "stratified":
        assert not alone(None)
    for right in (60, 54):
        low, high = binomtest(right, 60).proportion_ci(0.95, "wilson")
        (told,) = alone(right / 60)
        assert "60 test images by themselves leave open" in told
        assert f"is right on {100 * low:.1f} or on {100 * high:.1f} % of such images" in told


def test_backbones_that_see_the_same_images_are_no_replicates(tmp_path: Path) -> None:
    two = {"frugal": {"backbones": [{"name": "resnet18"}, {"name": "resnet50"}]}}
    page, _ = report(tmp_path, two, TWO_DATA_SETS)
    (told,) = re.findall("<li>(In balanced accuracy [^<]*ambiguity weighting[^<]*)</li>", page)
    assert told == (
        "In balanced accuracy (mean over backbones), ambiguity weighting is worth on breakhis −1.67 points in each of 2 pairs "
        "(no spread, no claim); on brain-mri −1.67 points in each of 2 pairs (no spread, no claim)."
    )


def test_the_command_that_exports_the_classifier_names_a_folder_that_is_there(tmp_path: Path) -> None:
    page, _ = report(tmp_path)
    (folder,) = set(re.findall(r"pydyn export (\S+) --output", page))
    assert (Path(folder) / "summary.json").exists()
    assert folder.endswith("breakhis/declared/resnet18-imagenet/adapted-redesigned-weighted/seed0")


def test_changes_against_fine_tuning_stand_beside_the_published(tmp_path: Path) -> None:
    page, written = report(tmp_path)
    row = table(tmp_path, "frugal-changes").set_index("splits").loc["declared"]
    ours, rival = chosen(written, "declared", **PROPOSED), chosen(written, "declared")
    mean, half_width = interval([100 * (a.test.accuracy - b.test.accuracy) for a, b in zip(ours, rival, strict=True)])
    assert (row.accuracy_change_points_mean, row.accuracy_change_points_half_width_95) == pytest.approx(
        (mean, half_width)
    )
    # Ours: 10, 11, 12 s of training, 20 of extraction, 5 of adaptation; theirs 400, 410, 420: the winner alone, not the search.
    mean, half_width = interval([100 * (1 - (35 + seed) / (400 + 10 * seed)) for seed in range(3)], redrawn=0)
    assert row.training_time_reduction_percent_mean == pytest.approx(mean)
    assert row.training_time_reduction_percent_half_width_95 == pytest.approx(half_width)
    assert row.emissions_reduction_percent_mean == pytest.approx(mean)
    assert (row.published_accuracy_change_points_mean, row.published_accuracy_change_points_std) == (0.16, 0.78)
    assert (row.published_training_time_reduction_percent_mean, row.published_emissions_reduction_percent_mean) == (
        89.71,
        90.15,
    )
    findings = re.findall("<li>(.*?)</li>", page)
    assert findings[0].startswith("breakhis, resnet18-imagenet: the proposed method reaches")
    assert "(published for such data, mean over four backbones: +0.16)" in findings[0]
    assert f"with {mean:.1f} ± {half_width:.1f} % less time" in findings[0]


def test_what_each_part_is_worth(tmp_path: Path) -> None:
    report(tmp_path)
    found = table(tmp_path, "frugal-parts-breakhis-resnet18-imagenet-declared").set_index(["part", "where"])
    # 3, 2 and -1 of 60 images, 20 a class: all replicates agree, so that there is no spread to make an interval of.
    for part, images in {"adaptation": 3, "redesigned head": 2, "weighting": -1}.items():
        for where in ("the rest as proposed", "over all settings of the rest"):
            row = found.loc[part, where]
            assert row.difference_points == pytest.approx(100 * images / 60)
            assert (row.pairs, row.verdict) == (3, "no spread, no claim")


def test_costs_by_stage(tmp_path: Path) -> None:
    page, _ = report(tmp_path)
    found = table(tmp_path, "frugal-costs-breakhis-resnet18-imagenet-declared").set_index("what")
    row = found.loc["adapted, redesigned head, weighted (proposed)"]
    assert (row.seconds_adaptation, row.seconds_extraction, row.seconds_training) == (5, 20, 11)
    assert row.seconds_total_mean == 36
    assert row.wh_mean == pytest.approx(36e-3)
    assert row.mg_co2_mean == pytest.approx(36 * 0.2)
    assert np.isnan(found.loc["fine-tuning"].seconds_extraction)
    assert found.loc["fine-tuning"].seconds_total_mean == 410
    assert "CPU: estimate (load x 8 W assumed for a test)" in page


def test_searches_are_projected_from_what_was_measured(tmp_path: Path) -> None:
    page, _ = report(tmp_path)
    found = table(tmp_path, "frugal-search")
    per_image = 900 / 6 / 108  # of all six candidates: a search trains every one
    measured = found[found.proposed_how == "measured"].iloc[0]
    assert (measured.samples, measured.combinations) == (108, 10)
    assert measured.proposed_seconds == pytest.approx(35)
    assert measured.fine_tuning_seconds == pytest.approx(10 * per_image * 108)
    projected = found[found.samples == 100_000].iloc[0]
    assert projected.proposed_how == projected.fine_tuning_how == "projected"
    assert projected.fine_tuning_seconds == pytest.approx(10 * per_image * 100_000)
    assert projected.proposed_seconds == pytest.approx(5 + 30 / 108 * 100_000)
    published = found[found.origin == "published"]
    assert published.speedup.tolist() == [28.29, 167.34]  # as printed, not as the rounded durations give it
    assert "projected" in page
    assert "What the searches found, each in one division of the images, no interval: breakhis" in page


def test_the_leak_of_a_split_by_image_is_told(tmp_path: Path) -> None:
    page, _ = report(tmp_path)
    assert "Groups kept whole, or torn apart" in page
    assert "breakhis, resnet18-imagenet, fine-tuning: " in page.lower()
    assert "+8.3 points of balanced accuracy" in page  # 5 of 60 images


def test_missing_readings_are_said_not_shown_as_zero(tmp_path: Path) -> None:
    page, _ = report(tmp_path, problem="no sensor")
    found = table(tmp_path, "frugal-costs-breakhis-resnet18-imagenet-declared")
    assert found.wh_mean.isna().all()
    assert "no reading" in page
    assert "Energy readings are missing: no sensor." in page
    assert "less CO2" not in re.findall("<li>(.*?)</li>", page)[0]


def test_without_fine_tuning_the_page_does_not_speak_of_it(tmp_path: Path) -> None:
    data = {"datasets": {"other": {"source": "shapes"}}, "frugal": {"datasets": ["other"], "splits": ["declared"]}}
    alone = {"frugal": {"fine_tuning": None, "backbones": [{"name": "efficientnet_lite0"}]}}
    page, _ = report(tmp_path, data, alone)
    for claim in (
        "The rival trains",
        "Dashed: the mean of fine-tuning",
        "the learning rate that won",
        "stand beside the measured",
    ):
        assert claim not in page
    assert "learning rates that did not win" not in page
    assert "Training stops by validation loss, and its rates are chosen on the validation images" in page


@pytest.mark.parametrize("best", ["plain-linear", "adapted-redesigned-weighted"])
def test_a_head_that_validation_images_prefer_is_named_with_its_folder(tmp_path: Path, best: str) -> None:
    def other(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        share = (0.9 if run.setting.endswith(f"/{best}") else 0.5) - run.seed / 10
        return replace(summary, validation=replace(summary.validation, balanced_accuracy=share))

    page, _ = report(tmp_path, {"frugal": {"splits": ["declared"]}}, other=other)
    (told,) = re.findall(r"To use this classifier[^<]*", html.unescape(page))
    if best == "plain-linear":
        assert "not this one is best but “as it comes, linear head, unweighted”" in told
        assert "with a balanced accuracy of 80.0 % against 40.0 %" in told
        (folder,) = re.findall(r"it is (\S+)\.$", told)
        assert folder.endswith("resnet18-imagenet/plain-linear/seed0")
        assert (Path(folder) / "summary.json").exists()
    else:
        assert told.endswith("(or --onnx for other runtimes).")


def test_the_command_that_exports_is_one_whatever_the_folder_is_called(tmp_path: Path) -> None:
    page, _ = report(tmp_path / "my results")
    (command,) = set(re.findall(r"(pydyn export .*? --output model)", html.unescape(page)))
    assert (Path(shlex.split(command)[2]) / "summary.json").exists()


@pytest.mark.parametrize(("part", "said"), [(0.04, False), (0.5, True), (None, False)])
def test_times_of_runs_that_waited_for_a_processor_are_said_to_be_disturbed(
    tmp_path: Path, part: float | None, said: bool
) -> None:
    def waiting(run: FrugalRun, summary: FrugalSummary) -> FrugalSummary:
        disturbed = part if isinstance(run, FineTuningRun) else 0.0
        costs = {
            stage: replace(took, seconds_waiting=None if disturbed is None else took.seconds * disturbed)
            for stage, took in summary.costs.items()
        }
        return replace(summary, costs=costs)

    page, written = report(tmp_path, {"frugal": {"splits": ["declared"], "search": None}}, other=waiting)
    told = f"for more than 5 % of the seconds of 3 of the {len(written)} Runs, 50 % of those of breakhis/declared/"
    assert (told in page) == said
    runs = table(tmp_path, "runs")
    tuned = runs.run.str.contains("fine-tuning")
    seconds = sorted(
        summary.costs["training"].seconds for run, summary in written.items() if isinstance(run, FineTuningRun)
    )
    found = sorted(runs[tuned].seconds_waiting)
    assert found == pytest.approx([second * part for second in seconds]) if part else np.isnan(found).all()
    assert runs[~tuned].seconds_waiting.eq(0).all()
