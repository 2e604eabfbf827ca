"""The study `shapes`: populations of tiny networks on generated figures, and analyses of those that learnt."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product

from pydyn.config.main import Config
from pydyn.config.shapes import Causes, ShapesStudy, TrainingSetting
from pydyn.studies.chunks import MOST_RUNS_PER_CHUNK, Chunk
from pydyn.studies.pools import Pool
from pydyn.studies.run import AnyRun
from pydyn.studies.shapes_runs import AnalysisRun, PopulationRun

# A network of 4-4 sees some hundred images in the time in which one of the study `dynamic` sees one; what more filters cost is
# taken as proportional to the products of the convolutions.
IMAGES_OF_ONE = 100
PRODUCTS_OF_4_4 = 9 * (4 * 28 * 28 + 4 * 4 * 14 * 14)


def datasets(config: Config) -> list[str]:
    """All that it is run on."""
    return list(dict.fromkeys(name for _, name in _study(config).named_datasets()))


def experiments(config: Config) -> dict[str, list[AnyRun]]:
    """`trainings`, `causes` and `analyses`."""
    study = _study(config)
    trainings = [
        population(study, part.dataset, filters, part.epochs, study.setting, study.replicates)
        for part in study.trainings
        for filters in part.filters
    ]
    lists: dict[str, list[AnyRun]] = {"trainings": list(trainings)}
    if study.causes:
        lists["causes"] = [run for cause in study.causes for run in _populations_of(study, cause)]
    if study.analyses:
        lists["analyses"] = [
            AnalysisRun(
                study="shapes",
                population=next(
                    run
                    for run in trainings
                    if (run.dataset, run.filters) == (analysis.dataset, analysis.filters)
                    and analysis.epochs in (None, run.epochs)
                ),
                similar_above=study.similar_above,
                interaction_above=study.interaction_above,
                seed=0,
            )
            for analysis in study.analyses
        ]
    return lists


def chunks(config: Config, pools: Mapping[str, Pool | None]) -> list[Chunk]:
    """Populations of one data set as long as they are worth a process; an analysis is a chunk, whose name begins `analysis__`."""
    runs = list(dict.fromkeys(run for listed in experiments(config).values() for run in listed))
    populations = [run for run in runs if isinstance(run, PopulationRun)]
    found: list[list[PopulationRun]] = []
    room = 0.0
    for run in populations:
        pool = pools[run.dataset]
        cost = float(config.chunk_images) if pool is None else run.members * run.epochs * pool.paper * _weight(run)
        fits = bool(found) and found[-1][0].dataset == run.dataset and cost <= room
        if fits and len(found[-1]) < MOST_RUNS_PER_CHUNK:
            found[-1].append(run)
            room -= cost
        else:
            found.append([run])
            room = config.chunk_images - cost
    return [
        *(Chunk(_name(members), tuple(members)) for members in found),
        *(Chunk(f"analysis__{_flat(run)}", (run,)) for run in runs if isinstance(run, AnalysisRun)),
    ]


def population(
    study: ShapesStudy, dataset: str, filters: str, epochs: int, setting: TrainingSetting, members: int
) -> PopulationRun:
    """Networks that differ in the seed only."""
    return PopulationRun(
        study="shapes",
        dataset=dataset,
        filters=filters,
        epochs=epochs,
        batch_size=study.batch_size,
        optimiser=setting.optimiser,
        learning_rate=setting.learning_rate,
        initialiser=setting.initialiser,
        pixels=setting.pixels,
        loss=setting.loss,
        output_relu=setting.output_relu,
        members=members,
        seed=0,
    )


def _populations_of(study: ShapesStudy, cause: Causes) -> list[PopulationRun]:
    first = population(study, cause.dataset, cause.filters, cause.epochs, study.setting, cause.replicates)
    return [
        replace(
            first,
            optimiser=optimiser.name,
            learning_rate=optimiser.learning_rate,
            initialiser=initialiser,
            pixels=pixels,
            loss=loss,
            output_relu=output_relu,
        )
        for pixels, loss, output_relu, optimiser, initialiser in product(
            cause.pixels, cause.losses, cause.output_relu, cause.optimisers, cause.initialisers
        )
    ]


def _weight(run: PopulationRun) -> float:
    first, *second = run.layers
    products = 9 * (first * 28 * 28 + sum(first * count * 14 * 14 for count in second))
    return products / PRODUCTS_OF_4_4 / IMAGES_OF_ONE


def _name(members: list[PopulationRun]) -> str:
    first = _flat(members[0])
    return first if len(members) == 1 else f"{first}__and-{len(members) - 1}-more"


def _flat(run: AnyRun) -> str:
    return run.id.replace("/", "__").removeprefix("analyses__")


def _study(config: Config) -> ShapesStudy:
    assert config.shapes is not None, "Config refuses a study without its section"
    return config.shapes
