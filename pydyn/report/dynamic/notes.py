"""What the figures of the study `dynamic` are conditional on, and how its setting differs from the published one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pydyn.report import published
from pydyn.report.caveats import data_differences, disturbance, divergence, shares_waited
from pydyn.report.dynamic.matching import Basis, compared_papers
from pydyn.report.results import Replicates, StudyResults, accuracy_percent, reported_images, timed_alike
from pydyn.report.statistics import sampling_half_width
from pydyn.report.tables import number
from pydyn.studies.run import PUBLISHED_BATCH_SIZE, PUBLISHED_LEARNING_RATE

INTERVALS = "Mean ± half-width of the 95 % interval by Student's t; no ± where n = 1 or all replicates are equal."


def sampling_points(row: Replicates) -> float:
    """Half the width of Wilson's 95 % interval, in points, that the number of images alone leaves to one accuracy."""
    share = row.estimate(accuracy_percent).mean / 100
    return 100 * sampling_half_width(share, reported_images(row.results[0].summary))


def conditions(rows: Sequence[Replicates]) -> str:
    """What intervals of accuracy do not contain."""
    errors = [sampling_points(row) for row in rows]
    low, high = (number(end, 2) for end in (min(errors), max(errors)))
    n_images = reported_images(rows[0].results[0].summary)
    return (
        f"Intervals are over the seeds only, given one split and one set of {n_images:,} test images; the sampling error "
        f"of one accuracy on {n_images:,} images comes on top: ± {low if low == high else f'{low} to {high}'} points "
        "(half the width of Wilson's 95 % interval, at the rows' means)."
    )


def match_note(protocol: str, n_pool: int, bases: Iterable[Basis | None]) -> str:
    """How published rows were found where the pool is smaller than all training images; empty under the other protocol."""
    if protocol != "holdout":
        return ""
    texts = {
        "count": f"by their count of images (out of a pool of {n_pool:,} here, of {published.POOL:,} there)",
        "share": f"by their share of the Runs' own pool of {n_pool:,} images",
    }
    used = set(bases)
    found = [text for basis, text in texts.items() if basis in used]
    return f" Published subsets are matched {' or '.join(found)}." if found else ""


def network_note(results: StudyResults) -> str:
    """Whose network was trained, and whose figures therefore stand beside the measured ones."""
    study = results.config.dynamic
    assert study is not None
    if study.batch_norm:
        return "The papers mention no batch normalisation: no published figure is the counterpart of these Runs."
    if study.model == "cnn_b":
        return "The Runs use cnn_b, our reading of paper b's garbled table: they are compared with paper b only."
    return "The Runs use cnn_a, the network of paper a; paper b used another network."


def caveats(results: StudyResults) -> Iterator[str]:
    """What keeps measured figures from being reproductions of the published ones, and their times from being compared."""
    if differences := list(_differences(results)):
        study = results.config.dynamic
        assert study is not None
        beside = "; published figures stand beside them for orientation" if compared_papers(study) else ""
        yield (
            f"The setting differs from the published one: {'; '.join(differences)}. Measured figures do not reproduce "
            f"the published ones and must not be read as such{beside}."
        )
    if not timed_alike(*results.results):
        places = Counter(result.place for result in results.results)
        listed = "; ".join(f"{place}: {count} Runs" for place, count in places.items())
        yield (
            f"The Runs were not trained on one machine in one way ({listed}): their seconds, and shares of the full pool's "
            "time, say as much of machines as of strategies."
        )
    yield from divergence(results.results)
    yield from disturbance(shares_waited(results.results))


def _differences(results: StudyResults) -> Iterator[str]:
    yield from data_differences(results.data)
    held_out = sorted({r.summary.n_pool for r in results.results if r.run.protocol == "holdout"})
    if held_out:
        pools = " or ".join(f"{n_pool:,}" for n_pool in held_out)
        yield f"under protocol holdout, a pool of {pools} images and an accuracy that steered nothing"
    yield from _training_differences(results)


def _training_differences(results: StudyResults) -> Iterator[str]:
    study = results.config.dynamic
    assert study is not None
    # Best-set at 80 epochs is published too, beside 200.
    epochs = {result.run.epochs for result in results.results}
    if study.epochs == published.EPOCHS:
        epochs -= {published.BEST_SET_EPOCHS}
    if epochs - {published.EPOCHS}:
        yield f"{' or '.join(map(str, sorted(epochs)))} epochs instead of {published.EPOCHS}"
    if study.batch_size != PUBLISHED_BATCH_SIZE:
        yield f"batches of {study.batch_size} instead of {PUBLISHED_BATCH_SIZE}"
    if study.learning_rate != PUBLISHED_LEARNING_RATE:
        yield f"learning rate {study.learning_rate:g} instead of {PUBLISHED_LEARNING_RATE:g}"
    if study.model != "cnn_a":
        yield f"the network {study.model}, a reading of a garbled table"
    if study.batch_norm:
        yield "batch normalisation, which the papers do not mention"
