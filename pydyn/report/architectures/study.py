"""The study's part of the page: headline and sections."""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pydyn.config.main import Config
from pydyn.report import published
from pydyn.report.architectures.pictures import confusion_drawing, curves_drawing, grid_drawing
from pydyn.report.architectures.rows import (
    WORDS,
    Row,
    accuracies,
    best_of,
    collapsed,
    dead_percent,
    difference,
    network_rows,
)
from pydyn.report.architectures.tables import differences_table, grid_table, networks_table
from pydyn.report.blocks import Block, Facts, Paragraph, Section, StudyReport
from pydyn.report.caveats import data_differences, disturbance, divergence, shares_waited
from pydyn.report.paired import in_words
from pydyn.report.results import Replicates, StudyResults, last_accuracy_percent, read_study
from pydyn.report.runs import StudyPage, facts_of_network
from pydyn.report.statistics import Estimate
from pydyn.report.tables import duration, number, share, with_interval
from pydyn.selection.dynamic import Dynamic
from pydyn.studies.run import AnyRun

EXPLANATION = (
    "A report trained four networks on CIFAR-10 in Keras, once each, and drew conclusions from the differences. Here the same "
    "networks, with Keras's conventions where they matter (valid padding, Glorot initialisation, ε of Adam and of batch "
    "normalisation, images in 0 to 1), are trained from several seeds. Experiment 3 is a grid over learning rate, batch size and "
    "epochs on 80 % of the training images. The figure is of the last epoch, as in the source, for which the test images choose "
    "nothing."
)
CHANCE = 10.0
# Of the training images, in the source's grid.
GRID_SHARE = 0.8


def page(config: Config, results: Path, left_out: Collection[AnyRun] = ()) -> StudyPage:
    """Read the study's results, but for some Runs, and say what came out. Raises DataError or RunError for what is missing."""
    found = read_study(config, "architectures", results, left_out)
    runs = [facts_of_network(result, last_accuracy_percent(result.summary)) for result in found.results]
    return StudyPage(report(found), [found.data], runs)


def report(results: StudyResults) -> StudyReport:
    """All that the page says of the study."""
    rows = network_rows(results)
    cells = results.replicates("grid", "paper")
    networks: list[Block] = [Paragraph(EXPLANATION)]
    plain = {row.experiment for row in rows if row.is_plain}
    if absent := [f"{experiment}: {words}" for experiment, words in WORDS.items() if experiment not in plain]:
        networks.append(Paragraph(f"No Run is there of experiment {'; '.join(absent)}."))
    if rows:
        networks.append(networks_table(results, rows))
        networks += [table] if (table := differences_table(rows)) else []
    best = best_of(cells)
    if rows or best:
        networks.append(curves_drawing(rows, best))
    if plain or best:
        networks.append(confusion_drawing(rows, best, results.data.class_names))
    sections = [Section("architectures-networks", "Experiments 1, 2 and 4: networks", networks)]
    study = results.config.architectures
    assert study is not None
    if study.grid and not cells:
        nothing = [Paragraph("No Run is there of the grid.")]
        sections.append(Section("architectures-grid", "Experiment 3: hyper-parameters", nothing))
    if cells:
        blocks: list[Block] = [grid_drawing(cells), grid_table(cells), *map(Paragraph, _why_rates_collapse(cells))]
        sections.append(Section("architectures-grid", "Experiment 3: hyper-parameters", blocks))
    return StudyReport(
        "Architectures", _facts(results), list(_findings(results, rows, cells)), list(_caveats(results, rows)), sections
    )


def _facts(results: StudyResults) -> Facts:
    data, done = results.data, [result.summary for result in results.results]
    counts = ", ".join(f"{len(listed)} in {name}" for name, listed in results.experiments.items())
    return Facts(
        [
            (
                "Data",
                f"{data.name}: {data.source}, {number(data.n_images)} images of {data.size}",
            ),
            ("Splits", f"{data.n_train:,} train, {data.n_test:,} test; digest {data.digest[:12]}"),
            ("Runs", f"{len(done)} ({counts})"),
            ("Device", "; ".join(sorted({f"{s.device}, {s.precision}, {s.threads} thread(s)" for s in done}))),
            ("Time", f"{duration(sum(summary.seconds.total for summary in done))} added up over the Runs"),
        ]
    )


