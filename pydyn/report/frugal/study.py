"""The study's part of the page: headline and sections."""

from collections.abc import Collection, Iterator
from pathlib import Path

from pydyn.config.main import Config
from pydyn.report import published
from pydyn.report.blocks import Block, Facts, Heading, Paragraph, Section, StudyReport
from pydyn.report.caveats import disturbance
from pydyn.report.frugal.accuracy import (
    accuracy_drawing,
    accuracy_table,
    majority_sentences,
    parts_sentences,
    parts_table,
    sampling_sentences,
)
from pydyn.report.frugal.adaptation import adaptation_drawing, adaptation_sentences
from pydyn.report.frugal.changes import QUANTITIES, change_table, changes, mean_sentences, saved
from pydyn.report.frugal.costs import cost_drawing, cost_table, reading_problems
from pydyn.report.frugal.method import explanation
from pydyn.report.frugal.names import SPLITS
from pydyn.report.frugal.pictures import confusion_drawing, reliability_drawing
from pydyn.report.frugal.read import (
    FrugalResults,
    Row,
    accuracy,
    balanced_accuracy,
    fine_tuning_of,
    kg_co2,
    proposed_of,
    read_frugal,
    seconds,
    seconds_in_all,
    seconds_waiting,
)
from pydyn.report.frugal.searches import search_table
from pydyn.report.frugal.taking_away import to_take_away
from pydyn.report.paired import in_words
from pydyn.report.runs import RunFacts, StudyPage
from pydyn.report.tables import capitalised, duration, number, with_interval
from pydyn.studies.frugal_runs import HeadRun
from pydyn.studies.run import AnyRun
from pydyn.training.frugal_summary import FrugalSummary


def page(config: Config, results: Path, left_out: Collection[AnyRun] = ()) -> StudyPage:
    """Read the study's results, but for some Runs, and say what came out. Raises DataError or RunError for what is missing."""
    found = read_frugal(config, results, left_out)
    return StudyPage(report(found), list(found.data.values()), [_facts_of(summary) for summary in found.every])


def report(results: FrugalResults) -> StudyReport:
    """All that the page says of the study."""
    return StudyReport(
        "Frugal features",
        _facts(results),
        list(_findings(results)),
        list(_caveats(results)),
        [
            Section("frugal-method", "Method", [Paragraph(explanation(results.study))]),
            Section("frugal-comparison", "Experiment 1: against fine-tuning", _comparison(results)),
            Section("frugal-ablation", "Experiment 2: what each part is worth", _ablation(results)),
            Section("frugal-search", "Experiment 3: searching hyper-parameters", _search(results)),
            *(
                [Section("frugal-splits", "Groups kept whole, or torn apart", _splits(results))]
                if _both(results)
                else []
            ),
        ],
    )


def _comparison(results: FrugalResults) -> list[Block]:
    blocks: list[Block] = []
    if not results.study.fine_tuning:
        blocks.append(Paragraph("Fine-tuning was not run."))
    elif table := change_table(results):
        blocks.append(table)
    else:
        blocks.append(Paragraph("No Run is there of the proposed method and of fine-tuning on the same images."))
    blocks += [drawing] if (drawing := cost_drawing(results)) else []
    places = results.places()
    for dataset, backbone in dict.fromkeys(place[:2] for place in places):
        blocks += [Heading(f"{dataset}, {backbone}"), accuracy_drawing(places, dataset, backbone)]
        for place, rows in places.items():
            if place[:2] == (dataset, backbone):
                blocks += [accuracy_table(place, rows), cost_table(place, rows)]
        first = (dataset, backbone, results.main_splits)
        if ours := proposed_of(places.get(first, [])):
            blocks += [
                reliability_drawing(first, ours, fine_tuning_of(places[first])),
                confusion_drawing(first, ours, fine_tuning_of(places[first]), results.data[dataset].class_names),
                to_take_away(ours, places[first], results.folder),
            ]
        else:
            blocks.append(Paragraph(f"No Run is there of the proposed method, {SPLITS[first[2]]}."))
    return blocks


