"""Every study by name, and what planning needs to know of it: its data sets, its Runs, the chunks in which jobs train them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydyn.config.main import Config
from pydyn.errors import ConfigError
from pydyn.studies import architectures, dynamic, frugal, shapes
from pydyn.studies.chunks import Chunk
from pydyn.studies.pools import Pool
from pydyn.studies.run import AnyRun, Run


@dataclass(frozen=True)
class Study:
    """What a study's module offers. Experiments may share Runs."""

    datasets: Callable[[Config], list[str]]
    experiments: Callable[[Config], Mapping[str, Sequence[AnyRun]]]
    chunks: Callable[[Config, Mapping[str, Pool | None]], list[Chunk]]


STUDIES: dict[str, Study] = {
    "dynamic": Study(dynamic.datasets, dynamic.experiments, dynamic.chunks),
    "frugal": Study(frugal.datasets, frugal.experiments, frugal.chunks),
    "architectures": Study(architectures.datasets, architectures.experiments, architectures.chunks),
    "shapes": Study(shapes.datasets, shapes.experiments, shapes.chunks),
}


def experiments(config: Config, study: str) -> Mapping[str, Sequence[AnyRun]]:
    """The Runs of each experiment of a study."""
    return STUDIES[study].experiments(config)


def runs(config: Config, study: str) -> list[AnyRun]:
    """Every Run of a study, once, in the order of its experiments. Raises ConfigError if two of them have one id."""
    ids: dict[str, tuple[str, AnyRun]] = {}
    for experiment, members in experiments(config, study).items():
        for run in members:
            first, other = ids.setdefault(run.id, (experiment, run))
            if run != other:
                key, value, other_value = _difference(run.to_dict(), other.to_dict())
                raise ConfigError(
                    f"{key} = {other_value} of {study}.{first} and {value} of {study}.{experiment} give two Runs one id, "
                    f"{run.id}; ids hold six digits of a number: choose values that differ in them, or leave one out"
                )
    return [run for _, run in ids.values()]


def _difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any]:
    """The first key whose value differs, however deep, and what each has there."""
    key = next(key for key in one if one[key] != other[key])
    if isinstance(one[key], Mapping) and isinstance(other[key], Mapping):
        return _difference(one[key], other[key])
    return key, one[key], other[key]


def chunks(config: Config, study: str, pools: Mapping[str, Pool | None]) -> list[Chunk]:
    """What each job of a study trains; `pools` holds each data set's, None where only the data can tell."""
    return STUDIES[study].chunks(config, pools)


def check(config: Config, study: str, pools: Mapping[str, Pool | None]) -> None:
    """Refuse Runs that cannot be trained, as far as the pools' sizes are known before the data are read.

    A job checks again, exactly, before it trains. Raises ConfigError, naming experiment, data set and protocol, and also if two
    Runs have one id.
    """
    if not runs(config, study):
        raise ConfigError(f"{study}: asks for no experiment; give it at least one of its sections")
    for experiment, members in experiments(config, study).items():
        for run in members:
            pool = pools[run.dataset]
            if pool is None or not isinstance(run, Run):
                continue
            try:
                pool.subset_size(run)
            except ValueError as error:
                most = "" if pool.exact else f", whose pool has at most {pool.size(run.protocol)} images"
                raise ConfigError(
                    f"{study}.{experiment}: {error} (data set {run.dataset!r}, protocol {run.protocol}{most})"
                ) from None
