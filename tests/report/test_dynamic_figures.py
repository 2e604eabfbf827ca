"""Every measured figure in the tables of the study dynamic against a computation from what was written."""

import numpy as np
import pytest

from pydyn.report import published
from tests.report.pages import ReadTables, Synthesise, chosen, interval, last_accuracy, report, table

BETAS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


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
    # By which no image is trained: what the figure holds is said.
    assert "a resampling after the last epoch counts" in (folder / "index.html").read_text()


def test_sampling_error_is_stated(synthesise: Synthesise) -> None:
    folder, written = report(synthesise, "comparison")
    found = table(folder, "dynamic-comparison-accuracy-paper")
    shares = [
        float(np.mean([s.reported_accuracy for s in chosen(written, "paper", **fields)]))
        for fields in ({"name": "full"}, {"name": "fixed"}, {"scheme": "base"}, {"scheme": "best-set"})
    ]
    # Half of Wilson's interval.
    expected = [196 * (p * (1 - p) / 60 + 0.98**2 / 60**2) ** 0.5 / (1 + 1.96**2 / 60) for p in shares]
    assert found.accuracy_sampling_half_width_95.tolist() == pytest.approx(expected, rel=1e-4)
    text = (folder / "index.html").read_text()
    assert f"on 60 images comes on top: ± {min(expected):.2f} to {max(expected):.2f} points" in text


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
