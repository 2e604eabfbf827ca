"""Pools: how many images Runs can train on, as far as that is known before the data are read."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from pydyn.studies.run import Run


@dataclass(frozen=True)
class Pool:
    """Of a data set."""

    paper: int
    """Training images, those held out for validation included: what the protocol `paper` trains on."""
    holdout: int
    """What the protocol `holdout` trains on."""
    exact: bool
    """False: these are the most there can be; how many there are, only the data tell."""

    def size(self, protocol: Literal["paper", "holdout"]) -> int:
        """What a protocol trains on."""
        return self.holdout if protocol == "holdout" else self.paper

    def subset_size(self, run: Run) -> int:
        """Images of a Run's epoch, at most. Raises ValueError if its subset fits into no pool that is to be expected."""
        largest = self.size(run.protocol)
        if not self.exact:
            # By rounding, shares may fit into one pool and not into the next larger one. Into one of a few images nearly all do.
            for size in range(largest, largest // 2, -1):
                with suppress(ValueError):
                    return run.strategy.subset_size(size)
        return run.strategy.subset_size(largest)
