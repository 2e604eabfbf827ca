"""Every measured figure on the page against a computation from what was written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from pydyn.report import published
from pydyn.report.dynamic.curves import cost_drawing, validation_accuracy
from pydyn.report.dynamic.names import row_names
from pydyn.report.figures import COLOURS, DASHES, line_style
from pydyn.report.page import write_report
from pydyn.report.results import read_study
from pydyn.training.summary import Summary

T_975 = {2: 12.706204736432095, 3: 4.302652729911275, 4: 3.182446305284263}
BETAS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]

Synthesise = Callable[..., Any]
ReadTables = Callable[[Path], dict[str, list[list[str]]]]


def report(synthesise: Synthesise, *parts: Any, **store: Any) -> tuple[Path, dict[Any, Summary]]:
    config, results, written = synthesise(*parts, **store)
    write_report(config, results, results / "report" / "index.html", progress=lambda line: None)
    return results / "report", written


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "tables" / f"{name}.csv")


def chosen(written: dict[Any, Summary], protocol: str, **fields: Any) -> list[Summary]:
    return [
        summary
        for run, summary in written.items()
        if run.protocol == protocol and all(getattr(run.strategy, key, None) == value for key, value in fields.items())
    ]


def interval(sample: list[float]) -> tuple[float, float]:
    return float(np.mean(sample)), T_975[len(sample)] * float(np.std(sample, ddof=1)) / len(sample) ** 0.5


def last_accuracy(summary: Summary) -> float:
    """After the last epoch, on the images that the Run's protocol reports."""
    accuracy = summary.accuracy
    return 100 * (accuracy.last_validation if accuracy.test_at_last is None else accuracy.test_at_last)


