"""Every study by name, and what the workflow needs to know of it: its Runs, and the chunks in which jobs train them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydyn.config.main import Config
from pydyn.errors import ConfigError
from pydyn.studies import dynamic
from pydyn.studies.run import Run

STUDIES: dict[str, Callable[[Config], dict[str, list[Run]]]] = {
    "dynamic": dynamic.experiments,
}

# A bound on one shell command's length, and on what one killed job has to look at again.
MOST_RUNS_PER_CHUNK = 100


@dataclass(frozen=True)
class Chunk:
    """Runs of one data set that one process trains one after the other."""

    name: str
    runs: tuple[Run, ...]

    @property
    def dataset(self) -> str:
        """The data set that all its Runs train on."""
        return self.runs[0].dataset


def runs(config: Config, study: str) -> list[Run]:
    """Every Run of a study, once, in the order of its experiments."""
    unique = list(dict.fromkeys(run for listed in STUDIES[study](config).values() for run in listed))
    ids: dict[str, Run] = {}
    for run in unique:
        if run.id in ids:
            raise ConfigError(f"{study}: two different Runs have the id {run.id}: {ids[run.id]} and {run}")
        ids[run.id] = run
    return unique


def chunks(config: Config, study: str, pools: Mapping[str, int | None]) -> list[Chunk]:
    """Divide a study's Runs into chunks of at most `config.chunk_images` trained images (one Run, if it alone is larger).

    Args:
        config: the configuration.
        study: a key of `STUDIES`.
        pools: training images of each data set, None where only the data can tell; a Run on such a data set is a chunk.
    """
    found: list[list[Run]] = []
    room = 0
    for run in runs(config, study):
        n_train = pools[run.dataset]
        cost = (
            config.chunk_images
            if n_train is None
            else run.epochs * run.strategy.subset_size(pool_size(config, run, n_train))
        )
        fits = bool(found) and found[-1][0].dataset == run.dataset and cost <= room
        if fits and len(found[-1]) < MOST_RUNS_PER_CHUNK:
            found[-1].append(run)
            room -= cost
        else:
            found.append([run])
            room = config.chunk_images - cost
    return [Chunk(_chunk_name(members), tuple(members)) for members in found]


def _chunk_name(members: list[Run]) -> str:
    first = members[0].id.replace("/", "__")
    return first if len(members) == 1 else f"{first}__and-{len(members) - 1}-more"


def pool_size(config: Config, run: Run, n_train: int) -> int:
    """Images that a Run can train on: the training images, less those held out under the protocol `holdout`."""
    held_out = round(n_train * config.datasets[run.dataset].split.validation) if run.protocol == "holdout" else 0
    return n_train - held_out


def check(config: Config, study: str, pools: Mapping[str, int | None]) -> None:
    """Refuse Runs that cannot be trained, as far as the pools' sizes are known before the data are read.

    A job checks again, exactly, before it trains. Raises ConfigError, naming experiment, data set and protocol.
    """
    experiments = STUDIES[study](config)
    if not any(experiments.values()):
        raise ConfigError(f"{study}: asks for no experiment; give it at least one of its sections")
    for experiment, listed in experiments.items():
        for run in listed:
            n_train = pools[run.dataset]
            if n_train is None:
                continue
            try:
                run.strategy.subset_size(pool_size(config, run, n_train))
            except ValueError as error:
                raise ConfigError(
                    f"{study}.{experiment}: {error} (data set {run.dataset!r}, protocol {run.protocol})"
                ) from None
