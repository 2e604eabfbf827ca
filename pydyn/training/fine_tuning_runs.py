"""Runs of fine-tuning in their folders."""

from functools import partial
from typing import Any

import torch

from pydyn.data.inputs import BackboneInputs
from pydyn.data.parts import Parts
from pydyn.energy import total
from pydyn.models.backbones import load_backbone
from pydyn.models.classifier import Classifier
from pydyn.models.heads import build
from pydyn.provenance import fine_tuning_digest
from pydyn.seeding import torch_generator
from pydyn.studies.frugal_runs import FineTuningRun
from pydyn.training.fine_tuning import FineTuned, FineTuningEpoch, fine_tune, predict, training_precision
from pydyn.training.folder import fingerprint_of, open_folder
from pydyn.training.frugal_results import Job, finish, say_complete
from pydyn.training.resumption import Place, Resumption


def train_fine_tuning_run(run: FineTuningRun, job: Job) -> None:
    """Fine-tune, unless the Run is complete; go on from where a process before was ended. Raises Stopped, DataError."""
    code, store, device = fine_tuning_digest(), job.store, job.device
    backbone = load_backbone(run.network)
    fingerprint = fingerprint_of(run, store.digest, backbone.digest, code)
    with open_folder(run, job.results, fingerprint, job.log) as directory:
        if directory is None:
            return say_complete(job, run)
        parts = Parts.of(store, run.splits, run.seed)
        precision = training_precision(run.precision, backbone.network, device.torch)
        inputs = BackboneInputs(store, backbone.preprocessing, device.torch)
        n_classes, size = len(store.class_names), run.fine_tuning.batch_size

        def say(row: FineTuningEpoch) -> None:
            job.log(
                f"{run.id}: rate {row.learning_rate:g}, epoch {row.epoch}, loss {row.train_loss:.3f}, validation loss "
                f"{row.validation_loss:.3f}, accuracy {row.validation_accuracy:.3f}, "
                f"{row.seconds_train + row.seconds_evaluate:.0f} s"
            )

        described = f"{device.name}, threads: {device.threads}, {precision}, torch {torch.__version__}"
        resumption = Resumption(run, job.results, fingerprint, Place(device.torch.type, described), job.log)

        def train_from(begun: dict[str, Any] | None) -> FineTuned:
            return fine_tune(
                run,
                partial(load_backbone, run.network),
                inputs,
                store.labels,
                parts,
                n_classes,
                precision,
                directory / "history.csv",
                begun,
                resumption.save,
                say,
                job.stop,
            )

        tuned = resumption.resume(train_from)
        head = build("linear", backbone.n_features, n_classes, torch_generator(run.seed, "initialisation"))
        network = Classifier(backbone.network, head)
        network.load_state_dict(tuned.weights)
        network = network.to(device.torch, memory_format=torch.channels_last)  # type: ignore[call-overload]
        finish(
            job,
            run,
            directory,
            fingerprint,
            code,
            parts,
            tuned.weights,
            lambda rows: predict(network, inputs, rows, size, precision),
            chosen={"learning_rate": run.fine_tuning.learning_rates[tuned.candidate]},
            n_candidates=len(tuned.readings),
            best_epoch=tuned.epoch,
            epochs=sum(row.candidate == tuned.candidate for row in tuned.history),
            n_parameters=sum(parameter.numel() for parameter in network.parameters()),
            costs={"training": tuned.readings[tuned.candidate], "search": total(tuned.readings)},
            precision=precision,
            earlier_places=resumption.earlier_places,
        )
        resumption.remove()
    return None
