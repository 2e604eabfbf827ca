"""Chunks: Runs that one job trains in one process, because starting torch costs seconds."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydyn.config.main import Config
from pydyn.studies.pools import Pool
from pydyn.studies.run import AnyRun, Run

# A bound on one shell command's length, and on what one killed job has to look at again.
MOST_RUNS_PER_CHUNK = 500


@dataclass(frozen=True)
class Chunk:
    """Runs of one data set that one process trains one after the other."""

    name: str
    runs: tuple[AnyRun, ...]

    @property
    def dataset(self) -> str:
        """The data set that all its Runs train on."""
        return self.runs[0].dataset


def chunks_by_images(config: Config, runs: list[Run], pools: Mapping[str, Pool | None]) -> list[Chunk]:
    """Divide Runs into chunks of at most `config.chunk_images` trained images (one Run, if it alone is larger).

    Args:
        config: the configuration.
        runs: in the order in which they are trained.
        pools: of each data set, None where only the data can tell; a Run on such a data set is a chunk.
    """
    found: list[list[Run]] = []
    room = 0
    for run in runs:
        pool = pools[run.dataset]
        cost = config.chunk_images if pool is None else run.epochs * pool.subset_size(run)
        fits = bool(found) and found[-1][0].dataset == run.dataset and cost <= room
        if fits and len(found[-1]) < MOST_RUNS_PER_CHUNK:
            found[-1].append(run)
            room -= cost
        else:
            found.append([run])
            room = config.chunk_images - cost
    return [Chunk(_name(members), tuple(members)) for members in found]


def _name(members: list[Run]) -> str:
    first = members[0].id.replace("/", "__")
    return first if len(members) == 1 else f"{first}__and-{len(members) - 1}-more"
