"""Going on where another process ended: from its checkpoint, wherever it was saved, or else with that kept aside."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydyn.errors import RunError
from pydyn.studies.run import AnyRun
from pydyn.training.checkpoint import StateError, load_checkpoint, save_checkpoint
from pydyn.training.folder import Log, begin_anew

Result = TypeVar("Result")

# What a checkpoint holds beside the fingerprint.
_LAYOUT = {"device": str, "place": str, "earlier_places": list, "state": dict}


@dataclass(frozen=True)
class Place:
    """Where a process trains: what the last bits of a result depend on beside the Run, its data and the code."""

    device: str
    """`cpu` or `cuda`."""
    description: str
    """Of two places of one description, both give the same bits."""


class Resumption:
    """A Run's checkpoint, in a folder that is held open."""

    def __init__(self, run: AnyRun, results: Path, fingerprint: str, place: Place, log: Log) -> None:
        self._run = run
        self._results = results
        self._path = run.directory(results) / "checkpoint.pt"
        self._fingerprint = fingerprint
        self._place = place
        self._log = log
        self.earlier_places: list[str] = []
        """Where else what the Run goes on from was trained, in order, each place once."""

    def resume(self, train: Callable[[dict[str, Any] | None], Result]) -> Result:
        """Train from what `load` gives, or anew if that turns out not to fit.

        `train` raises StateError where it does not (`pydyn.training.checkpoint.loading`), and is then called again, with None.
        """
        try:
            return train(self.load())
        except StateError as error:
            self._begin_anew(error)
        return train(None)

    def load(self) -> dict[str, Any] | None:
        """What was given to `save`, arrays as tensors, here or in another place; None if the Run begins.

        What cannot be gone on from is kept aside, with the history beside it.
        """
        try:
            saved = load_checkpoint(self._path)
            if saved is None:
                return None
            self._check(saved)
        except RunError as error:
            self._begin_anew(error)
            return None
        self.earlier_places = saved["earlier_places"]
        if saved["place"] != self._place.description:
            self.earlier_places = list(dict.fromkeys([*self.earlier_places, saved["place"]]))
            self._log(
                f"{self._run.id}: its checkpoint was saved on {saved['place']}; it goes on on {self._place.description}: "
                "the result is not, to the bit, that of an uninterrupted Run"
            )
        state: dict[str, Any] = saved["state"]
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Write a checkpoint, whole or not at all. Nested dictionaries and lists of tensors, arrays, numbers and strings."""
        saved = {
            "fingerprint": self._fingerprint,
            "device": self._place.device,
            "place": self._place.description,
            "earlier_places": self.earlier_places,
            "state": state,
        }
        save_checkpoint(self._path, saved)

    def remove(self) -> None:
        """The Run is complete."""
        self._path.unlink(missing_ok=True)

    def _begin_anew(self, reason: RunError) -> None:
        kept = begin_anew(self._run, self._results, self._fingerprint)
        self.earlier_places = []
        self._log(f"{self._run.id}: {reason}; it begins anew, and what was there is kept in {kept}")

    def _check(self, saved: dict[str, Any]) -> None:
        """Raise RunError for a checkpoint that cannot be gone on from."""
        if saved.get("fingerprint") != self._fingerprint:
            raise RunError("its checkpoint came from another configuration, data or code")
        for name, kind in _LAYOUT.items():
            if not isinstance(saved.get(name), kind):
                raise RunError(f"its checkpoint has another layout: {name!r} must be there, a {kind.__name__}")
        if saved["device"] != self._place.device:
            # Optimisers keep other states there, and tensors lie in memory in another order.
            raise RunError(
                f"its checkpoint was saved on another kind of device ({saved['place']}) than this one "
                f"({self._place.description})"
            )
