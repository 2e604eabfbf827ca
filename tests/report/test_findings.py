"""What the page says in words, and of differences, against a computation from what was written."""

import re
from typing import Any

import numpy as np
import pytest

from pydyn.report.page import write_report
from pydyn.selection.registry import STRATEGIES
from pydyn.training.summary import Summary
from tests.report.pages import ReadTables, Synthesise, chosen, interval, report, table


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
    assert findings[3].startswith(f"Of these differences 5 have an interval, and {held} hold by it: of as many")
    assert findings[3].endswith("0.3 would on average.")
    for _, row in dynamic.iterrows():
        (finding,) = (line for line in findings if line.lower().startswith(row.strategy.lower()))
        assert "(95 % intervals, n = 3 pairs.)" in finding
        verdict = "Not shown to differ from"
        ends = f" ± {(row.interval_high - row.interval_low) / 2:.2f} points"
        if row.verdict == "holds":
            verdict = f"{'More' if row.difference_points > 0 else 'Less'} accurate than"
            ends = f" points, {row.interval_low:+.2f} to {row.interval_high:+.2f}"
        told = f"{row.against} ({row.difference_points:+.2f}{ends})".replace("-", "−").replace("best−set", "best-set")
        # The sentence of its verdict, up to the next one's.
        assert told in re.split(r"\. (?=[A-Z(])", finding.partition(f"{verdict} ")[2])[0]


def test_what_a_strategy_costs_is_said_beside_the_plainest_control(synthesise: Synthesise) -> None:
    folder, written = report(synthesise, "comparison")
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    full, base = (chosen(written, "paper", **fields) for fields in ({"name": "full"}, {"scheme": "base"}))
    images = sum(s.images_trained for s in base) / sum(s.images_trained for s in full)
    seconds = sum(s.seconds.total for s in base) / sum(s.seconds.total for s in full)
    assert findings[1].endswith(
        f"It trained on {100 * images:g} % of the images of full pool, in {100 * seconds:.0f} % of the time."
    )


def test_single_pairs_among_others_are_told_apart_and_not_counted(synthesise: Synthesise) -> None:
    config, results, written = synthesise("comparison")
    for run in written:
        if run.strategy.name == "fixed" and run.seed:
            (run.directory(results) / "summary.json").unlink()
    page = results / "partial" / "index.html"
    write_report(config, results, page, progress=lambda line: None, partial=True)
    findings = re.findall("<li>(.*?)</li>", page.read_text())
    dynamic = [finding for finding in findings if finding.startswith("Dynamic")]
    assert len(dynamic) == 2
    for finding in dynamic:
        assert re.search(r"Against fixed half \([+−][0-9.]+ points, n = 1\)\.", finding)
        assert "(95 % intervals, n = 1 to 3 pairs.)" in finding
    # Against the full pool, and best-set against base.
    assert findings[-1].startswith("Of these differences 3 have an interval, and ")


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
    assert all("accurate than" not in finding and "differ from f" not in finding for finding in findings)
    assert (
        "The same difference in all pairs (no spread, no claim) from full pool (−2.00 points); fixed half (+2.00 points)."
        in findings[1]
    )


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
    assert f" full pool ({row.difference_points:+.2f} ".replace("-", "−") in augmented[1]
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


def test_a_subset_that_never_changed_is_said_so(synthesise: Synthesise) -> None:
    strategy = {"name": "dynamic", "alpha": 0.5, "delta": 0.0}
    trials = [{"strategy": {"name": "full"}}, {"strategy": strategy}]
    folder, _ = report(synthesise, {"dynamic": {"comparison": {"trials": trials, "replicates": 2}}})
    findings = re.findall("<li>(.*?)</li>", (folder / "index.html").read_text())
    assert [finding.endswith("Its subset never changed while it trained.") for finding in findings] == [False, True]


def test_every_strategy_is_set_against_every_control_once(synthesise: Synthesise) -> None:
    trials = [{"strategy": {"name": name}} for name in STRATEGIES] + [{"strategy": {"name": "full"}, "epochs": 4}]
    folder, written = report(synthesise, {"dynamic": {"comparison": {"trials": trials, "replicates": 3}}})
    found = table(folder, "dynamic-comparison-differences-paper")
    pairs = {frozenset(pair) for pair in zip(found.strategy, found.against, strict=True)}
    assert len(found) == len(pairs) == len(trials) * (len(trials) - 1) // 2
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
