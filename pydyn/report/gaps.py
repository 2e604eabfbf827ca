"""Runs that a partial report leaves out, and how it says so."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydyn.config.main import Config
from pydyn.data.store import ImageStore
from pydyn.errors import RunError
from pydyn.studies.registry import runs
from pydyn.studies.run import AnyRun

MOST_NAMED = 5


@dataclass(frozen=True)
class Gap:
    """What of a study is not there."""

    study: str
    n_runs: int
    """Of the whole study."""
    incomplete: tuple[AnyRun, ...]
    outdated: tuple[AnyRun, ...]
    """Complete, but of another configuration or on other data than there are now."""

    @property
    def runs(self) -> frozenset[AnyRun]:
        """All that are not there."""
        return frozenset((*self.incomplete, *self.outdated))

    @property
    def is_whole(self) -> bool:
        """Whether nothing is there."""
        return len(self.runs) == self.n_runs

    @property
    def warning(self) -> str:
        """For the top of the page."""
        absent = [*self.incomplete, *self.outdated]
        named = ", ".join(run.id for run in absent[:MOST_NAMED])
        more = f" and {len(absent) - MOST_NAMED:,} more" if len(absent) > MOST_NAMED else ""
        others = (
            f" {len(self.outdated):,} of these came from another configuration or other data than there are now."
            if self.outdated
            else ""
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
    """What of a study is not there, told from its summaries. Raises DataError or RunError for what cannot be read."""
    listed = runs(config, study)
    incomplete, outdated = [], []
    digests: dict[str, str] = {}
    for run in listed:
        path = run.directory(results) / "summary.json"
        if not path.exists():
            incomplete.append(run)
            continue
        if run.dataset not in digests:
            with ImageStore.open(results / "data" / f"{run.dataset}.h5") as store:
                digests[run.dataset] = store.digest
        made_of = {"run": json.loads(json.dumps(run.to_dict())), "data": digests[run.dataset]}
        if {name: _read(path).get(name) for name in made_of} != made_of:
            outdated.append(run)
    return Gap(study, len(listed), tuple(incomplete), tuple(outdated))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
        problem = "no mapping in it"
    except (OSError, ValueError) as error:
        problem = str(error)
    raise RunError(f"{path}: not a readable summary ({problem}); remove its folder and run again")
