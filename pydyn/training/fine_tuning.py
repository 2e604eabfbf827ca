"""Fine-tuning: a whole pre-trained network trained on images. The rival of heads on frozen features, and to be a fair one.

Each learning rate is trained with early stopping; the one with the best validation loss counts. Reads top to bottom.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from pydyn.data.inputs import BackboneInputs
from pydyn.data.parts import Parts
from pydyn.device import resolve_precision
from pydyn.energy import Meter, Reading, total
from pydyn.errors import RunError, Stopped
from pydyn.models.backbones import LoadedBackbone
from pydyn.models.classifier import Classifier
from pydyn.models.heads import build
from pydyn.seeding import derive_seed, numpy_generator, own_draws, torch_generator
from pydyn.studies.frugal_runs import FineTuningRun
from pydyn.training.checkpoint import loading
from pydyn.training.history import History, to_values
from pydyn.training.stopping import Stop


@dataclass(frozen=True)
class FineTuningEpoch:
    """One row of a history."""

    candidate: int
    """Position of the learning rate among those tried, from 0."""
    learning_rate: float
    epoch: int
    """From 1, for each learning rate."""
    train_loss: float
    """Mean over the epoch's images, while the weights change; weighted by class where classes are."""
    validation_loss: float
    validation_accuracy: float
    seconds_train: float
    seconds_evaluate: float


@dataclass(frozen=True)
class FineTuned:
    """What a finished fine-tuning leaves."""

    history: list[FineTuningEpoch]
    weights: dict[str, Tensor]
    """Of the best epoch of the best learning rate, on the CPU, contiguous."""
    candidate: int
    """Position of the best learning rate."""
    epoch: int
    """Its best epoch."""
    readings: list[Reading]
    """What each learning rate took."""


