"""Runs in their directories: skipped when complete, resumed when begun, never trained twice at once, never overwritten."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from pydyn.data.batches import ResidentImages
from pydyn.data.progress import SECONDS_BETWEEN_LINES
from pydyn.data.store import ImageStore
from pydyn.device import Device, resolve_precision
from pydyn.errors import DataError, Stopped
from pydyn.files import whole_or_absent
from pydyn.ops.extension import EXTENSION
from pydyn.provenance import training_digest, versions
from pydyn.studies.run import Run
from pydyn.training.folder import Log, fingerprint_of, open_folder
from pydyn.training.history import Epoch
from pydyn.training.loop import Trained, Training, train
from pydyn.training.protocol import Parts
from pydyn.training.resumption import Place, Resumption
from pydyn.training.stopping import Stop, never
from pydyn.training.summary import Accuracy, Seconds, Summary, read_summary, write_summary
from pydyn.training.weights import save_weights


def execute(runs: Sequence[Run], results: Path, store_path: Path, device: Device, log: Log, stop: Stop = never) -> None:
    """Train Runs of one data set, one after the other, those that are complete already left alone.

    Args:
        runs: of one data set.
        results: the folder of all results.
        store_path: of the data set's image store.
        device: to train on.
        log: takes a line of progress.
        stop: asked before each Run and after each epoch whether to save and leave.

    Raises:
        Stopped: `stop` said so; the same call goes on from there.
        DataError: the store cannot be used.
        RunError: a Run cannot be trained on this data set.
    """
    with ImageStore.open(store_path) as store:
        store.verify()
        if others := {run.dataset for run in runs} - {store.name}:
            raise DataError(
                f"image store {store_path} holds {store.name!r}, not {others.pop()!r}; delete it and run again"
            )
        images = ResidentImages.from_store(store, device.torch)
        for run in runs:
            if stop():  # it came in the last epoch of the Run before, or while the images were read
                raise Stopped(f"{run.id}: asked to stop before it went on; the same command does")
            code = training_digest(type(run.strategy))
            fingerprint = fingerprint_of(run, store.digest, code)
            with open_folder(run, results, fingerprint, log) as directory:
                if directory is None:
                    summary = read_summary(run.directory(results) / "summary.json")
                    log(f"{run.id}: complete already, accuracy {summary.reported_accuracy:.4f}")
                else:
                    _train(run, results, fingerprint, code, store, images, device, log, stop)


def _train(
    run: Run,
    results: Path,
    fingerprint: str,
    code: str,
    store: ImageStore,
    images: ResidentImages,
    device: Device,
    log: Log,
    stop: Stop,
) -> None:
    parts = Parts.of(run, store)
    directory, precision = run.directory(results), resolve_precision(run.precision, device.torch)
    resumption = Resumption(run, results, fingerprint, _place(device, precision), log)

    def train_from(begun: dict[str, Any] | None) -> Trained:
        training = Training(run, images, parts, len(store.class_names), precision)
        with tqdm(total=run.epochs, desc=run.id, unit="epoch", leave=False, disable=None) as bar:
            progress = _progress(run, bar, log)
            return train(training, directory / "history.csv", begun, resumption.save, progress, stop)

    trained = resumption.resume(train_from)
    save_weights(directory, trained.weights, run=run.id, epoch=trained.best_epoch)
    with whole_or_absent(directory / "times_trained.npy") as temporary, temporary.open("wb") as file:
        np.save(file, trained.times_trained, allow_pickle=False)
    summary = _summarise(
        run, trained, parts, fingerprint, code, store.digest, device, precision, resumption.earlier_places
    )
    write_summary(directory / "summary.json", summary)
    resumption.remove()
    log(f"{run.id}: done, accuracy {summary.reported_accuracy:.4f}, {summary.seconds.total:.0f} s")


def _summarise(
    run: Run,
    trained: Trained,
    parts: Parts,
    fingerprint: str,
    code: str,
    data: str,
    device: Device,
    precision: str,
    earlier_places: list[str],
) -> Summary:
    rows = trained.history
    return Summary(
        run=run,
        fingerprint=fingerprint,
        code=code,
        data=data,
        accuracy=Accuracy(
            best_validation=rows[trained.best_epoch - 1].validation_accuracy,
            best_epoch=trained.best_epoch,
            last_validation=rows[-1].validation_accuracy,
            test_at_last=trained.test_at_last,
            test_at_best=trained.test_at_best,
        ),
        seconds=Seconds(
            train=sum(row.seconds_train for row in rows),
            evaluate=sum(row.seconds_evaluate for row in rows),
            select=sum(row.seconds_select for row in rows),
        ),
        n_pool=len(parts.pool),
        n_validation=len(parts.validation),
        n_test=len(parts.test),
        n_parameters=trained.n_parameters,
        images_trained=rows[-1].images_trained,
        unique_images=rows[-1].unique_images,
        resamplings_1=trained.resamplings["I"],
        resamplings_2=trained.resamplings["II"],
        confusion=trained.confusion,
        dead_units=trained.dead_units,
        device=device.name,
        precision=precision,
        threads=device.threads,
        sittings=trained.sittings,
        versions=versions(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        earlier_places=earlier_places,
    )


def _place(device: Device, precision: str) -> Place:
    kernels = "extension" if EXTENSION.loaded else "reference"
    described = f"{device.name}, threads: {device.threads}, {precision}, torch {torch.__version__}, {kernels}"
    return Place(device.torch.type, described)


def _progress(run: Run, bar: tqdm, log: Log) -> Callable[[Epoch], None]:
    """A bar on a terminal; in a log a line per epoch, but not more than one in five seconds, and always the last."""
    last = time.monotonic()

    def on_epoch(row: Epoch) -> None:
        nonlocal last
        bar.update(row.epoch - bar.n)
        bar.set_postfix_str(f"validation {row.validation_accuracy:.3f}")
        if bar.disable and (time.monotonic() - last >= SECONDS_BETWEEN_LINES or row.epoch == run.epochs):
            last = time.monotonic()
            log(
                f"{run.id}: epoch {row.epoch}/{run.epochs}, loss {row.train_loss:.3f}, accuracy {row.train_accuracy:.3f}, "
                f"validation {row.validation_accuracy:.3f}"
            )

    return on_epoch
