"""Runs in their directories: skipped when complete, resumed when begun, never trained twice at once, never overwritten."""

import contextlib
import fcntl
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from pydyn.data.batches import ResidentImages
from pydyn.data.progress import SECONDS_BETWEEN_LINES
from pydyn.data.store import ImageStore
from pydyn.device import Device, resolve_precision
from pydyn.errors import DataError, RunError, Stopped
from pydyn.files import whole_or_absent, write_text
from pydyn.ops.extension import EXTENSION
from pydyn.provenance import training_digest, versions
from pydyn.studies.run import Run
from pydyn.training.history import Epoch
from pydyn.training.loop import Parts, Trained, Training, train
from pydyn.training.stopping import Stop, never
from pydyn.training.summary import Accuracy, Seconds, Summary, read_summary, write_summary

Log = Callable[[str], None]


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
            directory = run.directory(results)
            with _only_one(directory, log):
                _complete(run, directory, results, store, images, device, log, stop)


def _complete(
    run: Run,
    directory: Path,
    results: Path,
    store: ImageStore,
    images: ResidentImages,
    device: Device,
    log: Log,
    stop: Stop,
) -> None:
    code = training_digest(type(run.strategy))
    fingerprint = hashlib.sha256(f"{run.digest} {store.digest} {code}".encode()).hexdigest()[:16]
    summary_path = directory / "summary.json"
    begun = _begun(directory)
    if begun not in (None, fingerprint):
        kept = _set_aside(directory, results / run.study / "superseded" / run.id / str(begun))
        log(f"{run.id}: what was there came from another configuration, data or code; kept in {kept}")
    elif summary_path.exists():
        summary = read_summary(summary_path)
        if summary.fingerprint != fingerprint:
            raise RunError(f"{summary_path}: is not of the Run that its folder holds; remove the folder and run again")
        if run.is_complete(results):
            log(f"{run.id}: complete already, accuracy {summary.reported_accuracy:.4f}")
            return
        kept = _set_aside(directory, results / run.study / "superseded" / run.id / fingerprint)
        log(f"{run.id}: some of its files are gone, so it is trained again; what was left is kept in {kept}")
    write_text(directory / "run.json", json.dumps({"fingerprint": fingerprint, "run": run.to_dict()}, indent=2) + "\n")
    parts = Parts.of(run, store)
    precision = resolve_precision(run.precision, device.torch)
    training = Training(run, images, parts, len(store.class_names), precision)
    with tqdm(total=run.epochs, desc=run.id, unit="epoch", leave=False, disable=None) as bar:
        trained = train(training, directory, _sitting(fingerprint, device, precision), _progress(run, bar, log), stop)
    with whole_or_absent(directory / "weights.safetensors") as temporary:
        # One key: safetensors writes several in an order that changes from process to process.
        origin = json.dumps({"run": run.id, "epoch": trained.best_epoch})
        save_file(trained.weights, temporary, metadata={"pydyn": origin})
    with whole_or_absent(directory / "times_trained.npy") as temporary, temporary.open("wb") as file:
        np.save(file, trained.times_trained, allow_pickle=False)
    summary = _summarise(run, trained, parts, fingerprint, code, store.digest, device, precision)
    write_summary(summary_path, summary)
    (directory / "checkpoint.pt").unlink(missing_ok=True)
    log(f"{run.id}: done, accuracy {summary.reported_accuracy:.4f}, {summary.seconds.total:.0f} s")


def _summarise(
    run: Run, trained: Trained, parts: Parts, fingerprint: str, code: str, data: str, device: Device, precision: str
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
        device=device.name,
        precision=precision,
        threads=device.threads,
        sittings=trained.sittings,
        versions=versions(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _sitting(fingerprint: str, device: Device, precision: str) -> str:
    """What a checkpoint must have in common with a process that goes on from it, so that the Run ends as if never cut short."""
    kernels = "extension" if EXTENSION.loaded else "reference"
    return f"{fingerprint}, {device.name}, {device.threads} threads, {precision}, torch {torch.__version__}, {kernels}"


def _begun(directory: Path) -> str | None:
    """The fingerprint of what a Run's directory holds; None if nothing has begun there."""
    path = directory / "run.json"
    if not path.exists():
        return None
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
        if not re.fullmatch("[0-9a-f]{16}", begun):
            raise ValueError(f"fingerprint {begun!r}")
        return str(begun)
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: not a Run's description ({error}); remove its folder and run again") from None


@contextlib.contextmanager
def _only_one(directory: Path, log: Log) -> Iterator[None]:
    """Hold a Run's lock. The system frees it when its process ends, however that ends."""
    # Beside the folder and not in it: the folder may be set aside as a whole.
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{directory}: another process trains this Run; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        directory.mkdir(exist_ok=True)
        yield


def _set_aside(directory: Path, target: Path) -> Path:
    """Move a Run's folder, in one step, to where nothing looks for it but people."""
    while target.exists():
        target = target.with_name(target.name + "+")
    target.parent.mkdir(parents=True, exist_ok=True)
    directory.rename(target)
    directory.mkdir()
    return target


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
