"""The study's part of the page: headline and sections."""

from collections.abc import Collection
from pathlib import Path

from pydyn.config.main import Config
from pydyn.report.blocks import Facts, Paragraph, Section, StudyReport
from pydyn.report.dynamic import augmentation, comparison, grid, not_run, robustness
from pydyn.report.dynamic.findings import findings
from pydyn.report.dynamic.notes import caveats
from pydyn.report.results import StudyResults, accuracy_percent, read_study
from pydyn.report.runs import StudyPage, facts_of_network
from pydyn.report.tables import duration, number
from pydyn.studies.run import AnyRun

EXPLANATION = (
    "Protocol paper steers the selection by the test images and reports the maximum over the epochs on these same "
    "images, as published: the figure is optimistic. Protocol holdout steers by images held out of the pool and "
    "reports the untouched test images, at the epoch that was best by the held-out images and at the last."
)


def page(config: Config, results: Path, left_out: Collection[AnyRun] = ()) -> StudyPage:
    """Read the study's results, but for some Runs, and say what came out. Raises DataError or RunError for what is missing."""
    found = read_study(config, "dynamic", results, left_out)
    return StudyPage(
        report(found),
        [found.data],
        [facts_of_network(result, accuracy_percent(result.summary)) for result in found.results],
    )


def report(results: StudyResults) -> StudyReport:
    """All that the page says of the study."""
    ran = results.experiments
    of_grid = grid.blocks(results) if "grid" in ran else not_run.grid()
    of_comparison = comparison.blocks(results) if "comparison" in ran else not_run.comparison()
    of_robustness = robustness.blocks(results) if "robustness" in ran else not_run.robustness()
    sections = [
        Section("dynamic-protocols", "Two protocols", [Paragraph(EXPLANATION)]),
        Section("dynamic-grid", "Experiment 1: subset size and replacement", of_grid),
        Section("dynamic-comparison", "Experiment 2: strategies side by side", of_comparison),
        Section("dynamic-robustness", "Experiment 3: replicates", of_robustness),
        Section("dynamic-augmentation", "Experiment 4: augmentation", augmentation.blocks(results)),
    ]
    return StudyReport("Dynamic Training", _facts(results), list(findings(results)), list(caveats(results)), sections)


def _facts(results: StudyResults) -> Facts:
    study, data = results.config.dynamic, results.data
    assert study is not None
    done = [result.summary for result in results.results]
    counts = ", ".join(f"{len(listed)} in {name}" for name, listed in results.experiments.items())
    epochs = " or ".join(map(str, sorted({summary.run.epochs for summary in done})))
    parts = data.counts.sum(axis=0)
    devices = "; ".join(sorted({f"{summary.device}, {summary.precision}" for summary in done}))
    classes = f"{number(data.n_images)} images of {data.size}, {len(data.class_names)} classes"
    network = study.model + (" with batch normalisation" if study.batch_norm else "")
    shared = "; experiments share some" if sum(map(len, results.experiments.values())) > len(done) else ""
    return Facts(
        [
            ("Data", f"{data.name}: {data.source}, {classes}"),
            ("Splits", f"{parts[0]:,} train, {parts[1]:,} validation, {parts[2]:,} test; digest {data.digest[:12]}"),
            ("Network", f"{network}, {done[0].n_parameters:,} parameters"),
            ("Runs", f"{len(done)}, of {epochs} epochs ({counts}{shared})"),
            ("Protocols", " and ".join(dict.fromkeys(summary.run.protocol for summary in done))),
            ("Device", devices),
            ("Time", f"{duration(sum(summary.seconds.total for summary in done))} added up over the Runs"),
        ]
    )
