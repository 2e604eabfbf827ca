"""Whether what is in Runs' folders would be made again, told before any job and without torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from pydyn.features.store import FEATURES
from pydyn.provenance import analyses_digest, fine_tuning_digest, heads_digest, populations_digest, training_digest
from pydyn.studies.frugal_runs import FineTuningRun, HeadRun
from pydyn.studies.run import AnyRun, Run
from pydyn.studies.shapes_runs import PopulationRun
from pydyn.training.folder import fingerprint_of


class Today:
    """What Runs depend on, as it is now. Stores are asked for their digests only; of those that are not there nothing is said."""

    def __init__(self, results: Path) -> None:
        self._results = results
        self._digests: dict[Path, str | None] = {}

    def outdates(self, run: AnyRun, found: Mapping[str, Any]) -> bool:
        """Whether what was found came from another configuration, data or code than a job would make it from.

        Not seen: other weights of a backbone that is fine-tuned, or of a network that is analysed; of a Run of these that is not
        complete, other data or code.

        Args:
            run: as it is configured.
            found: the content of its `summary.json`, or of its `run.json` if it is not complete.
        """
        if found["run"] != json.loads(json.dumps(run.to_dict())):
            return True
        code, data = _code_of(run), self._digest_in(self._results / "data" / f"{run.dataset}.h5")
        if "code" in found and (found["code"] != code or data not in (None, found["data"])):
            return True
        if isinstance(run, Run | PopulationRun):
            depends_on = [data, code]
        elif isinstance(run, HeadRun):
            depends_on = [data, self._digest_in(run.features.directory(self._results) / FEATURES), code]
        else:
            return False
        known = [digest for digest in depends_on if digest is not None]
        return known == depends_on and found["fingerprint"] != fingerprint_of(run, *known)

    def _digest_in(self, store: Path) -> str | None:
        if store not in self._digests:
            try:
                with h5py.File(store, "r", locking=False) as file:
                    self._digests[store] = str(file.attrs["digest"])
            except (OSError, KeyError):
                self._digests[store] = None
        return self._digests[store]


def _code_of(run: AnyRun) -> str:
    if isinstance(run, Run):
        return training_digest(type(run.strategy))
    if isinstance(run, HeadRun):
        return heads_digest()
    if isinstance(run, FineTuningRun):
        return fine_tuning_digest()
    return populations_digest() if isinstance(run, PopulationRun) else analyses_digest()
