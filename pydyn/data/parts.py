"""Rows of a store that a training uses, for the studies that divide images anew for each replicate."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pydyn.data.listing import TEST, TRAIN, VALIDATION
from pydyn.data.resplit import SplitKind, resplit
from pydyn.data.store import ImageStore

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """Ascending rows: what is trained on, what training is stopped and chosen by, and what is reported on."""

    train: Rows
    validation: Rows
    test: Rows

    @classmethod
    def of(cls, store: ImageStore, splits: SplitKind, seed: int) -> Self:
        """The division of a replicate. Raises DataError if a part would lack a class."""
        parts = resplit(store, splits, seed)
        return cls(*(np.flatnonzero(parts == part).astype(np.int64) for part in (TRAIN, VALIDATION, TEST)))