def _findings(results: StudyResults, rows: Sequence[Row], cells: Sequence[Replicates]) -> Iterator[str]:
    data = results.data
    # Repeats on other images say nothing of whether a claim about the source's survives.
    elsewhere = "" if published.is_dataset(data.class_names) else f" on {data.name}, which is not the source's data set"
    plain = {row.experiment: row for row in rows if row.is_plain}
    for number_, row in plain.items():
        found, told = accuracies(row.replicates), row.published
        assert told is not None
        yield (
            f"Experiment {number_} ({row.name.partition(': ')[2]}): {with_interval(found.mean, found.half_width, 2)} % "
            f"(n = {found.n}), published {told.accuracy_percent:.2f} % on {published.DATASET}."
        )
    claims = {
        (2, (1,)): "The deeper network beats the base",
        (4, (1,)): "Batch normalisation and augmentation beat the base",
        (4, (1, 2)): "Experiment 4 is the best of all",
    }
    for (ours, others), claim in claims.items():
        if not {ours, *others} <= plain.keys():
            continue
        differences = [(theirs, difference(plain[ours].replicates, plain[theirs].replicates)) for theirs in others]
        known = [(theirs, found_) for theirs, found_ in differences if found_ is not None]
        if len(known) == len(others):
            theirs, decides = min(known, key=lambda one: _support(one[1]))
            against = f"Against experiment {theirs}: " if len(others) > 1 else ""
            verdict = _survives(decides.verdict, decides.mean, elsewhere)
            yield f"“{claim}”, says the source: {verdict}. {against}{in_words(decides)}."
    if cells:
        if 1 in plain and len(plain) > 1:
            yield _hyperparameters_against_networks(plain, cells)
        yield from _why_rates_collapse(cells)
    for row in rows:
        if not row.is_plain and row.experiment in plain:
            found_ = difference(row.replicates, plain[row.experiment].replicates)
            if found_ is not None:
                yield f"Experiment {row.name}, against the full pool: {in_words(found_)}."


def _support(found: Estimate) -> tuple[bool, bool, float]:
    """To sort differences by how much each supports the claim that all are above 0."""
    holds = found.verdict == "holds"
    return not (holds and found.mean < 0), holds, found.mean


def _survives(verdict: str, mean: float, elsewhere: str) -> str:
    if verdict != "holds":
        return f"is not shown by these repeats{elsewhere}"
    if elsewhere:
        return f"{'holds' if mean > 0 else 'the opposite holds'}{elsewhere}"
    return "survives repeats" if mean > 0 else "does not survive, the opposite holds"


def _hyperparameters_against_networks(plain: dict[int, Row], cells: Sequence[Replicates]) -> str:
    best = best_of(cells)
    assert best is not None
    base = accuracies(plain[1].replicates).mean
    network = max(
        (row.replicates for number_, row in plain.items() if number_ != 1), key=lambda row: accuracies(row).mean
    )
    by_grid, by_network = accuracies(best).mean - base, accuracies(network).mean - base
    run = best.run
    place, _ = max(published.architectures_grid().items(), key=lambda item: item[1].accuracy_percent)
    there = f"{place[0]:g}, {place[1]}, {place[2]}"
    return (
        f"“Architecture improves more than hyper-parameters”: the best of the grid (rate {run.learning_rate:g}, batch "
        f"{run.batch_size}, {run.epochs} epochs; published: {there}) is {number(by_grid, 2, sign=True)} points from "
        f"experiment 1, the best network {number(by_network, 2, sign=True)}. The grid trains on {share(best.share)} of "
        f"the training images; its best (n = {len(best.results)}) is picked by the test images, as is the best network "
        f"(n = {len(network.results)}): nothing is claimed."
    )


def _why_rates_collapse(cells: Sequence[Replicates]) -> list[str]:
    """What the largest learning rate does to the network."""
    largest = max(cell.run.learning_rate for cell in cells)
    at_largest = [cell for cell in cells if cell.run.learning_rate == largest]
    others = [cell for cell in cells if cell.run.learning_rate != largest]
    n_runs = sum(len(cell.results) for cell in at_largest)
    fallen = [result for cell in at_largest for result in collapsed(cell)]
    told = [outcome for place, outcome in published.architectures_grid().items() if place[0] == largest]
    there = f" (published: {sum(o.accuracy_percent <= CHANCE for o in told)} of {len(told)})" if told else ""
    text = (
        f"At a learning rate of {largest:g}, {len(fallen)} of {n_runs} trainings end at chance{there}. Of the dense layer's 128 "
        f"units, {number(_dead_percent_of(at_largest), 0)} % are dead there on average: 0 on every test "
        "image after the last epoch"
    )
    if others:
        text += f"; at the smaller rates {number(_dead_percent_of(others), 0)} %"
    if fallen:
        text += f". Where trainings collapsed it is {number(dead_percent(fallen), 0)} %"
    return [f"{text}."]


def _dead_percent_of(cells: Sequence[Replicates]) -> float:
    return sum(dead_percent(cell.results) for cell in cells) / len(cells)


def _caveats(results: StudyResults, rows: Sequence[Row]) -> Iterator[str]:
    study = results.config.architectures
    assert study is not None
    differences = list(data_differences(results.data))
    if study.epochs != 10:
        differences.append(f"{study.epochs} epochs instead of 10")
    if study.grid and study.grid.share != GRID_SHARE:
        differences.append(
            f"{share(study.grid.share)} of the training images in the grid instead of {share(GRID_SHARE)}"
        )
    if differences:
        yield (
            f"The setting differs from the published one: {'; '.join(differences)}. Measured figures do not reproduce the "
            "published ones and must not be read as such; published figures stand beside them for orientation."
        )
    if any(isinstance(row.replicates.run.strategy, Dynamic) for row in rows):
        yield (
            "Dynamic Training replaces images when the accuracy on the test images, of which its figures are, stalls: as under "
            "the protocol paper, that may flatter it. The source's own trainings look at no accuracy."
        )
    yield from divergence(results.results)
    yield from disturbance(shares_waited(results.results))
