"""Runs that a partial report leaves out, and how it says so."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydyn.config.main import Config
from pydyn.errors import RunError
from pydyn.report.frugal.read import read_changes, read_frugal_run, read_predictions
from pydyn.report.results import DataFacts, read_facts, read_run
from pydyn.report.shapes.read import read_analysis, read_population
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun
from pydyn.studies.registry import runs
from pydyn.studies.run import AnyRun, Run
from pydyn.studies.shapes_runs import AnalysisRun, PopulationRun

MOST_NAMED = 5


def _read_frugal(run: FrugalRun, results: Path, data: DataFacts) -> None:
    read_predictions(read_frugal_run(run, results, data), results)
    if isinstance(run, HeadRun) and run.adapted:
        read_changes(run, results)


_READERS: Mapping[type[AnyRun], Callable[[Any, Path, DataFacts], object]] = {
    Run: read_run,
    HeadRun: _read_frugal,
    FineTuningRun: _read_frugal,
    PopulationRun: read_population,
    AnalysisRun: read_analysis,
}


@dataclass(frozen=True)
class Gap:
    """What of a study is not there."""

    study: str
    n_runs: int
    """Of the whole study."""
    incomplete: tuple[AnyRun, ...]
    outdated: tuple[AnyRun, ...]
    """Complete, but of another configuration or on other data than there are now."""
    unreadable: tuple[AnyRun, ...]
    """Complete by their files' names, but one of these is spoilt, of another version of pydyn, or none of this Run."""

    @property
    def runs(self) -> frozenset[AnyRun]:
        """All that are not there."""
        return frozenset((*self.incomplete, *self.outdated, *self.unreadable))

    @property
    def is_whole(self) -> bool:
        """Whether nothing is there."""
        return len(self.runs) == self.n_runs

    @property
    def warning(self) -> str:
        """For the top of the page."""
        absent = [*self.incomplete, *self.outdated, *self.unreadable]
        named = ", ".join(run.id for run in absent[:MOST_NAMED])
        more = f" and {len(absent) - MOST_NAMED:,} more" if len(absent) > MOST_NAMED else ""
        others = (
            f" {len(self.outdated):,} of these came from another configuration or other data than there are now."
            if self.outdated
            else ""
        )
        if self.unreadable:
            others += (
                f" {len(self.unreadable):,} of these cannot be read, such as {self.unreadable[0].id} (damaged, or of another "
                "version of pydyn): remove their folders and run the workflow again."
            )
        shown = (
            "nothing of it is on this page."
            if self.is_whole
            else "rows are of the Runs that are there, n says how many, and rows without any are left out."
        )
        return (
            f"Partial report: of the study {self.study} {len(absent):,} of {self.n_runs:,} Runs are missing ({named}{more});"
            f" {shown}{others}"
        )


def find_gap(config: Config, study: str, results: Path) -> Gap:
    """What of a study is not there, told from all files that its page needs. Raises DataError for a store that is none."""
    listed = runs(config, study)
    incomplete, outdated, unreadable = [], [], []
    data: dict[str, DataFacts] = {}
    for run in listed:
        if not run.is_complete(results):
            incomplete.append(run)
            continue
        if run.dataset not in data:
            data[run.dataset] = read_facts(run.dataset, results)
        try:
            if _is_of(run, data[run.dataset].digest, run.directory(results) / "summary.json"):
                # Only now: what another configuration or other data left is no damage, whatever it holds.
                _READERS[type(run)](run, results, data[run.dataset])
            else:
                outdated.append(run)
        except RunError:
            unreadable.append(run)
    return Gap(study, len(listed), tuple(incomplete), tuple(outdated), tuple(unreadable))


def _is_of(run: AnyRun, digest: str, path: Path) -> bool:
    """Whether a summary is of this Run, as it is configured, on data of this digest. Raises RunError if it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        origin = found["run"], found["data"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{path}: not a readable summary ({error}); remove its folder and run again") from None
    return bool(origin == (json.loads(json.dumps(run.to_dict())), digest))
