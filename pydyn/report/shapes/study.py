"""The study's part of the page: headline and sections."""

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from pydyn.config.main import Config
from pydyn.config.shapes import ShapesStudy, TrainingSetting
from pydyn.report import published
from pydyn.report.blocks import Block, Facts, Heading, Paragraph, Section, StudyReport
from pydyn.report.runs import RunFacts, StudyPage
from pydyn.report.shapes.analyses import (
    alike_table,
    contradictions_table,
    failures_table,
    filters_table,
    interactions_table,
    pairs_table,
    ranks_table,
)
from pydyn.report.shapes.causes import (
    causes_drawing,
    causes_in_words,
    dying_drawing,
    factors_table,
)
from pydyn.report.shapes.findings import findings
from pydyn.report.shapes.pictures import (
    courses_drawing,
    failures_drawing,
    maps_drawing,
    pruning_drawing,
    similarity_drawing,
)
from pydyn.report.shapes.pruning import beside_the_thesis, pruning_tables
from pydyn.report.shapes.read import Analysed, ShapesResults, read_shapes
from pydyn.report.shapes.trainings import counts_table, one_layer_table, shares_drawing, totals_table
from pydyn.report.tables import duration, number
from pydyn.studies.run import AnyRun
from pydyn.training.analysis_summary import AnalysisSummary
from pydyn.training.population_summary import PopulationSummary

EXPLANATION = (
    "Networks of one or two convolutional layers of 3 × 3 filters, each with ReLU and max-pooling, and one dense "
    "layer; F1-F2 stands for F1 filters in the first layer and F2 in the second. Many are trained side by side, each "
    "with its own initial weights and order of images. Validation images are what the thesis calls so: the test part of a "
    "data set, whose other two parts are trained on. The thesis names neither optimiser nor learning rate, initialiser, range "
    "of the pixels or version of Keras. "
)
RECONSTRUCTED = (
    "The setting used here unless something else is said "
    "(pixels of 0 to 255 as they are, and the cross-entropy that Keras had until version 2.2, which clips "
    "probabilities at 1e-7) was found by trying which of the conventions of its day make trainings stick: a "
    "reconstruction, not what the thesis says. The section on stuck trainings shows what was tried."
)


def page(config: Config, results: Path, left_out: Collection[AnyRun] = ()) -> StudyPage:
    """Read the study's results, but for some Runs, and say what came out. Raises DataError or RunError for what is missing."""
    found = read_shapes(config, results, left_out)
    runs = [_facts_of_population(summary) for summary in found.populations]
    runs += [_facts_of_analysis(one.summary) for one in found.analyses]
    return StudyPage(report(found), list(found.data.values()), runs)


def report(results: ShapesResults) -> StudyReport:
    """All that the page says of the study."""
    sections = [
        Section("shapes-method", "Method", [Paragraph(EXPLANATION + _origin(results))]),
        Section("shapes-trainings", "Which trainings learn", list(_trainings(results))),
        Section("shapes-stuck", "Why trainings get stuck", list(_stuck(results))),
    ]
    if results.analyses:
        beside: list[Block] = [courses_drawing(results.analyses), beside_the_thesis(results.analyses)]
        sections.append(Section("shapes-filters", "Which filters matter", beside))
    elif results.study.analyses:
        nothing = [Paragraph("No Run is there of the analyses.")]
        sections.append(Section("shapes-filters", "Which filters matter", nothing))
    sections += [
        Section(f"shapes-{one.file}", f"Filters of {one.name}", list(_analysis(one, results)))
        for one in results.analyses
    ]
    return StudyReport(
        "Shapes and sensitivity", _facts(results), list(findings(results)), list(_caveats(results)), sections
    )


def _trainings(results: ShapesResults) -> Iterator[Block]:
    if not results.combinations:
        yield Paragraph("No Run is there of the trainings.")
    if list(results.of_two_layers()):
        yield totals_table(results)
    for dataset, combinations in results.of_two_layers():
        yield shares_drawing(dataset, combinations)
        yield counts_table(dataset, combinations)
    one_layer = [one for one in results.combinations if not one.has_two_layers]
    if one_layer:
        yield one_layer_table(one_layer)


def _stuck(results: ShapesResults) -> Iterator[Block]:
    if not results.study.causes:
        yield Paragraph("Not run: the configuration asks for no causes.")
    elif not results.causes:
        yield Paragraph("No Run is there of the causes.")
    for place, summaries in results.causes_by_place().items():
        yield Heading(f"{place[1]} on {place[0]}")
        for sentence in causes_in_words(place, summaries):
            yield Paragraph(f"{sentence}.")
        yield causes_drawing(place, summaries)
        if table := factors_table(place, summaries):
            yield table
        yield dying_drawing(place, summaries, results)