@pytest.mark.parametrize(("protocol", "paper", "scheme"), [("paper", "a", "base"), ("holdout", "b", "best-set")])
def test_grid_tables(
    synthesise: Synthesise, read_tables: ReadTables, protocol: str, paper: published.Paper, scheme: str
) -> None:
    half = {"paper": 60, "holdout": 54}[protocol]
    sizes = {
        "dynamic": {
            "grid": {"alpha": [0.3, half], "beta": [0.3, 0.7], "gamma": [0.97], "replicates": 2, "scheme": scheme},
            "protocols": [protocol],
        }
    }
    folder, written = report(synthesise, sizes)
    page = read_tables(folder / "index.html")
    accuracy = table(folder, f"dynamic-grid-accuracy-{protocol}-gamma0.97")
    time = table(folder, f"dynamic-grid-time-{protocol}-gamma0.97")
    assert len(accuracy) == len(time) == 21
    measured = 0
    for (_, row), (_, cost) in zip(accuracy.iterrows(), time.iterrows(), strict=True):
        # 54 of the pool of 108 images are half; of all 120 training images they are not.
        summaries = chosen(written, protocol, alpha={0.3: 0.3, half: half}.get(row.alpha), beta=row.beta)
        position = {25_000: 0, 20_000: 1, 15_000: 2}[row.published_alpha] * 2
        column = BETAS.index(row.beta) + 2
        # The first cell of a group of two rows spans them.
        shown, shown_time = (
            page[f"dynamic-grid-{kind}-{protocol}-gamma0.97"][1 + position][column] for kind in ("accuracy", "time")
        )
        figure = published.grid(paper)[row.published_alpha, row.beta]
        assert row[f"published_{paper}_accuracy_percent"] == figure.accuracy_percent
        assert cost[f"published_{paper}_seconds_gtx1070"] == figure.seconds
        cell = page[f"dynamic-grid-accuracy-{protocol}-gamma0.97"][1 + position + 1][column - 1]
        assert cell == f"{figure.accuracy_percent:.1f}"
        if not summaries:
            assert row.n == 0 and shown == shown_time == "not run"
            continue
        measured += 1
        mean, half_width = interval([100 * summary.reported_accuracy for summary in summaries])
        last, last_half_width = interval([last_accuracy(summary) for summary in summaries])
        assert row.n == 2
        assert (row.accuracy_percent_mean, row.accuracy_percent_half_width_95) == pytest.approx((mean, half_width))
        assert shown == f"{mean:.1f} ± {half_width:.1f} | last {last:.1f} ± {last_half_width:.1f}, n = 2"
        assert row.accuracy_at_last_epoch_percent_mean == pytest.approx(last)
        mean, half_width = interval([summary.seconds.total for summary in summaries])
        assert (cost.seconds_total_mean, cost.seconds_total_half_width_95) == pytest.approx((mean, half_width))
        assert cost.seconds_train_mean == pytest.approx(np.mean([summary.seconds.train for summary in summaries]))
        assert shown_time.endswith("| n = 2")
    assert measured == 4


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_comparison_tables(synthesise: Synthesise, read_tables: ReadTables, protocol: str) -> None:
    folder, written = report(synthesise, "comparison", "both protocols")
    page = read_tables(folder / "index.html")
    accuracy, cost = (table(folder, f"dynamic-comparison-{kind}-{protocol}") for kind in ("accuracy", "cost"))
    shown, shown_cost = (page[f"dynamic-comparison-{kind}-{protocol}"][1:] for kind in ("accuracy", "cost"))
    strategies = [{"name": "full"}, {"name": "fixed"}, {"scheme": "base"}, {"scheme": "best-set"}]
    places = [
        [(85.17, "table 4, 200 epochs"), (86.47, "table 4, 200 epochs")],
        [(81.17, "table 4, 200 epochs"), (82.45, "table 4, 200 epochs")],
        [(84.55, "table 4, 200 epochs"), None],
        [(84.85, "figure 11, 80 epochs"), (83.99, "table 4, 200 epochs")],
    ]
    full = np.mean([summary.seconds.total for summary in chosen(written, protocol, name="full")])
    for position, strategy in enumerate(strategies):
        summaries = chosen(written, protocol, **strategy)
        mean, half_width = interval([100 * summary.reported_accuracy for summary in summaries])
        last, last_half_width = interval([last_accuracy(summary) for summary in summaries])
        row = accuracy.iloc[position]
        assert (row.accuracy_percent_mean, row.accuracy_percent_half_width_95) == pytest.approx((mean, half_width))
        assert shown[position][3:6] == ["3", f"{mean:.2f} ± {half_width:.2f}", f"{last:.2f} ± {last_half_width:.2f}"]
        assert shown[position][6:] == [f"{place[0]:.2f} | {place[1]}" if place else "–" for place in places[position]]
        total, _ = interval([summary.seconds.total for summary in summaries])
        assert cost.iloc[position].seconds_total_mean == pytest.approx(total)
        assert cost.iloc[position].time_share_of_full_mean == pytest.approx(total / full)
        assert shown_cost[position][1] == f"{np.mean([summary.images_trained for summary in summaries]):,.0f}"
        # Constant subsets show no spread.
        unique, unique_half_width = interval([float(summary.unique_images) for summary in summaries])
        saved = 100 * (1 - np.mean([summary.images_trained / (8 * summary.n_pool) for summary in summaries]))
        assert shown_cost[position][2] == f"{saved:.3g} %"
        assert shown_cost[position][3] == f"{unique:,.0f}" + (f" | ± {unique_half_width:,.0f}" if position > 1 else "")
        assert shown_cost[position][4] == ("0.0" if position < 2 else "3.0 | ± 2.5")
        assert shown_cost[position][9].startswith(f"{100 * total / full:.0f} % | ± ")
        for name in ("images_trained", "unique_images", "resamplings", "seconds_train", "seconds_select"):
            assert {f"{name}_mean", f"{name}_std"} <= set(cost.columns)
        assert cost.n[position] == 3
        trained = [summary.seconds.train for summary in summaries]
        assert cost.seconds_train_std[position] == pytest.approx(np.std(trained, ddof=1))


