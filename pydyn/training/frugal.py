"""Runs of the study `frugal`: heads on features, and whole networks fine-tuned."""

from collections.abc import Sequence
from pathlib import Path

from pydyn.data.store import ImageStore
from pydyn.device import Device
from pydyn.errors import Stopped
from pydyn.studies.frugal_runs import FineTuningRun, FrugalRun, HeadRun
from pydyn.training.fine_tuning_runs import train_fine_tuning_run
from pydyn.training.folder import Log
from pydyn.training.frugal_results import Job
from pydyn.training.head_runs import load_features, train_head_run
from pydyn.training.stopping import Stop, never


def execute_frugal(
    runs: Sequence[FrugalRun], results: Path, store_path: Path, device: Device, log: Log, stop: Stop = never
) -> None:
    """Train Runs of one data set, one after the other, those that are complete already left alone.

    Args:
        runs: of one data set; their features, for heads, are there.
        results: the folder of all results.
        store_path: of the data set's image store.
        device: to train on.
        log: takes a line of progress.
        stop: asked before each Run, and after each epoch of a fine-tuning, whether to save and leave.

    Raises:
        Stopped: `stop` said so; the same call goes on from there.
        DataError: a store, features or weights cannot be used.
        RunError: a Run's folder holds what cannot be told.
    """
    with ImageStore.open(store_path) as store:
        store.verify()
        job = Job(results, store, device, log, stop)
        loaded = None
        for run in runs:
            if stop():
                raise Stopped(f"{run.id}: asked to stop before it went on; the same command does")
            if isinstance(run, HeadRun):
                if loaded is None or loaded[0] != run.features:
                    loaded = (run.features, load_features(run.features, job))
                train_head_run(run, loaded[1], job)
            elif isinstance(run, FineTuningRun):
                train_fine_tuning_run(run, job)
