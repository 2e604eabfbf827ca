"""Runs of the study `shapes`: populations of tiny networks, and analyses of what these left."""

from collections.abc import Sequence
from pathlib import Path

from pydyn.data.store import ImageStore
from pydyn.device import Device
from pydyn.errors import DataError, Stopped
from pydyn.studies.shapes_runs import AnalysisRun, PopulationRun
from pydyn.training.analysis_runs import analyse
from pydyn.training.folder import Log
from pydyn.training.population import images_of
from pydyn.training.population_runs import ShapesJob, train_population_run
from pydyn.training.stopping import Stop, never


def execute_shapes(
    runs: Sequence[PopulationRun | AnalysisRun],
    results: Path,
    store_path: Path,
    device: Device,
    log: Log,
    stop: Stop = never,
) -> None:
    """Train and analyse networks of one data set, one Run after the other, those that are complete already left alone.

    Args:
        runs: of one data set; the populations that analyses ask for are complete, or stand before them.
        results: the folder of all results.
        store_path: of the data set's image store, whose images are grey.
        device: to train on.
        log: takes a line of progress.
        stop: asked before each Run, and after each epoch of a population, whether to save and leave.

    Raises:
        Stopped: `stop` said so; the same call goes on from there.
        DataError: the store cannot be used.
        RunError: images that tiny networks cannot see, or a Run's folder holds what cannot be told.
    """
    with ImageStore.open(store_path) as store:
        store.verify()
        if others := {run.dataset for run in runs} - {store.name}:
            raise DataError(
                f"image store {store_path} holds {store.name!r}, not {others.pop()!r}; delete it and run again"
            )
        # What other protocols hold out for validation is trained on here: decisions use nothing, figures are of the test images.
        train = images_of(store, "train", "validation", device=device.torch)
        validation = images_of(store, "test", device=device.torch)
        job = ShapesJob(results, store.digest, train, validation, len(store.class_names), device, log, stop)
        for run in runs:
            if stop():
                raise Stopped(f"{run.id}: asked to stop before it went on; the same command does")
            if isinstance(run, PopulationRun):
                train_population_run(run, job)
            else:
                analyse(run, job, store)
