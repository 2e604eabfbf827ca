"""Runs of heads on a feature store, in their folders."""

import json
import math
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pydyn.data.parts import Parts
from pydyn.energy import Meter, Reading, total
from pydyn.errors import DataError, RunError
from pydyn.features.jobs import place_of, read_adapted
from pydyn.features.store import ADAPTED, FEATURES, FeatureStore
from pydyn.provenance import heads_digest
from pydyn.studies.frugal_runs import FeatureSet, HeadRun
from pydyn.training.folder import Log, fingerprint_of, open_folder
from pydyn.training.frugal_results import Job, finish, say_complete
from pydyn.training.heads import HeadResult, Progress, train_heads, winner
from pydyn.training.history import History

EPOCHS_BETWEEN_LINES = 50


@dataclass(frozen=True)
class HeadRow:
    """One row of a history of heads."""

    candidate: int
    """Position of the setting among those tried, from 0."""
    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    balanced_accuracy: float


@dataclass(frozen=True)
class LoadedFeatures:
    """A feature store in memory, on the device to train on."""

    values: Tensor
    digest: str
    precision: str
    extraction: Reading
    """Of all images."""
    adaptation: Reading | None
    places: frozenset[str]
    """Where these readings are of (`place_of`)."""


def load_features(features: FeatureSet, job: Job) -> LoadedFeatures:
    """Read features that were extracted before. Raises DataError if they are missing, damaged, or of something else."""
    directory, images = features.directory(job.results), job.store.digest
    with FeatureStore.open(directory / FEATURES) as found:
        described = {name: found.description.get(name) for name in ("features", "images")}
        expected = {"features": json.loads(json.dumps(features.to_dict())), "images": images}
        if others := [name for name, value in expected.items() if described[name] != value]:
            what = "other images" if others == ["images"] else "another backbone or setting"
            raise DataError(f"feature store {found.path} is of {what}; delete its folder and run again")
        found.verify()
        adaptation, places = None, {str(shard["place"]) for shard in found.measured}
        if features.adaptation is not None:
            backbone = found.description["backbone"]["digest"]
            adapted = read_adapted(directory / ADAPTED, features, backbone, images)
            adaptation = adapted.reading
            places.add(adapted.place)
        return LoadedFeatures(
            torch.from_numpy(found.features()).to(job.device.torch),
            found.digest,
            found.description["precision"],
            total([Reading.from_dict(shard["reading"]) for shard in found.measured]),
            adaptation,
            frozenset(places),
        )


def train_head_run(run: HeadRun, features: LoadedFeatures, job: Job) -> None:
    """Train a Run's heads, all at once, unless it is complete; keep the one with the best validation loss.

    Raises RunError if all of them diverge.
    """
    code, store = heads_digest(), job.store
    fingerprint = fingerprint_of(run, store.digest, features.digest, code)
    with open_folder(run, job.results, fingerprint, job.log) as directory:
        if directory is None:
            return say_complete(job, run)
        parts = Parts.of(store, run.splits, run.seed)
        values, device = features.values, features.values.device
        with Meter(run.country) as meter:
            found = train_heads(
                values,
                torch.from_numpy(store.labels).to(device),
                torch.from_numpy(parts.train).to(device),
                torch.from_numpy(parts.validation).to(device),
                run.settings,
                epochs=run.epochs,
                patience=run.patience,
                class_weight="balanced" if run.class_weights else None,
                n_classes=len(store.class_names),
                progress=partial(_say, job.log, run.id),
            )
        best = winner(found)
        if not math.isfinite(best.history[best.best_epoch - 1].validation_loss):
            raise RunError(
                f"{run.id}: its validation loss was never a finite number; lower frugal.heads.learning_rates"
            )
        head = best.head().to(device)

        def probabilities(rows: NDArray[np.int64]) -> NDArray[np.float64]:
            with torch.no_grad():
                logits = head(values[torch.from_numpy(rows).to(device)].float())
            return torch.softmax(logits.double(), 1).cpu().numpy()

        share = (len(parts.train) + len(parts.validation)) / store.n_images
        costs = {"extraction": features.extraction.part(share), "training": meter.reading}
        if features.adaptation is not None:
            costs["adaptation"] = features.adaptation
        History(directory / "history.csv", HeadRow).restart(_rows(found))
        finish(
            job,
            run,
            directory,
            fingerprint,
            code,
            parts,
            best.weights,
            probabilities,
            chosen=asdict(best.setting),
            n_candidates=len(found),
            best_epoch=best.best_epoch,
            epochs=len(best.history),
            n_parameters=sum(parameter.numel() for parameter in head.parameters()),
            costs=costs,
            elsewhere=sorted(features.places - {place_of(job.device)}),
            precision=features.precision,
        )
    return None


def _rows(results: list[HeadResult]) -> list[HeadRow]:
    return [HeadRow(candidate, **asdict(row)) for candidate, result in enumerate(results) for row in result.history]


def _say(log: Log, name: str, progress: Progress) -> None:
    if progress.epoch % EPOCHS_BETWEEN_LINES == 0:
        log(
            f"{name}: epoch {progress.epoch} of at most {progress.epochs}, {progress.running} of {progress.n_heads} heads go "
            f"on, best validation loss {progress.best.validation_loss:.3f}"
        )
