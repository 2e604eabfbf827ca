"""From a raw configuration to what a workflow does with it. Imports no torch: Snakemake plans with it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pydyn.config.datasets import AnyDataset, ArchiveDataset
from pydyn.config.main import Config, parse
from pydyn.data.checks import check_source, known_pool
from pydyn.energy import check_country
from pydyn.errors import ConfigError
from pydyn.models.names import Backbone
from pydyn.studies import frugal, registry
from pydyn.studies.chunks import Chunk
from pydyn.studies.frugal_runs import FeatureSet
from pydyn.studies.pools import Pool


@dataclass(frozen=True)
class Plan:
    """A checked configuration: nothing in it is known to fail later."""

    config: Config
    pools: Mapping[str, Pool | None]
    """Of each data set in use; None where only reading it can tell."""
    chunks: Mapping[str, Mapping[str, Chunk]]
    """By study and by name: the Runs that one job trains."""

    features: Mapping[str, FeatureSet]
    """By id: what backbones have to be extracted from, of the study `frugal`."""

    @property
    def results(self) -> Path:
        """Where everything is written."""
        return Path(self.config.results)

    def store(self, dataset: str) -> Path:
        """A data set's image store."""
        return self.results / "data" / f"{dataset}.h5"


def forget_false_marks(plan: Plan) -> list[Path]:
    """Remove files that say that a chunk's Runs are complete where a Run's files were removed since, or where these Runs are of
    another configuration; returns what was removed.

    Snakemake looks at these files only, and at records that it keeps in the folder that it is started in: without this it would
    find nothing to do, where such records are not there.
    """
    removed = []
    for study, chunks in plan.chunks.items():
        for name, chunk in chunks.items():
            mark = plan.results / study / "chunks" / f"{name}.json"
            if mark.exists() and not (
                _digests_in(mark) == [run.digest for run in chunk.runs]
                and all(run.is_complete(plan.results) for run in chunk.runs)
            ):
                mark.unlink()
                removed.append(mark)
    return removed


def forget_other_stores(plan: Plan) -> list[Path]:
    """Remove image stores that were prepared from another declaration than the configuration's; returns what was removed.

    As of marks: Snakemake's records tell, where they are there, and then it removes them itself. Stores that cannot be read stay,
    for the jobs that refuse them.
    """
    # HDF5 is not needed to plan.
    from pydyn.data.store import read_declaration

    removed = []
    for name in plan.pools:
        declaration = read_declaration(store := plan.store(name))
        if declaration is not None and not _declares(plan.config.datasets[name], declaration):
            store.unlink()
            removed.append(store)
    return removed


def _declares(dataset: AnyDataset, declaration: str) -> bool:
    """Whether a declaration, maybe of a version that had fewer keys, is that of a data set."""
    try:
        return type(dataset).model_validate_json(declaration) == dataset
    except ValidationError:
        return False


def _digests_in(mark: Path) -> list[str] | None:
    """Of the Runs that a chunk's file calls complete; None if it cannot be read."""
    try:
        return [made["digest"] for made in json.loads(mark.read_text(encoding="utf-8"))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def make_plan(raw: Mapping[str, Any]) -> Plan:
    """Check a configuration, the sources of its data sets and its Runs.

    Raises:
        ConfigError: key, value, what is allowed.
        DataError: a source that is missing or cannot be what it is declared to be.
    """
    config = parse(raw)
    data_root = Path(config.data_root)
    for path in [Path(config.results), *Path(config.results).parents]:
        if path.is_file():
            raise ConfigError(f"results = {config.results!r}: {path} is a file; name a folder")
        if path.is_symlink() and not path.exists():
            raise ConfigError(
                f"results = {config.results!r}: {path} is a link that leads nowhere; make or mount what it leads to, or name "
                "another folder"
            )
    used = sorted({name for study in config.studies for name in registry.STUDIES[study].datasets(config)})
    for name in used:
        dataset = config.datasets[name]
        check_source(name, dataset, data_root)
        if isinstance(dataset, ArchiveDataset):
            _refuse_braces(f"datasets.{name}.path", dataset.resolve(data_root))
    pools = {name: known_pool(name, config.datasets[name], data_root) for name in used}
    for study in config.studies:
        registry.check(config, study, pools)
    chunks: dict[str, dict[str, Chunk]] = {
        study: {chunk.name: chunk for chunk in registry.chunks(config, study, pools)} for study in config.studies
    }
    features = frugal.feature_sets(config) if "frugal" in config.studies else {}
    for used_features in features.values():
        _check_weights(used_features.backbone)
    if config.frugal and "frugal" in config.studies:
        check_country(config.frugal.country)
    return Plan(config, pools, chunks, features)


def weights_state(backbone: Backbone) -> str:
    """What changes when a file of weights has another size or date; empty where no file of the user's holds them.

    As of archives (`source_state`): a workflow sees a file that is newer than what was made from it, but not one put in its place
    that is older.
    """
    if backbone.weights in ("imagenet", "none"):
        return ""
    status = Path(backbone.weights).stat()
    return f" {status.st_size} {status.st_mtime_ns}"


def _check_weights(backbone: Backbone) -> None:
    """Refuse weights that are no file."""
    if backbone.weights not in ("imagenet", "none") and not Path(backbone.weights).is_file():
        raise ConfigError(
            f"frugal.backbones: weights = {backbone.weights!r} of {backbone.name} are no file here; give imagenet, none, or "
            "a file (safetensors, or a state dict of torch)"
        )
    if backbone.weights not in ("imagenet", "none"):
        _refuse_braces("frugal.backbones: weights", Path(backbone.weights))


def _refuse_braces(key: str, file: Path) -> None:
    """Of a file that is a job's input."""
    if {"{", "}"} & set(str(file)):
        raise ConfigError(f"{key} = {str(file)!r} has braces, which Snakemake takes for wildcards; rename it")
