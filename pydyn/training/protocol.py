"""What a protocol makes of a store's images."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pydyn.data.store import ImageStore
from pydyn.errors import RunError
from pydyn.studies.run import Run


@dataclass(frozen=True)
class Parts:
    """Indices into a store's images: what a protocol trains on, steers by and reports on."""

    pool: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    """Empty if the validation set is what is reported on."""

    @classmethod
    def of(cls, run: Run, store: ImageStore) -> Self:
        """What the Run's protocol makes of a store's split. Raises RunError if the Run's subset does not fit into the pool."""
        if run.protocol == "paper":
            parts = cls(store.indices("train", "validation"), store.indices("test"), np.empty(0, np.int64))
        else:
            parts = cls(store.indices("train"), store.indices("validation"), store.indices("test"))
        try:
            run.strategy.subset_size(len(parts.pool))
        except ValueError as error:
            raise RunError(f"{run.id}: {error}") from None
        return parts