def fine_tune(
    run: FineTuningRun,
    backbone: Callable[[], LoadedBackbone],
    inputs: BackboneInputs,
    labels: NDArray[np.int64],
    parts: Parts,
    n_classes: int,
    precision: str,
    path: Path,
    begun: dict[str, Any] | None,
    save: Callable[[dict[str, Any]], None],
    on_epoch: Callable[[FineTuningEpoch], None],
    stop: Stop,
) -> FineTuned:
    """Train to the end.

    Args:
        run: what to train.
        backbone: loads the network with its first weights.
        inputs: the image store's images, on the device to train on.
        labels: (N,), of all images of the store.
        parts: rows of the store to train on, to stop by and to report on.
        n_classes: units of the new last layer.
        precision: `bf16` (autocast) or `fp32`.
        path: of the history.
        begun: what was last given to `save`, to go on from there.
        save: takes a checkpoint after each epoch.
        on_epoch: called after each epoch.
        stop: asked after each epoch whether to save and leave.

    Raises:
        Stopped: `stop` said so.
        StateError: `begun` is not of this training.
        RunError: every learning rate diverged.
    """
    setting, history = run.fine_tuning, History(path, FineTuningEpoch)
    state: dict[str, Any] = {"best_loss": float("inf"), "best": {}, "readings": {}, "history": []}
    with loading():
        if begun is not None:
            state = {name: begun[name] for name in (*state, "network", "optimiser")}
        history.restart([FineTuningEpoch(**row) for row in state["history"]])
    weight = class_weights(labels[parts.train], n_classes).to(inputs.device) if run.class_weights else None
    for candidate, rate in enumerate(setting.learning_rates):
        done = [row for row in history.rows if row.candidate == candidate]
        if _ended(done, setting.epochs, setting.patience):
            continue
        network = _network(backbone(), n_classes, run.seed).to(inputs.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=setting.weight_decay, fused=True)
        if done:
            with loading():
                network.load_state_dict(state["network"])
                optimiser.load_state_dict(state["optimiser"])
        while not _ended(done, setting.epochs, setting.patience):
            epoch = len(done) + 1
            with Meter(run.country) as meter:
                start = time.perf_counter()
                with own_draws(inputs.device, run.seed, "dropout", candidate, epoch):
                    train_loss = _train(run, network, optimiser, inputs, labels, parts.train, weight, precision, epoch)
                trained = time.perf_counter()
                probabilities = predict(network, inputs, parts.validation, setting.batch_size, precision)
                loss, accuracy = _judge(probabilities, labels[parts.validation], weight)
                evaluated = time.perf_counter()
            row = FineTuningEpoch(
                candidate, rate, epoch, train_loss, loss, accuracy, trained - start, evaluated - trained
            )
            done.append(row)
            if loss < state["best_loss"]:
                weights = {
                    name: value.to("cpu", copy=True).contiguous() for name, value in network.state_dict().items()
                }
                state |= {"best_loss": loss, "best": {"candidate": candidate, "epoch": epoch, "weights": weights}}
            so_far = [Reading.from_dict(state["readings"][candidate])] if candidate in state["readings"] else []
            state["readings"][candidate] = total([*so_far, meter.reading]).to_dict()
            history.append(row)
            state |= {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            save({**state, "history": to_values(history.rows)})
            on_epoch(row)
            if stop():
                raise Stopped(
                    f"{run.id}: asked to stop, saved after epoch {epoch}; the same command goes on from there"
                )
    best = state["best"]
    if not best:
        raise RunError(
            f"{run.id}: its validation loss was never a finite number; lower frugal.fine_tuning.learning_rates"
        )
    readings = [Reading.from_dict(state["readings"][candidate]) for candidate in range(len(setting.learning_rates))]
    return FineTuned(history.rows, best["weights"], best["candidate"], best["epoch"], readings)


def training_precision(wanted: str, network: torch.nn.Module, device: torch.device) -> str:
    """`bf16` or `fp32`; for `auto`, the faster one, so that the rival is at its best.

    That is as for other networks, but on a CPU those with depthwise convolutions train in fp32: their backward pass is slow in
    bf16. EfficientNet-Lite0, one thread of an EPYC with bf16 instructions, batch 32: fp32 14 images/s, bf16 9.
    """
    depthwise = any(isinstance(module, torch.nn.Conv2d) and module.groups > 1 for module in network.modules())
    return "fp32" if wanted == "auto" and depthwise and device.type == "cpu" else resolve_precision(wanted, device)


def class_weights(labels: NDArray[np.int64], n_classes: int) -> Tensor:
    """(C,), float32: n / (C n_c), so that each class weighs the same; `labels` (n,) are of the training images."""
    counts = np.bincount(labels, minlength=n_classes)
    return torch.from_numpy((len(labels) / (n_classes * np.maximum(counts, 1))).astype(np.float32))


def predict(
    network: torch.nn.Module, inputs: BackboneInputs, rows: NDArray[np.int64], batch_size: int, precision: str
) -> NDArray[np.float64]:
    """Class probabilities (n, C) of the images at rows, in evaluation mode."""
    network.eval()
    found = []
    for images in inputs.batches(rows, batch_size):
        with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(images)
        found.append(torch.softmax(logits.double(), 1).cpu())
    return torch.cat(found).numpy()


def _network(backbone: LoadedBackbone, n_classes: int, seed: int) -> Classifier:
    head = build("linear", backbone.n_features, n_classes, torch_generator(seed, "initialisation"))
    return Classifier(backbone.network.requires_grad_(True), head)


def _ended(rows: list[FineTuningEpoch], epochs: int, patience: int) -> bool:
    """Early stopping: so many epochs, or so many without a better validation loss."""
    if len(rows) >= epochs:
        return True
    losses = [row.validation_loss for row in rows]
    return bool(losses) and len(losses) - 1 - int(np.argmin(losses)) >= patience


def _train(
    run: FineTuningRun,
    network: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    inputs: BackboneInputs,
    labels: NDArray[np.int64],
    rows: NDArray[np.int64],
    weight: Tensor | None,
    precision: str,
    epoch: int,
) -> float:
    """One pass over the training images in random order; the mean loss."""
    network.train()
    order = rows[numpy_generator(run.seed, "order", epoch).permutation(len(rows))]
    size = run.fine_tuning.batch_size
    # A last batch of one would give batch normalisation nothing to take a variance of.
    starts = [start for start in range(0, len(order), size) if len(order) - start > 1 or len(order) == 1]
    sums = torch.zeros(2, dtype=torch.float64, device=inputs.device)
    for start in starts:
        batch = order[start : start + size]
        if run.fine_tuning.augmentation == "crop-flip":
            images = inputs.augmented_batch(batch, derive_seed(run.seed, "augmentation", epoch, start))
        else:
            images = inputs.batch(batch)
        target = torch.from_numpy(labels[batch]).to(inputs.device)
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = network(images)
        loss = cross_entropy(logits.float(), target, weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        share = float(len(batch)) if weight is None else weight[target].sum()
        sums += torch.stack([loss.detach().double() * share, torch.as_tensor(share, device=inputs.device).double()])
    weighted, whole = sums.tolist()
    return float(weighted / whole)


def _judge(probabilities: NDArray[np.float64], labels: NDArray[np.int64], weight: Tensor | None) -> tuple[float, float]:
    """Mean loss, weighted by class where classes are, and accuracy."""
    chosen = np.clip(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).tiny, None)
    shares = np.ones(len(labels)) if weight is None else weight.cpu().numpy()[labels].astype(np.float64)
    return float((-np.log(chosen) * shares).sum() / shares.sum()), float((probabilities.argmax(1) == labels).mean())
