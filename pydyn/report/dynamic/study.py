"""The study's part of the page: headline and sections."""

from collections.abc import Iterator
from operator import attrgetter

from pydyn.report import published
from pydyn.report.blocks import Facts, Paragraph, Section, StudyReport
from pydyn.report.dynamic import comparison, grid, robustness
from pydyn.report.dynamic.names import PROTOCOLS, pool_share, row_names
from pydyn.report.results import Replicates, StudyResults, accuracy_percent, total_seconds
from pydyn.report.statistics import Estimate, paired_difference
from pydyn.report.tables import capitalised, duration, number, share, time_share, with_interval
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.dynamic import Dynamic

images_trained = attrgetter("images_trained")

NO_CLAIM = "n = 1 for each: no interval, no claim"
EXPLANATION = (
    "Protocol paper steers the selection by the test images and reports the maximum over the epochs on these same "
    "images, as published: the figure is optimistic. Protocol holdout steers by images held out of the pool and "
    "reports the untouched test images, at the epoch that was best by the held-out images and at the last."
)


def report(results: StudyResults) -> StudyReport:
    """All that the page says of the study."""
    sections = [Section("dynamic-protocols", "Two protocols", [Paragraph(EXPLANATION)])]
    if "grid" in results.experiments:
        sections.append(Section("dynamic-grid", "Experiment 1: subset size and replacement", grid.blocks(results)))
    if "comparison" in results.experiments:
        sections.append(
            Section("dynamic-comparison", "Experiment 2: strategies side by side", comparison.blocks(results))
        )
    if "robustness" in results.experiments:
        sections.append(Section("dynamic-robustness", "Experiment 3: replicates", robustness.blocks(results)))
    sections.append(Section("dynamic-augmentation", "Experiment 4: augmentation", robustness.augmentation_blocks()))
    return StudyReport("Dynamic Training", _facts(results), list(_findings(results)), list(_caveats(results)), sections)


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
            ("Time", f"{duration(sum(summary.seconds.total for summary in done))} of training, added up over the Runs"),
        ]
    )


def _caveats(results: StudyResults) -> Iterator[str]:
    study, data = results.config.dynamic, results.data
    assert study is not None
    differences = []
    if not published.is_dataset(data.class_names):
        differences.append(f"the data set {data.name} instead of {published.DATASET}")
    if data.n_train != published.POOL:
        differences.append(f"{data.n_train:,} training images instead of {published.POOL:,}")
    if study.epochs != published.EPOCHS:
        differences.append(f"{study.epochs} epochs instead of {published.EPOCHS}")
    if differences:
        yield (
            f"The scale differs from the published one: {'; '.join(differences)}. Measured figures do not reproduce "
            "the published ones and must not be read as such; published figures stand beside them for orientation."
        )


def _findings(results: StudyResults) -> Iterator[str]:
    # The untouched test set speaks first: the maximum over epochs of the other protocol is optimistic.
    protocols = [result.run.protocol for result in results.results]
    protocol = "holdout" if "holdout" in protocols else "paper"
    rows = results.replicates("comparison", protocol)
    if rows:
        yield from _comparison_findings(results, rows, protocol)
    elif cells := results.replicates("grid", protocol):
        yield _grid_finding(results, cells, protocol)
    elif rows := results.replicates("robustness", protocol):
        yield from _comparison_findings(results, rows, protocol)


def _comparison_findings(results: StudyResults, rows: list[Replicates], protocol: str) -> Iterator[str]:
    names = row_names(rows, results.data)
    estimates = [row.estimate(accuracy_percent) for row in rows]
    best = max(range(len(rows)), key=lambda position: estimates[position].mean)
    measured = estimates[best]
    value = with_interval(measured.mean, measured.half_width, 1)
    basis = f"mean and 95 % interval of {measured.n} trainings" if measured.n > 1 else NO_CLAIM
    yield f"Highest accuracy under {PROTOCOLS[protocol]}: {names[best]}, {value} % ({basis})."
    references = [
        (row, name) for row, name in zip(rows, names, strict=True) if isinstance(row.run.strategy, Full | Fixed)
    ]
    for row, name in zip(rows, names, strict=True):
        if isinstance(row.run.strategy, Dynamic):
            parts = [_against(row, reference, against) for reference, against in references]
            if parts := [part for part in parts if part]:
                yield f"{capitalised(name)}, {'; '.join(parts)}.{_unmoved(row)}"


def _unmoved(row: Replicates) -> str:
    # A resampling after the last epoch counts, but nothing is trained on its subset: so ask for the images seen.
    unmoved = all(result.summary.unique_images == result.history[0].subset_size for result in row.results)
    return " Its subset never changed while it trained." if unmoved else ""


def _against(row: Replicates, reference: Replicates, name: str) -> str | None:
    difference = paired_difference(row.by_seed(accuracy_percent), reference.by_seed(accuracy_percent))
    if difference is None:
        return None
    images, seconds = (
        row.estimate(value).mean / reference.estimate(value).mean for value in (images_trained, total_seconds)
    )
    cost = f"with {share(images)} of the images trained and {time_share(seconds)} of the time"
    return f"against {name}: {_difference(difference)}, {cost}"


def _difference(difference: Estimate) -> str:
    points = f"{number(difference.mean, 2, sign=True)} points"
    if difference.interval is None:
        return f"{points} ({NO_CLAIM})"
    if difference.mean == difference.half_width == 0:
        return f"exactly the same accuracy in all {difference.n} pairs"
    low, high = (number(end, 2, sign=True) for end in difference.interval)
    interval = f"95 % interval {low} to {high}, n = {difference.n} pairs"
    return f"{points}, a difference that {'holds' if difference.verdict == 'holds' else 'is not resolved'} ({interval})"


def _grid_finding(results: StudyResults, cells: list[Replicates], protocol: str) -> str:
    best = max(cells, key=lambda cell: cell.estimate(accuracy_percent).mean)
    strategy, measured = best.run.strategy, best.estimate(accuracy_percent)
    assert isinstance(strategy, Dynamic)
    where = f"α = {share(pool_share(strategy.alpha, results.data))}, β = {strategy.beta:g}, γ = {strategy.gamma:g}"
    interval = "" if measured.n > 1 else f"; {NO_CLAIM}"
    value = with_interval(measured.mean, measured.half_width, 1)
    return (
        f"Highest of {len(cells)} cells under {PROTOCOLS[protocol]}: {where} with {value} %{interval}. "
        "The highest of many is above its own mean by chance alone."
    )
