"""From a raw configuration to what a workflow does with it. Imports no torch: Snakemake plans with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydyn.config.main import Config, parse
from pydyn.data.checks import check_source, known_pool
from pydyn.studies import registry


@dataclass(frozen=True)
class Plan:
    """A checked configuration: nothing in it is known to fail later."""

    config: Config
    pools: Mapping[str, int | None]
    """Training images of each data set in use; None where only reading it can tell."""

    @property
    def results(self) -> Path:
        """Where everything is written."""
        return Path(self.config.results)

    def store(self, dataset: str) -> Path:
        """A data set's image store."""
        return self.results / "data" / f"{dataset}.h5"

    @cached_property
    def chunks(self) -> dict[str, dict[str, registry.Chunk]]:
        """By study and by name: the Runs that one job trains."""
        return {
            study: {chunk.name: chunk for chunk in registry.chunks(self.config, study, self.pools)}
            for study in self.config.studies
        }


def make_plan(raw: Mapping[str, Any]) -> Plan:
    """Check a configuration, the sources of its data sets and its Runs.

    Raises:
        ConfigError: key, value, what is allowed.
        DataError: a source that is missing or cannot be what it is declared to be.
    """
    config = parse(raw)
    data_root = Path(config.data_root)
    used = sorted({getattr(config, study).dataset for study in config.studies})
    for name in used:
        check_source(name, config.datasets[name], data_root)
    pools = {name: known_pool(name, config.datasets[name], data_root) for name in used}
    for study in config.studies:
        registry.check(config, study, pools)
    return Plan(config, pools)
