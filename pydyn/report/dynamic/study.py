"""The study's part of the page: headline and sections."""

from collections.abc import Iterator
from pathlib import Path

from pydyn.config.main import Config
from pydyn.report.blocks import Facts, Paragraph, Section, StudyReport
from pydyn.report.dynamic import augmentation, comparison, grid, not_run, robustness
from pydyn.report.dynamic.differences import NO_CLAIM, in_words, paired, sentences
from pydyn.report.dynamic.names import PROTOCOLS, row_names
from pydyn.report.dynamic.notes import caveats
from pydyn.report.results import (
    Replicates,
    StudyResults,
    accuracy_percent,
    read_study,
    reported_images,
)
from pydyn.report.runs import StudyPage, facts_of_network
from pydyn.report.tables import duration, number, share, with_interval
from pydyn.selection.dynamic import Dynamic

EXPLANATION = (
    "Protocol paper steers the selection by the test images and reports the maximum over the epochs on these same "
    "images, as published: the figure is optimistic. Protocol holdout steers by images held out of the pool and "
    "reports the untouched test images, at the epoch that was best by the held-out images and at the last."
)


def page(config: Config, results: Path) -> StudyPage:
    """Read the study's results and say what came out. Raises DataError or RunError for what is missing."""
    found = read_study(config, "dynamic", results)
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
    return StudyReport("Dynamic Training", _facts(results), list(_findings(results)), list(caveats(results)), sections)


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
            ("Protocols", " and ".join(study.protocols)),
            ("Device", devices),
            ("Time", f"{duration(sum(summary.seconds.total for summary in done))} added up over the Runs"),
        ]
    )


def _findings(results: StudyResults) -> Iterator[str]:
    # The untouched test set speaks first: the maximum over epochs of the other protocol is optimistic.
    protocols = [result.run.protocol for result in results.results]
    protocol = "holdout" if "holdout" in protocols else "paper"
    rows = results.replicates("comparison", protocol)
    if rows:
        yield from _comparison_findings(rows, protocol)
    elif cells := results.replicates("grid", protocol):
        yield _grid_finding(cells, protocol)
    elif rows := results.replicates("robustness", protocol):
        yield from _comparison_findings(rows, protocol)


def _comparison_findings(rows: list[Replicates], protocol: str) -> Iterator[str]:
    names = row_names(rows)
    estimates = [row.estimate(accuracy_percent) for row in rows]
    best, *others = sorted(range(len(rows)), key=lambda position: -estimates[position].mean)
    measured = estimates[best]
    value = with_interval(measured.mean, measured.half_width, 1)
    n_images = reported_images(rows[best].results[0].summary)
    basis = f"mean of {measured.n} Runs, {n_images:,} test images" if measured.n > 1 else NO_CLAIM
    if measured.half_width is not None:
        basis = f"mean and 95 % interval over the seeds of {measured.n} Runs, {n_images:,} test images"
    if others:
        yield (
            f"Highest accuracy under {PROTOCOLS[protocol]}: {names[best]}, {value} % ({basis}). "
            f"{_ahead(rows[best], rows[others[0]], names[others[0]])}"
        )
    else:
        yield f"Accuracy under {PROTOCOLS[protocol]}: {names[best]}, {value} % ({basis})."
    yield from sentences(rows, names)


def _ahead(best: Replicates, second: Replicates, name: str) -> str:
    """What the highest of several rows is worth."""
    difference = paired(best, second)
    if difference is None:
        return f"Not compared with the runner-up, {name}: they share no seed."
    if difference.verdict != "holds":
        return f"It is not shown to differ from the runner-up, {name}: {in_words(difference)}."
    chance = "It was picked as the highest of several, and such a one tends to lie above its own mean by chance."
    return f"Against the runner-up, {name}: {in_words(difference)}. {chance}"


def _grid_finding(cells: list[Replicates], protocol: str) -> str:
    best = max(cells, key=lambda cell: cell.estimate(accuracy_percent).mean)
    strategy, measured = best.run.strategy, best.estimate(accuracy_percent)
    assert isinstance(strategy, Dynamic)
    where = (
        f"α = {best.n_subset:,} images ({share(best.share)} of the pool), β = {strategy.beta:g}, γ = {strategy.gamma:g}"
    )
    interval = f" (n = {measured.n})" if measured.n > 1 else f"; {NO_CLAIM}"
    value = with_interval(measured.mean, measured.half_width, 1)
    return (
        f"Highest of {len(cells)} cells under {PROTOCOLS[protocol]}: {where} with {value} %{interval}. The highest of "
        "many tends to lie above its own mean by chance."
    )
