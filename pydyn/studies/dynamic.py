"""The study `dynamic`: Dynamic Training against its controls (papers a and b)."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydyn.config.main import Config
from pydyn.config.studies import DynamicStudy, Trial
from pydyn.selection.strategy import Parameters
from pydyn.studies.chunks import Chunk, chunks_by_images
from pydyn.studies.pools import Pool
from pydyn.studies.run import Run


def datasets(config: Config) -> list[str]:
    """The one it is run on."""
    assert config.dynamic is not None, "Config refuses a study without its section"
    return [config.dynamic.dataset]


def chunks(config: Config, pools: Mapping[str, Pool | None]) -> list[Chunk]:
    """As many Runs a job as are worth a process."""
    listed = dict.fromkeys(run for runs in experiments(config).values() for run in runs)
    return chunks_by_images(config, list(listed), pools)


def experiments(config: Config) -> dict[str, list[Run]]:
    """The Runs of each experiment that the configuration asks for. Experiments may share Runs."""
    study = config.dynamic
    assert study is not None, "Config refuses a study without its section"
    lists: dict[str, list[Run]] = {}
    if study.grid:
        cells = [(strategy, study.epochs) for strategy in study.grid.strategies()]
        lists["grid"] = _runs(study, cells, study.grid.replicates)
    if study.comparison:
        lists["comparison"] = _runs(study, _rows(study, study.comparison.trials), study.comparison.replicates)
    if study.robustness:
        lists["robustness"] = _runs(study, _rows(study, study.robustness.trials), study.robustness.replicates)
    if study.augmentation:
        rows, replicates = _rows(study, study.augmentation.trials), study.augmentation.replicates
        lists["augmentation"] = _runs(study, rows, replicates, study.augmentation.recipe)
    return lists


def _rows(study: DynamicStudy, trials: Sequence[Trial]) -> list[tuple[Parameters, int]]:
    return [(trial.strategy, trial.epochs or study.epochs) for trial in trials]


def _runs(
    study: DynamicStudy,
    rows: Sequence[tuple[Parameters, int]],
    replicates: int,
    augmentation: Literal["none", "crop-flip", "rotate-shift-flip"] = "none",
) -> list[Run]:
    listed = [
        Run(
            study="dynamic",
            dataset=study.dataset,
            protocol=protocol,
            model=study.model,
            batch_norm=study.batch_norm,
            strategy=strategy,
            epochs=epochs,
            batch_size=study.batch_size,
            learning_rate=study.learning_rate,
            precision=study.precision,
            augmentation=augmentation,
            seed=seed,
        )
        for protocol in study.protocols
        for strategy, epochs in rows
        for seed in range(replicates)
    ]
    # Rows may turn out the same, as when an overlay shortens the study to the epochs of one of its trials.
    return list(dict.fromkeys(listed))