def _ablation(results: FrugalResults) -> list[Block]:
    blocks: list[Block] = [table for place, rows in results.places().items() if (table := parts_table(place, rows))]
    if not blocks:
        blocks.append(Paragraph("Too few Runs are there to tell what a part of the method is worth."))
    if drawing := adaptation_drawing(results):
        blocks.append(drawing)
    elif any(row.is_proposed for row in results.rows("ablation")):
        blocks.append(Paragraph("No backbone has batch normalisation: nothing was adapted."))
    return blocks


def _search(results: FrugalResults) -> list[Block]:
    if results.study.search is None:
        return [Paragraph("Not run: the configuration asks for no search.")]
    table = search_table(results)
    why = (
        "of which no Run is there on the same images and machine" if results.study.fine_tuning else "which was not run"
    )
    costs = table or Paragraph(f"Costs of a search are set beside those of fine-tuning, {why}.")
    found = [
        f"{row.run.dataset}, {row.run.backbone.label}: {number(len(row.run.settings))} combinations, test accuracy "
        f"{number(accuracy(row.results[0]), 1)} % (validation loss chose)"
        for row in results.rows("search")
        if isinstance(row.run, HeadRun)
    ]
    what = f"What the searches found, each in one division of the images, no interval: {'; '.join(found)}."
    return [costs, Paragraph(what if found else "No search is there.")]


def _both(results: FrugalResults) -> bool:
    return len({place[2] for place in results.places()}) > 1


def _splits(results: FrugalResults) -> list[Block]:
    """What a leak between training and test images is worth."""
    texts = []
    for (dataset, backbone, splits), rows in results.places().items():
        others = results.places().get((dataset, backbone, "image"))
        if splits != "declared" or others is None:
            continue
        for row in [row for row in (fine_tuning_of(rows), proposed_of(rows)) if row]:
            other = next((candidate for candidate in others if candidate.name == row.name), None)
            if other is None:
                continue
            whole, torn = row.estimate(balanced_accuracy), other.estimate(balanced_accuracy)
            assert whole is not None and torn is not None
            texts.append(
                f"{dataset}, {backbone}, {row.name}: {with_interval(whole.mean, whole.half_width, 1)} % {SPLITS['declared']}, "
                f"{with_interval(torn.mean, torn.half_width, 1)} % {SPLITS['image']}, "
                f"{number(torn.mean - whole.mean, 1, sign=True)} points of balanced accuracy"
            )
    explanation = (
        "Images of one group, such as one patient's, are alike. A split image by image puts some of them on both sides, and a "
        "model may recognise the patient instead of the disease. Where a data set declares groups, those with groups kept whole "
        "are the ones to believe; the others show what the leak is worth. (Where it declares none, all splits are by image.)"
    )
    return [Paragraph(explanation), *(Paragraph(f"{capitalised(text)}.") for text in texts)]


def _facts(results: FrugalResults) -> Facts:
    study = results.study
    every = results.every
    counts = ", ".join(f"{len(listed)} in {name}" for name, listed in results.summaries.items())
    return Facts(
        [
            *(
                (
                    f"Data {name}",
                    f"{facts.source}, {number(facts.n_images)} images of {facts.size}, {len(facts.class_names)} classes",
                )
                for name, facts in results.data.items()
            ),
            ("Backbones", ", ".join(backbone.label for backbone in study.backbones)),
            ("Splits", "; ".join(SPLITS[splits] for splits in study.splits)),
            (
                "Replicates",
                f"{study.replicates}, each with a division of its own, but for parts that came with the data",
            ),
            ("Runs", f"{len(every)} ({counts})"),
            ("Device", "; ".join(sorted({f"{s.device}, {s.precision}, {s.threads} thread(s)" for s in every}))),
            (
                "Time",
                f"{duration(sum(seconds_in_all(summary) for summary in every))} added up, "
                f"{'with the learning rates that did not win, ' if study.fine_tuning else ''}extraction counted for each head",
            ),
        ]
    )