def _analysis(one: Analysed, results: ShapesResults) -> Iterator[Block]:
    summary = one.summary
    names = results.data[summary.run.dataset].class_names
    if not summary.learnt:
        yield Paragraph(
            f"No network of {one.name} learnt: what follows is of the best one, with an accuracy of "
            f"{100 * summary.accuracy:.2f} %.",
            warning=True,
        )
    yield Paragraph(
        f"Seed {summary.member_seed}, {number(summary.n_parameters)} parameters. Left of {len(summary.filters)} filters after "
        f"{len(summary.steps)} steps: {', '.join(summary.left)}, with an accuracy of {100 * summary.accuracy_left:.2f} %."
    )
    for layer in range(len(one.maps)):
        yield maps_drawing(one, layer, names)
    if summary.steps:
        yield pruning_drawing(one)
    yield from pruning_tables(one)
    yield filters_table(one)
    for table in (contradictions_table(one), interactions_table(one), pairs_table(one)):
        if table:
            yield table
    yield similarity_drawing(one)
    alike = alike_table(one)
    yield alike or Paragraph(f"No two filters are alike to {summary.run.similar_above:g} % or more.")
    yield ranks_table(one)
    picture, failed = failures_drawing(one, names), failures_table(one, names)
    yield picture or Paragraph("No image is misclassified.")
    if failed:
        yield failed


def _origin(results: ShapesResults) -> str:
    """Where the setting of the trainings is from."""
    if _is_reconstructed(results):
        return RECONSTRUCTED
    return f"The setting used here unless something else is said, {_setting(results)}, is the configuration's own."


def _is_reconstructed(results: ShapesResults) -> bool:
    study = results.study
    return (study.setting, study.batch_size) == (TrainingSetting(), ShapesStudy.model_fields["batch_size"].default)


def _setting(results: ShapesResults) -> str:
    study = results.study
    setting = study.setting
    relu = ", ReLU on the outputs" if setting.output_relu else ""
    return (
        f"{setting.optimiser}, rate {setting.learning_rate:g}, batch {study.batch_size}, {setting.initialiser}, "
        f"pixels as {setting.pixels}, loss {setting.loss}{relu}"
    )


def _facts(results: ShapesResults) -> Facts:
    populations = results.populations
    spent = sum(one.summary.seconds for one in results.analyses)
    analysing = f", {duration(spent)} of analyses" if results.analyses else ""
    return Facts(
        [
            *(
                (
                    f"Data {name}",
                    f"{facts.source}, {number(facts.n_train)} training and {number(facts.n_test)} validation images of "
                    f"{facts.size}",
                )
                for name, facts in results.data.items()
            ),
            (
                "Trainings",
                f"{number(sum(len(summary.members) for summary in populations))} of {number(len(populations))} settings",
            ),
            ("Setting", _setting(results)),
            ("Device", "; ".join(sorted({f"{s.device}, {s.threads} thread(s) a job" for s in populations}))),
            ("Time", f"{duration(sum(summary.seconds for summary in populations))} of training added up{analysing}"),
        ]
    )


def _caveats(results: ShapesResults) -> Iterator[str]:
    if _is_reconstructed(results):
        yield (
            "The setting of the thesis's trainings is reconstructed: it was chosen because trainings get stuck under it "
            "in the thesis's way, and shares that agree with the published ones do not prove that it was the thesis's."
        )
    else:
        yield (
            "Trainings are of a setting of the configuration's own, and neither of the thesis's, which it does not name, "
            "nor of the one that was reconstructed."
        )
    if results.analyses:
        yield "Accuracies of pruned networks, in the list of Runs too, are of the images that the networks were trained on."
    unknown = [
        name
        for name, facts in results.data.items()
        if published.shapes_set(facts.declaration) is None or (facts.n_train, facts.n_test) != (6000, 3000)
    ]
    if unknown:
        yield f"Not the thesis's data: {', '.join(unknown)}."


def _facts_of_population(summary: PopulationSummary) -> RunFacts:
    run = summary.run
    return RunFacts(
        study=run.study,
        kind="population",
        setting=run.setting,
        seed=run.seed,
        accuracy_percent=100 * float(np.mean([member.validation_accuracy for member in summary.members])),
        best_epoch=int(np.median([member.best_epoch for member in summary.members])),
        epochs=run.epochs,
        seconds=summary.seconds,
        device=summary.device,
        precision="fp32",
        threads=summary.threads,
        code=summary.code,
        versions=summary.versions,
        finished=summary.finished,
        earlier_places=summary.earlier_places,
    )


def _facts_of_analysis(summary: AnalysisSummary) -> RunFacts:
    return RunFacts(
        study=summary.run.study,
        kind="analysis",
        setting=summary.run.setting,
        seed=summary.run.seed,
        accuracy_percent=100 * summary.accuracy,
        best_epoch=summary.run.population.epochs,
        epochs=summary.run.population.epochs,
        seconds=summary.seconds,
        device=summary.device,
        precision="fp32",
        threads=summary.threads,
        code=summary.code,
        versions=summary.versions,
        finished=summary.finished,
    )
