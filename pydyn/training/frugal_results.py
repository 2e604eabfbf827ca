"""What every Run of the study `frugal` leaves in its folder: predictions, weights, a summary."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pydyn.data.parts import Parts
from pydyn.data.store import ImageStore
from pydyn.device import Device
from pydyn.files import write_text
from pydyn.metrics import Metrics, measure
from pydyn.provenance import versions
from pydyn.studies.frugal_runs import FrugalRun
from pydyn.training.folder import Log
from pydyn.training.frugal_summary import FrugalSummary, read_frugal_summary, write_frugal_summary
from pydyn.training.stopping import Stop
from pydyn.training.weights import save_weights

Probabilities = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""Class probabilities (n, C) of the images at rows (n,) of the image store."""


@dataclass(frozen=True)
class Job:
    """What the Runs of one process share."""

    results: Path
    store: ImageStore
    device: Device
    log: Log
    stop: Stop


def finish(
    job: Job,
    run: FrugalRun,
    directory: Path,
    fingerprint: str,
    code: str,
    parts: Parts,
    weights: Mapping[str, Tensor],
    probabilities: Probabilities,
    **facts: Any,
) -> None:
    """Look at the test images for the first and only time, and write all that makes a Run complete.

    `facts` are the fields of `FrugalSummary` that only the kind of Run knows.
    """
    save_weights(directory, weights, run=run.id)
    on_test = probabilities(parts.test)
    _write_predictions(directory / "predictions.csv", job.store, parts.test, on_test)
    summary = FrugalSummary(
        run=run,
        fingerprint=fingerprint,
        code=code,
        data=job.store.digest,
        validation=_measure(job.store, probabilities(parts.validation), parts.validation),
        test=_measure(job.store, on_test, parts.test),
        n_train=len(parts.train),
        n_validation=len(parts.validation),
        n_test=len(parts.test),
        device=job.device.name,
        threads=job.device.threads,
        versions=versions(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **facts,
    )
    write_frugal_summary(directory / "summary.json", summary)
    job.log(f"{run.id}: done, {_result(summary)}")


def say_complete(job: Job, run: FrugalRun) -> None:
    """A line about a Run that is complete already."""
    summary = read_frugal_summary(run.directory(job.results) / "summary.json")
    job.log(f"{run.id}: complete already, {_result(summary)}")


def _measure(store: ImageStore, probabilities: NDArray[np.float64], rows: NDArray[np.int64]) -> Metrics:
    return measure(probabilities, store.labels[rows], store.group[rows] if store.group_names else None)


def _write_predictions(
    path: Path, store: ImageStore, rows: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> None:
    """What was predicted for each test image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group", "class", "predicted", *(f"p({name})" for name in store.class_names)])
    for row, image, chances in zip(rows.tolist(), store.sources(rows), probabilities, strict=True):
        group = store.group_names[store.group[row]] if store.group_names and store.group[row] >= 0 else ""
        names = [store.class_names[label] for label in (int(store.labels[row]), int(chances.argmax()))]
        writer.writerow([image, group, *names, *(f"{chance:.6g}" for chance in chances)])
    write_text(path, text.getvalue())


def _result(summary: FrugalSummary) -> str:
    seconds = sum(reading.seconds for name, reading in summary.costs.items() if name != "search")
    return f"test accuracy {summary.test.accuracy:.4f}, balanced {summary.test.balanced_accuracy:.4f}, {seconds:.1f} s"