def _findings(results: FrugalResults) -> Iterator[str]:
    for (dataset, backbone, splits), rows in results.places().items():
        if splits != results.main_splits:
            continue
        ours, rival = proposed_of(rows), fine_tuning_of(rows)
        if ours is None:
            continue
        reached = ours.estimate(accuracy)
        assert reached is not None
        value = f"{with_interval(reached.mean, reached.half_width, 1)} %"
        if rival is None or ours.against(rival, accuracy) is None:
            yield f"{dataset}, {backbone}: the proposed method reaches an accuracy of {value} on test images (n = {reached.n})."
            continue
        told = published.frugal_change(dataset, "accuracy_change_points") if len(results.study.backbones) == 1 else None
        there = f" (published for such data, mean over four backbones: {number(told[0], 2, sign=True)})" if told else ""
        yield _against_fine_tuning(f"{dataset}, {backbone}", value, ours, rival, there)
    yield from mean_sentences(results)
    yield from parts_sentences(results)


def _against_fine_tuning(where: str, value: str, ours: Row, rival: Row, there: str) -> str:
    difference = ours.against(rival, accuracy)
    assert difference is not None
    claim = {
        "holds": "Its accuracy is higher"
        if difference.mean > 0
        else "The claim that accuracy is kept does not hold here",
        "not resolved": "That accuracy is kept is not contradicted, nor shown",
    }.get(difference.verdict, "Nothing is claimed")
    return (
        f"{where}: the proposed method reaches {value}, against fine-tuning {in_words(difference)}{there}, "
        f"{saved(ours, rival)}. {claim}."
    )


def _caveats(results: FrugalResults) -> Iterator[str]:
    names = {backbone.name for backbone in results.study.backbones}
    if not names & set(published.FRUGAL_BACKBONES) and _shows_published(results):
        yield (
            "None of the paper's backbones (resnet18, resnet50, densenet121, mobilenet_v3) is among those run here; published "
            "figures stand beside the measured ones for orientation."
        )
    if any(backbone.weights == "none" for backbone in results.study.backbones):
        yield "A backbone has random weights: its features are not what the method is about."
    smallest = min(summary.n_test for summary in results.every)
    yield (
        f"Test sets have {smallest:,} images at the least, and there are {results.study.replicates} replicates: what such "
        "numbers do not resolve may still be there."
    )
    yield from majority_sentences(results)
    yield from sampling_sentences(results)
    yield from adaptation_sentences(results)
    for problem in reading_problems(results):
        yield f"Energy readings are missing: {problem}."
    yield from disturbance({summary.run.id: seconds_waiting(summary) / seconds(summary) for summary in results.every})


def _shows_published(results: FrugalResults) -> bool:
    told = (published.frugal_change(change.dataset, name) for change in changes(results) for name in QUANTITIES)
    return search_table(results) is not None or any(told)


def _facts_of(summary: FrugalSummary) -> RunFacts:
    run = summary.run
    return RunFacts(
        study=run.study,
        kind="heads" if isinstance(run, HeadRun) else "fine-tuning",
        setting=run.setting,
        seed=run.seed,
        accuracy_percent=accuracy(summary),
        best_epoch=summary.best_epoch,
        epochs=summary.epochs,
        seconds=seconds(summary),
        device=summary.device,
        precision=summary.precision,
        threads=summary.threads,
        code=summary.code,
        versions=summary.versions,
        finished=summary.finished,
        earlier_places=summary.earlier_places,
        more={
            "balanced_accuracy_percent": balanced_accuracy(summary),
            "kg_co2": kg_co2(summary),
            "seconds_waiting": seconds_waiting(summary),
            "n_train": summary.n_train,
            "n_validation": summary.n_validation,
            "n_test": summary.n_test,
            "n_candidates": summary.n_candidates,
            "stages_elsewhere": "; ".join(summary.elsewhere),
        },
    )
