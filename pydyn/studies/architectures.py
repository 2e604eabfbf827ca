"""The study `architectures`: networks, a grid of hyper-parameters and augmentation on CIFAR-10, and Dynamic Training on top."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydyn.config.architectures import ArchitecturesStudy
from pydyn.config.main import Config
from pydyn.selection.controls import Fixed, Full
from pydyn.selection.strategy import Parameters
from pydyn.studies.chunks import Chunk, chunks_by_images
from pydyn.studies.pools import Pool
from pydyn.studies.run import Run


@dataclass(frozen=True)
class Experiment:
    """One of the source's trainings."""

    number: int
    model: str
    batch_size: int
    augmentation: Literal["none", "rotate-shift-flip"] = "none"


# Section 3 of the source: experiments 1, 2 and 4. Its "10 x 10^-3" is 0.001, Adam's default in Keras.
EXPERIMENTS = (
    Experiment(1, "base", 32),
    Experiment(2, "deeper", 32),
    Experiment(4, "normalised", 64, "rotate-shift-flip"),
)
LEARNING_RATE = 1e-3


def datasets(config: Config) -> list[str]:
    """The one it is run on."""
    return [_study(config).dataset]


def experiments(config: Config) -> dict[str, list[Run]]:
    """Runs of experiments 1, 2 and 4 (`networks`), of 3 (`grid`), and of 1, 2 and 4 with other strategies (`strategies`)."""
    study = _study(config)
    lists = {"networks": [run for number in range(study.replicates) for run in _networks(study, Full(), number)]}
    if study.grid:
        grid = study.grid
        lists["grid"] = [
            _run(study, "base", Fixed(alpha=grid.share), epochs, batch_size, rate, "none", seed)
            for batch_size in grid.batch_sizes
            for epochs in grid.epochs
            for rate in grid.learning_rates
            for seed in range(grid.replicates)
        ]
    if study.strategies:
        lists["strategies"] = [
            run
            for strategy in study.strategies
            for seed in range(study.replicates)
            for run in _networks(study, strategy, seed)
        ]
    return lists


def chunks(config: Config, pools: Mapping[str, Pool | None]) -> list[Chunk]:
    """As many Runs a job as are worth a process."""
    listed = dict.fromkeys(run for runs in experiments(config).values() for run in runs)
    return chunks_by_images(config, list(listed), pools)


def _networks(study: ArchitecturesStudy, strategy: Parameters, seed: int) -> list[Run]:
    return [
        _run(
            study,
            experiment.model,
            strategy,
            study.epochs,
            experiment.batch_size,
            LEARNING_RATE,
            experiment.augmentation,
            seed,
        )
        for experiment in EXPERIMENTS
    ]


def _run(
    study: ArchitecturesStudy,
    model: str,
    strategy: Parameters,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    augmentation: Literal["none", "rotate-shift-flip"],
    seed: int,
) -> Run:
    return Run(
        study="architectures",
        dataset=study.dataset,
        protocol="paper",
        model=model,
        batch_norm=False,
        strategy=strategy,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        precision=study.precision,
        augmentation=augmentation,
        seed=seed,
    )


def _study(config: Config) -> ArchitecturesStudy:
    assert config.architectures is not None, "Config refuses a study without its section"
    return config.architectures