def test_differences_are_paired_by_seed(synthesise: Synthesise, read_tables: ReadTables) -> None:
    folder, written = report(synthesise, "comparison")
    found = table(folder, "dynamic-comparison-differences-paper")
    shown = read_tables(folder / "index.html")["dynamic-comparison-differences-paper"][1:]
    full, fixed, base, best_set = (
        np.array([100 * s.reported_accuracy for s in chosen(written, "paper", **fields)])
        for fields in ({"name": "full"}, {"name": "fixed"}, {"scheme": "base"}, {"scheme": "best-set"})
    )
    expected = [fixed - full, base - full, best_set - full, base - fixed, best_set - fixed, best_set - base]
    assert len(found) == len(expected)
    for differences, (_, row), cells in zip(expected, found.iterrows(), shown, strict=True):
        mean, half_width = interval(differences.tolist())
        assert (row.pairs, row.difference_points) == (3, pytest.approx(mean))
        assert (row.interval_low, row.interval_high) == pytest.approx((mean - half_width, mean + half_width))
        assert row.verdict == ("holds" if abs(mean) > half_width else "not resolved")
        assert cells[-1] == row.verdict
        assert cells[3].replace("−", "-") == f"{mean:+.2f}"


def test_one_replicate_gives_no_interval_and_no_claim(synthesise: Synthesise, read_tables: ReadTables) -> None:
    folder, _ = report(synthesise, "single comparison")
    html = (folder / "index.html").read_text()
    page = read_tables(folder / "index.html")
    assert all("±" not in cell for rows in page.values() for row in rows for cell in row)
    assert {row[-1] for row in page["dynamic-comparison-differences-paper"][1:]} == {"n = 1, no interval"}
    assert {row[-2] for row in page["dynamic-comparison-differences-paper"][1:]} == {"no interval"}
    findings = re.findall("<li>(.*?)</li>", html)
    assert findings and all("n = 1 for each: no interval, no claim" in finding for finding in findings)
    assert table(folder, "dynamic-comparison-accuracy-paper").accuracy_percent_half_width_95.isna().all()


def test_the_headline_says_what_the_differences_say(synthesise: Synthesise) -> None:
    folder, _ = report(synthesise, "comparison")
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    differences = table(folder, "dynamic-comparison-differences-paper")
    dynamic = differences[differences.strategy.str.startswith("dynamic")]
    assert len(findings) == 4
    assert "Runs, 60 test images; the maximum over the epochs, on the images that steer: optimistic" in findings[0]
    held = (dynamic.verdict == "holds").sum()
    assert len(dynamic) == 5
    assert findings[3].startswith(f"Of these 5 differences {held} hold, each by an interval of its own: of as many")
    assert findings[3].endswith("0.3 would on average.")
    for _, row in dynamic.iterrows():
        (finding,) = (line for line in findings if line.lower().startswith(row.strategy.lower()))
        part = finding.partition(f"against {row.against}: ")[2].partition("; against")[0]
        assert part.startswith(f"{row.difference_points:+.2f} points".replace("-", "−"))
        assert ("a difference that holds" in part) == (row.verdict == "holds")


