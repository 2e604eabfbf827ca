"""What keeps figures from being the published ones, or times from being compared."""

import math
from collections.abc import Iterator, Mapping, Sequence

from pydyn.report import published
from pydyn.report.results import DataFacts, Result
from pydyn.report.tables import time_share
from pydyn.training.history import Epoch

# Of a Run's seconds: below it, times are as good as undisturbed.
DISTURBED = 0.05


def disturbance(shares: Mapping[str, float]) -> Iterator[str]:
    """That times are of a shared machine, if they are: of each Run's seconds the share that it waited, NaN where unknown."""
    disturbed = {run: part for run, part in shares.items() if part > DISTURBED}
    if disturbed:
        worst = max(disturbed, key=lambda run: disturbed[run])
        yield (
            f"Other work had the processors for more than {time_share(DISTURBED)} of the seconds of {len(disturbed)} of the "
            f"{len(shares)} Runs, {time_share(disturbed[worst])} of those of {worst}: times, and what is made of them, say as "
            "much of the machine. Accuracies are untouched by it. The list of Runs, as CSV, has the seconds that each waited."
        )


def divergence(results: Sequence[Result]) -> Iterator[str]:
    """Which trainings ended without numbers, if any did."""
    epochs = {
        result.run.id: next((row.epoch for row in result.history if not _has_losses(row)), None) for result in results
    }
    diverged = {run: epoch for run, epoch in epochs.items() if epoch is not None}
    if diverged:
        first = next(iter(diverged))
        yield (
            f"{len(diverged)} of the {len(epochs)} Runs diverged, such as {first} in epoch {diverged[first]}: their loss and "
            "weights are no numbers any more, and such a network counts as right about no image. A smaller learning rate may "
            "keep it from that."
        )


def _has_losses(row: Epoch) -> bool:
    """Whether an epoch left a network of numbers: only the validation loss tells of its last step."""
    return math.isfinite(row.train_loss) and math.isfinite(row.validation_loss)


def shares_waited(results: Sequence[Result]) -> dict[str, float]:
    """Of the seconds of networks trained from scratch, the share in which other work had the processors."""
    return {result.run.id: result.seconds_waiting / result.summary.seconds.total for result in results}


def data_differences(data: DataFacts) -> Iterator[str]:
    """How images differ from the published ones, a phrase each."""
    if not published.is_dataset(data.class_names):
        yield f"the data set {data.name} instead of {published.DATASET}"
    else:
        if data.declaration.get("source") in ("archive", "folder"):
            yield f"images from {data.source}, which may be lossy copies"
        if data.image_shape != published.IMAGE_SHAPE:
            yield f"images of {data.size}"
    if data.n_train != published.POOL:
        yield f"{data.n_train:,} training images instead of {published.POOL:,}"
    if data.n_test != published.REPORTED_ON:
        yield f"{data.n_test:,} test images instead of {published.REPORTED_ON:,}"
