"""Populations of tiny networks, in their folders."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from pydyn.data.progress import SECONDS_BETWEEN_LINES
from pydyn.device import Device
from pydyn.errors import RunError, Stopped
from pydyn.models.tiny import TinyCNN
from pydyn.ops import GreyImages
from pydyn.ops.extension import EXTENSION
from pydyn.provenance import populations_digest, versions
from pydyn.studies.shapes_runs import PopulationRun
from pydyn.training.checkpoint import loading
from pydyn.training.folder import Log, fingerprint_of, open_folder
from pydyn.training.history import History, to_values
from pydyn.training.population import Member, Population, PopulationEpoch
from pydyn.training.population_summary import (
    MemberEpoch,
    MemberResult,
    PopulationSummary,
    end_of,
    read_population_summary,
    write_population_summary,
)
from pydyn.training.resumption import Place, Resumption
from pydyn.training.stopping import Stop
from pydyn.training.weights import save_weights

# A checkpoint costs some milliseconds, what is lost without one at most this long.
SECONDS_BETWEEN_CHECKPOINTS = 10.0

# What networks see of a byte: itself, or a number of 0 to 1.
STD_OF_PIXELS = {"bytes": 1 / 255, "unit": 1.0}


@dataclass(frozen=True)
class ShapesJob:
    """What the Runs of one process share."""

    results: Path
    digest: str
    """Of the image store."""
    train: GreyImages
    validation: GreyImages
    n_classes: int
    device: Device
    log: Log
    stop: Stop


def architecture_of(run: PopulationRun, image_size: tuple[int, int], n_classes: int) -> TinyCNN:
    """The networks of a population. Raises RunError if images of this size or so many classes do not fit."""
    try:
        return TinyCNN(run.layers, image_size, n_classes, run.output_relu)
    except ValueError as error:
        raise RunError(f"{run.id}: {error}; choose another data set for the study shapes") from None


def train_population_run(run: PopulationRun, job: ShapesJob) -> None:
    """Train a population, unless it is complete; go on from where a process before was ended. Raises Stopped, RunError."""
    code = populations_digest()
    fingerprint = fingerprint_of(run, job.digest, code)
    with open_folder(run, job.results, fingerprint, job.log) as directory:
        if directory is None:
            summary = read_population_summary(run.directory(job.results) / "summary.json")
            job.log(f"{run.id}: complete already, {_result(summary)}")
            return
        std = STD_OF_PIXELS[run.pixels]
        train = GreyImages(job.train.pixels, job.train.labels, std=std)
        validation = GreyImages(job.validation.pixels, job.validation.labels, std=std)
        architecture = architecture_of(run, train.image_size, job.n_classes)
        members = [
            Member(seed, run.learning_rate, run.initialiser, run.optimiser)
            for seed in range(run.seed, run.seed + run.members)
        ]
        resumption = Resumption(run, job.results, fingerprint, _place(job.device), job.log)

        def train_from(begun: dict[str, Any] | None) -> tuple[Population, list[MemberEpoch], float]:
            population = Population(
                architecture, members, train, validation, batch_size=run.batch_size, clipped=run.loss == "clipped"
            )
            return population, *_train(run, population, begun, resumption.save, job)

        population, rows, seconds = resumption.resume(train_from)
        weights = {"parameters": population.parameters.cpu(), "best_parameters": population.best_parameters.cpu()}
        save_weights(directory, weights, run=run.id)
        History(directory / "history.csv", MemberEpoch).restart(rows)
        summary = PopulationSummary(
            run=run,
            fingerprint=fingerprint,
            code=code,
            data=job.digest,
            members=[_ended(rows[-len(members) + position], population, position) for position in range(len(members))],
            n_train=len(train),
            n_validation=len(validation),
            n_classes=job.n_classes,
            n_parameters=architecture.n_parameters,
            seconds=seconds,
            device=job.device.name,
            threads=job.device.threads,
            versions=versions(),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            earlier_places=resumption.earlier_places,
        )
        write_population_summary(directory / "summary.json", summary)
        resumption.remove()
        job.log(f"{run.id}: done, {_result(summary)}")


def _train(
    run: PopulationRun,
    population: Population,
    begun: dict[str, Any] | None,
    save: Callable[[dict[str, Any]], None],
    job: ShapesJob,
) -> tuple[list[MemberEpoch], float]:
    """All epochs that are left, and those before: rows, epoch by epoch and member by member, and seconds."""
    rows: list[MemberEpoch] = []
    seconds = 0.0
    if begun is not None:
        with loading():
            population.load_state_dict(begun["population"])
            rows, seconds = [MemberEpoch(**row) for row in begun["rows"]], begun["seconds"]
        job.log(f"{run.id}: goes on after epoch {population.epoch}")
    saved = time.monotonic()
    with _progress(run, population, job.log) as tell:
        while population.epoch < run.epochs:
            start = time.perf_counter()
            epoch = population.run_epoch()
            rows += _rows(population, epoch)
            seconds += time.perf_counter() - start
            stopping = job.stop() and population.epoch < run.epochs
            if stopping or time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS:
                save({"population": population.state_dict(), "rows": to_values(rows), "seconds": seconds})
                saved = time.monotonic()
            tell(epoch)
            if stopping:
                raise Stopped(
                    f"{run.id}: asked to stop, saved after epoch {population.epoch}; the same command goes on from there"
                )
    return rows, seconds


def _place(device: Device) -> Place:
    kernels = "extension" if EXTENSION.loaded else "reference"
    # On a CPU the extension computes the same with any number of threads.
    return Place(device.torch.type, f"{device.name}, torch {torch.__version__}, {kernels}")


def _rows(population: Population, epoch: PopulationEpoch) -> list[MemberEpoch]:
    two_layers = epoch.dead_filters.shape[1] > 1
    return [
        MemberEpoch(
            seed=member.seed,
            epoch=epoch.epoch,
            train_loss=float(epoch.train_loss[position]),
            train_accuracy=float(epoch.train_accuracy[position]),
            validation_accuracy=float(epoch.validation_accuracy[position]),
            dead_filters_1=int(epoch.dead_filters[position, 0]),
            dead_filters_2=int(epoch.dead_filters[position, 1]) if two_layers else 0,
            dead_outputs=int(epoch.dead_outputs[position]),
            unpredicted_classes=int(epoch.unpredicted_classes[position]),
        )
        for position, member in enumerate(population.members)
    ]


def _ended(row: MemberEpoch, population: Population, position: int) -> MemberResult:
    layers = len(population.architecture.filters)
    return MemberResult(
        seed=row.seed,
        train_loss=row.train_loss,
        train_accuracy=row.train_accuracy,
        validation_accuracy=row.validation_accuracy,
        best_validation=float(population.best_accuracy[position]),
        best_epoch=int(population.best_epoch[position]),
        dead_filters=[row.dead_filters_1, row.dead_filters_2][:layers],
        dead_outputs=row.dead_outputs,
        unpredicted_classes=row.unpredicted_classes,
    )


def _result(summary: PopulationSummary) -> str:
    return f"{_learnt([summary.end(member) for member in summary.members])}, {summary.seconds:.1f} s"


def _learnt(ends: list[str]) -> str:
    return f"{ends.count('learnt')} of {len(ends)} learnt"


@contextmanager
def _progress(run: PopulationRun, population: Population, log: Log) -> Iterator[Callable[[PopulationEpoch], None]]:
    """A bar on a terminal; in a log a line, but not more than one in five seconds."""
    last = time.monotonic()
    with tqdm(total=run.epochs, initial=population.epoch, desc=run.id, unit="epoch", leave=False, disable=None) as bar:

        def tell(epoch: PopulationEpoch) -> None:
            nonlocal last
            n_classes = population.architecture.n_classes
            state = _learnt([end_of(accuracy, n_classes) for accuracy in epoch.validation_accuracy.tolist()])
            bar.update()
            bar.set_postfix_str(state)
            if bar.disable and time.monotonic() - last >= SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                log(f"{run.id}: epoch {epoch.epoch}/{run.epochs}, {state}")

        yield tell