def test_equal_differences_claim_nothing(
    synthesise: Synthesise, read_tables: ReadTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    level = {"full": 0.84, "fixed": 0.80}
    monkeypatch.setattr(
        Summary,
        "reported_accuracy",
        property(lambda self: level.get(self.run.strategy.name, 0.82) + self.run.seed / 50),
    )
    folder, _ = report(synthesise, "comparison")
    found = table(folder, "dynamic-comparison-differences-paper")
    assert (
        set(found.verdict) == {"no spread, no claim"} and found.interval_low.isna().all() and (found["std"] == 0).all()
    )
    shown = read_tables(folder / "index.html")["dynamic-comparison-differences-paper"][1:]
    assert {tuple(row[4:]) for row in shown} == {("no interval", "no spread, no claim")}
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    assert "not shown to differ from the runner-up" in findings[0]
    assert all("a difference that holds" not in finding for finding in findings)
    assert "+2.00 points in each of 3 pairs (no spread, no claim)" in findings[1]


def test_the_headline_compares_the_highest_with_the_runner_up(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    for gap, resolved in ((0.02, True), (0.0001, False)):
        level = {"full": 0.84 + gap, "fixed": 0.80}

        def accuracy(self: Summary, level: dict[str, float] = level) -> float:
            # Noise of a size between the two gaps.
            noise = 0.001 * ((sum(self.run.setting.encode()) + self.run.seed * 7) % 3)
            return level.get(self.run.strategy.name, 0.84) + noise

        monkeypatch.setattr(Summary, "reported_accuracy", property(accuracy))
        folder, _ = report(synthesise, "comparison")
        first = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())[0]
        assert ("picked as the highest of several, and such a one tends to lie above its own mean" in first) == resolved
        assert ("not shown to differ from the runner-up" in first) == (not resolved)
        assert "interval over the seeds of 3 Runs, 60 test images" in first


def test_the_headline_speaks_of_replicates_and_of_augmentation(synthesise: Synthesise) -> None:
    folder, written = report(synthesise, "comparison", "robustness", "augmentation", "both protocols")
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    assert findings[0].startswith("Highest accuracy under protocol holdout")
    replicates = [f.partition(": ")[2] for f in findings if f.startswith("Experiment 3, replicates: ")]
    augmented = [f.partition(": ")[2] for f in findings if f.startswith("Experiment 4, augmented images: ")]
    assert len(findings) == 4 + len(replicates) + len(augmented)
    assert "optimistic" not in findings[0]

    assert [sentence[:9] for sentence in replicates] == ["Highest a", "Dynamic h", "Standard "]
    assert "95 % interval over the seeds of 4 Runs" in replicates[0] and "n = 4 pairs" in replicates[1]
    found = [100 * s.reported_accuracy for run, s in written.items() if is_full(run) and run.augmentation == "none"]
    assert (
        f"full pool, {np.std(found, ddof=1):.2f} points ({min(found):.1f} to {max(found):.1f} %, n = 4)"
        in replicates[2]
    )

    assert [sentence[:9] for sentence in augmented] == ["Highest a", "Dynamic h", "Of these ", "Full pool"]
    differences = table(folder, "dynamic-augmentation-differences-holdout")
    row = differences[differences.strategy.str.startswith("dynamic") & (differences.against == "full pool")].iloc[0]
    assert f"against full pool: {row.difference_points:+.2f} points".replace("-", "−") in augmented[1]
    with_it, without = (
        {
            run.seed: 100 * s.reported_accuracy
            for run, s in written.items()
            if is_full(run) and run.augmentation == recipe
        }
        for recipe in ("crop-flip", "none")
    )
    worth = np.mean([with_it[seed] - without[seed] for seed in with_it])
    assert augmented[3].startswith(f"Full pool, {worth:+.2f} points".replace("-", "−"))
    assert augmented[3].count("n = 3 pairs") == 3
    assert augmented[3].endswith("each against the same without augmentation.")


def is_full(run: Any) -> bool:
    return run.protocol == "holdout" and run.strategy.name == "full"


def test_what_the_comparison_says_is_not_said_again_of_its_runs(synthesise: Synthesise) -> None:
    folder, _ = report(synthesise, "comparison", "robustness", {"dynamic": {"robustness": {"replicates": 3}}})
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    assert len(findings) == 4 + 1
    assert findings[4].startswith("Experiment 3, replicates: Standard deviation of the accuracy over the seeds")


def test_augmented_runs_alone_are_compared_with_no_others(synthesise: Synthesise) -> None:
    folder, _ = report(synthesise, "augmentation")
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    assert len(findings) == 3 and all(f.startswith("Experiment 4, augmented images: ") for f in findings)


def test_the_picture_of_costs_has_bands_and_says_which_accuracy_it_is(
    synthesise: Synthesise, monkeypatch: pytest.MonkeyPatch
) -> None:
    bands: list[Any] = []
    marks: list[tuple[float, ...]] = []
    fill, errorbar = Axes.fill_between, Axes.errorbar
    monkeypatch.setattr(Axes, "fill_between", lambda axis, *a, **k: bands.append(a) or fill(axis, *a, **k))
    monkeypatch.setattr(Axes, "errorbar", lambda axis, *a, **k: marks.append(a[:3]) or errorbar(axis, *a, **k))
    config, results, written = synthesise("comparison", "both protocols")
    study = read_study(config, "dynamic", results)
    for protocol, n_marks in (("paper", 0), ("holdout", 2 * 4)):
        rows = study.replicates("comparison", protocol)
        bands.clear()
        drawing = cost_drawing(study, rows, row_names(rows), protocol)
        assert (len(bands), len(marks)) == (2 * 4, n_marks)
        curves = np.maximum.accumulate(rows[0].curves(validation_accuracy), axis=1)
        assert np.mean([bands[0][1], bands[0][2]], axis=0) == pytest.approx(curves.mean(axis=0))
        assert bands[0][2] - bands[0][1] == pytest.approx(2 * curves.std(axis=0, ddof=1))
        assert "band: one standard deviation around it (n = 3)" in drawing.caption
        assert ("the validation images are the test images" in drawing.caption) == (protocol == "paper")
        assert ("test images are looked at once" in drawing.caption) == (protocol == "holdout")
    full = chosen(written, "holdout", name="full")
    tested = [100 * summary.accuracy.test_at_best for summary in full]
    assert marks[0] == pytest.approx((full[0].images_trained, np.mean(tested), np.std(tested, ddof=1)))
    assert marks[1][0] == pytest.approx(np.mean([summary.seconds.total for summary in full]))


def test_the_picture_of_costs_of_single_runs_has_no_band(synthesise: Synthesise) -> None:
    folder, _ = report(synthesise, "single comparison", "both protocols")
    text = (folder / "index.html").read_text()
    assert text.count("no band, as n = 1.") == 2
    assert "weights, mean." in text.replace("&#39;", "'")


def test_sampling_error_is_stated(synthesise: Synthesise) -> None:
    folder, written = report(synthesise, "comparison")
    found = table(folder, "dynamic-comparison-accuracy-paper")
    shares = [
        float(np.mean([s.reported_accuracy for s in chosen(written, "paper", **fields)]))
        for fields in ({"name": "full"}, {"name": "fixed"}, {"scheme": "base"}, {"scheme": "best-set"})
    ]
    expected = [196 * (p * (1 - p) / 60) ** 0.5 for p in shares]
    assert found.accuracy_sampling_half_width_95.tolist() == pytest.approx(expected, rel=1e-4)
    text = (folder / "index.html").read_text()
    assert f"on 60 images comes on top: ± {min(expected):.2f} to {max(expected):.2f} points" in text


def test_a_subset_that_never_changed_is_said_so(synthesise: Synthesise) -> None:
    strategy = {"name": "dynamic", "alpha": 0.5, "delta": 0.0}
    trials = [{"strategy": {"name": "full"}}, {"strategy": strategy}]
    folder, _ = report(synthesise, {"dynamic": {"comparison": {"trials": trials, "replicates": 2}}})
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    assert [finding.endswith("Its subset never changed while it trained.") for finding in findings] == [False, True]


@pytest.mark.parametrize("protocol", ["paper", "holdout"])
def test_robustness_table(synthesise: Synthesise, read_tables: ReadTables, protocol: str) -> None:
    folder, written = report(synthesise, "robustness", "both protocols")
    found = table(folder, f"dynamic-robustness-{protocol}")
    shown = read_tables(folder / "index.html")[f"dynamic-robustness-{protocol}"][1:]
    for position, fields in enumerate(({"name": "full"}, {"scheme": "best-set"})):
        summaries = chosen(written, protocol, **fields)
        maxima = [100 * summary.accuracy.best_validation for summary in summaries]
        mean, half_width = interval(maxima)
        assert found.iloc[position].maximum_percent_std == pytest.approx(np.std(maxima, ddof=1))
        assert shown[position][3] == f"{mean:.2f} ± {half_width:.2f}"
        assert shown[position][5] == f"{min(maxima):.2f} to {max(maxima):.2f}"
        mean, half_width = interval([100 * summary.reported_accuracy for summary in summaries])
        last, last_half_width = interval([last_accuracy(summary) for summary in summaries])
        assert shown[position][6:8] == [f"{mean:.2f} ± {half_width:.2f}", f"{last:.2f} ± {last_half_width:.2f}"]
        assert found.iloc[position].accuracy_at_last_epoch_percent_mean == pytest.approx(last)
    assert [cells[-1] for cells in shown] == ["–", "85.20 | figure 12, 80 epochs"]


def test_every_strategy_is_set_against_every_control_once(synthesise: Synthesise) -> None:
    names = ["full", "fixed", "fresh", "infobatch", "dynamic"]
    trials = [{"strategy": {"name": name}} for name in names] + [{"strategy": {"name": "full"}, "epochs": 4}]
    folder, written = report(synthesise, {"dynamic": {"comparison": {"trials": trials, "replicates": 3}}})
    found = table(folder, "dynamic-comparison-differences-paper")
    pairs = {frozenset(pair) for pair in zip(found.strategy, found.against, strict=True)}
    assert len(found) == len(pairs) == 6 * 5 // 2
    assert not found.against.str.startswith("dynamic").any()
    fresh = {run.seed: run for run in written if run.strategy.name == "fresh"}
    dynamic = {run.seed: run for run in written if run.strategy.name == "dynamic"}
    row = found[found.strategy.str.startswith("dynamic") & found.against.str.contains("RS2")].iloc[0]
    accuracy = {run: 100 * written[run].accuracy.best_validation for run in written}
    assert row.difference_points == pytest.approx(np.mean([accuracy[dynamic[s]] - accuracy[fresh[s]] for s in fresh]))


def test_variants_of_dynamic_training_are_set_against_the_plainest_of_their_sizes(synthesise: Synthesise) -> None:
    variants = [
        {"scheme": "best-set"},
        {"trigger": "signed"},
        {"replacements": "ambiguous"},
        {"scheme": "best-set", "replacements": "hard"},
        {"beta": 0.3, "replacements": "hard"},  # of another size than the plain one
    ]
    trials = [{"strategy": {"name": "dynamic", **values}} for values in ({}, *variants)]
    for experiment in ("comparison", "augmentation", "robustness"):
        recipe = {"recipe": "crop-flip"} if experiment == "augmentation" else {}
        part = {"trials": trials, "replicates": 3, **recipe}
        folder, written = report(synthesise, {"dynamic": {"comparison": None, experiment: part}})
        found = table(folder, f"dynamic-{experiment}-differences-paper")
        assert len(found) == len(variants) - 1
        assert set(found.against) == {found.against[0]} and "base" in found.against[0]
        plain, best_set = (
            np.array(
                [100 * s.reported_accuracy for s in chosen(written, "paper", beta=0.7, trigger="absolute", **fields)]
            )
            for fields in (
                {"scheme": "base", "replacements": "uniform"},
                {"scheme": "best-set", "replacements": "uniform"},
            )
        )
        row = found[found.strategy.str.contains("best-set") & ~found.strategy.str.contains("first")].iloc[0]
        assert row.difference_points == pytest.approx(np.mean(best_set - plain))


def test_augmentation_is_published_only(synthesise: Synthesise, read_tables: ReadTables) -> None:
    folder, _ = report(synthesise, "single comparison")
    assert read_tables(folder / "index.html")["dynamic-augmentation"][1:] == [
        ["full pool", "not run", "90.65", "91.88", "1,536 | 100 %", "1,455 | 100 %"],
        ["fixed half", "not run", "86.95", "87.14", "820 | 53 %", "885 | 61 %"],
        ["dynamic half", "not run", "89.03", "90.13", "830 | 54 %", "854 | 59 %"],
    ]


def test_augmentation_table_stands_beside_the_published_and_leaves_other_times_alone(
    synthesise: Synthesise, read_tables: ReadTables
) -> None:
    folder, written = report(synthesise, "comparison", "augmentation")
    assert "a random crop of the image with 4 black pixels around it, mirrored" in (folder / "index.html").read_text()
    shown = read_tables(folder / "index.html")
    rows = shown["dynamic-augmentation-paper"][1:]
    assert [row[-4:] for row in rows] == [
        ["90.65", "1,536 | 100 %", "91.88", "1,455 | 100 %"],
        ["86.95", "820 | 53 %", "87.14", "885 | 61 %"],
        ["89.03", "830 | 54 %", "90.13", "854 | 59 %"],
    ]
    seconds = [
        np.mean(
            [
                s.seconds.total
                for run, s in written.items()
                if run.augmentation == "crop-flip" and run.strategy.name == name
            ]
        )
        for name in ("full", "fixed", "dynamic")
    ]
    assert [row[-5].split(" | ")[1] for row in rows] == [f"{100 * value / seconds[0]:.0f} %" for value in seconds]
    augmented = [run for run in written if run.augmentation == "crop-flip"]
    assert len(augmented) == 9
    assert all("crop-flip" in run.id for run in augmented)
    found = [100 * written[run].accuracy.best_validation for run in augmented if run.strategy.name == "full"]
    mean, half_width = interval(found)
    assert rows[0][3] == f"{mean:.2f} ± {half_width:.2f}"
    assert (folder / "figures" / "dynamic-augmentation-paper.png").exists()
    costs = {row[0].split(" |")[0]: row for row in shown["dynamic-comparison-cost-paper"][1:]}
    assert costs["full pool"][9].startswith("100 %")


def test_another_recipe_of_augmentation_is_trained_and_said(synthesise: Synthesise) -> None:
    recipe = {"dynamic": {"augmentation": {"recipe": "rotate-shift-flip"}}}
    folder, written = report(synthesise, "augmentation", recipe)
    assert {run.augmentation for run in written} == {"rotate-shift-flip"}
    text = (folder / "index.html").read_text()
    assert (
        "the image turned by up to 15 degrees and moved by up to a tenth of itself, its edges repeated, mirrored"
        in text
    )


def test_rows_that_differ_in_epochs_only_have_names_of_their_own(
    synthesise: Synthesise, read_tables: ReadTables
) -> None:
    trials = [{"strategy": {"name": "full"}}, {"strategy": {"name": "full"}, "epochs": 4}]
    folder, _ = report(synthesise, {"dynamic": {"comparison": {"trials": trials}}})
    rows = read_tables(folder / "index.html")["dynamic-comparison-cost-paper"][1:]
    assert [row[0] for row in rows] == ["full pool, 8 epochs | n = 1", "full pool, 4 epochs | n = 1"]
    # Times are shares of the longest typical training.
    assert [row[9] for row in rows] == ["100 %", "50 %"]


def test_names_tell_all_that_two_rows_can_differ_in(synthesise: Synthesise) -> None:
    dynamic = {"name": "dynamic", "alpha": 0.5, "beta": 0.7}
    variants = [{}, {"gamma": 0.97}, {"delta": 0.02}, {"replacements": "hard"}, {"trigger": "signed"}]
    strategies = [{**dynamic, **variant} for variant in variants] + [
        {**dynamic, "delta": 0.02, "trigger": "signed"},
        {"name": "infobatch"},
        {"name": "infobatch", "anneal": 0.25},
    ]
    trials = [{"strategy": strategy} for strategy in strategies]
    config, results, _ = synthesise({"dynamic": {"comparison": {"trials": trials}}})
    names = row_names(read_study(config, "dynamic", results).replicates("comparison", "paper"))
    assert [name.replace("\u00a0", " ") for name in names] == [
        "dynamic half (base, β 0.7)",
        "dynamic half (base, β 0.7, γ 0.97)",
        "dynamic half (base, β 0.7, δ 0.02)",
        "dynamic half (base, β 0.7, unseen and hard first)",
        "dynamic half (base, β 0.7, signed trigger)",
        "dynamic half (base, β 0.7, δ 0.02, signed trigger)",
        "InfoBatch (r 0.5)",
        "InfoBatch (r 0.5, annealed 25 %)",
    ]


def test_no_two_of_many_lines_look_alike() -> None:
    looks = [line_style(position) for position in range(len(COLOURS) * len(DASHES))]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == len(looks)
