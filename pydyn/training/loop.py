"""The training loop: one Run, epoch by epoch. Reads top to bottom."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pydyn.data.batches import ResidentImages
from pydyn.errors import RunError, Stopped
from pydyn.models import cnn
from pydyn.processor import seconds_waited
from pydyn.seeding import derive_seed, numpy_generator, own_draws, torch_generator
from pydyn.selection.strategy import Outcome
from pydyn.studies.run import Run
from pydyn.training.adam import SlicedAdam
from pydyn.training.checkpoint import loading, tensors_to_arrays
from pydyn.training.dead_units import dead_units, watch_units
from pydyn.training.fusion import fuse
from pydyn.training.history import Epoch, History, to_values
from pydyn.training.protocol import Parts
from pydyn.training.step import Evaluation, Passes, Step, recorder_for
from pydyn.training.stopping import Stop
from pydyn.training.summary import DeadUnits

# Pixels evaluated at once: 512 images of CIFAR's size. A constant, because the size of a batch can change the last bits.
EVALUATION_PIXELS = 512 * 32 * 32

# A checkpoint costs some ten milliseconds, what is lost without one at most this long.
SECONDS_BETWEEN_CHECKPOINTS = 10.0


@dataclass(frozen=True)
class Trained:
    """What a finished training leaves."""

    history: list[Epoch]
    weights: dict[str, Tensor]
    """Of the first epoch with the best validation accuracy, on the CPU."""
    best_epoch: int
    test_at_last: float | None
    test_at_best: float | None
    times_trained: NDArray[np.int32]
    """How often each image of the pool was trained on."""
    confusion: list[list[int]]
    """After the last epoch, on the images reported on: images of class i (rows) taken for class j (columns); none of a network
    that diverged."""
    dead_units: list[DeadUnits]
    """Likewise: of each layer with a ReLU, what never rises above 0."""
    resamplings: dict[str, int]
    n_parameters: int
    sittings: int


class Training:
    """A Run in progress: everything that changes from epoch to epoch, and nothing else."""

    def __init__(self, run: Run, images: ResidentImages, parts: Parts, n_classes: int, precision: str) -> None:
        conventions = cnn.CNN[run.model].conventions
        self.run = run
        # What a network is computed in on CUDA its images are rounded to first of all, there as early as they are gathered.
        early = precision == "bf16" and images.device.type == "cuda"
        self.images = images.scaled(conventions.scaling, torch.bfloat16 if early else torch.float32)
        self.parts = parts
        self.n_classes = n_classes
        height, width, channels = images.shape
        try:
            cnn.check_image_size(run.model, height, width)
        except ValueError as error:
            raise RunError(f"{run.id}: {error}; set `image_size` of the data set {run.dataset!r}") from None
        generator = torch_generator(run.seed, "initialisation")
        network = cnn.build(
            run.model, channels, n_classes, generator, image_size=(height, width), batch_norm=run.batch_norm
        )
        fuse(network, images.device)
        self.network: nn.Sequential = network.to(images.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        parameters, eps = self.network.parameters(), conventions.adam_epsilon
        self.optimiser: torch.optim.Adam = (
            SlicedAdam(parameters, run.learning_rate, eps)
            if images.device.type == "cuda"
            else torch.optim.Adam(parameters, run.learning_rate, eps=eps, fused=True)
        )
        self._passes = Passes(self.network, self.images, precision)
        self._step = self._new_step()
        self._evaluation_batch = max(1, EVALUATION_PIXELS // (height * width))
        self._evaluation = Evaluation(self._passes, self._evaluation_batch, recorder_for(images.device))
        self.strategy = run.strategy.build(len(parts.pool), numpy_generator(run.seed, "selection"), run.epochs)
        self.times_trained = np.zeros(len(parts.pool), dtype=np.int32)
        self.epoch = 0
        self.images_trained = 0
        self.best_epoch = 0
        self.best_accuracy = -1.0
        self.best_weights: dict[str, Tensor] = {}
        self.resamplings = {"none": 0, "I": 0, "II": 0}
        self.sittings = 1

    def _new_step(self) -> Step:
        seed, recorder = derive_seed(self.run.seed, "augmentation"), recorder_for(self.images.device)
        return Step(self._passes, self.optimiser, self.run.batch_size, self.run.augmentation, seed, recorder)

    def run_epoch(self) -> Epoch:
        """Train on the subset, evaluate, let the strategy choose the next subset.

        Recording for CUDA is in no part of the epoch's seconds.
        """
        self.epoch += 1
        start, waited = time.perf_counter(), -seconds_waited()
        subset = self.strategy.subset()
        self.times_trained[subset] += 1  # a subset holds no image twice
        self.images_trained += len(subset)
        selected, waited = time.perf_counter(), waited + seconds_waited()
        self._step.prepare(len(subset), self.strategy.weights() is not None)
        self._evaluation.prepare(len(self.parts.validation))
        prepared, waited = time.perf_counter(), waited - seconds_waited()
        with own_draws(self.images.device, self.run.seed, "dropout", self.epoch):
            train_loss, train_accuracy, scores = self._train(subset)
        trained = time.perf_counter()
        validation_loss, validation_accuracy = self.evaluate(self.parts.validation)
        if validation_accuracy > self.best_accuracy:
            self.best_epoch, self.best_accuracy = self.epoch, validation_accuracy
            self.best_weights = {
                # Contiguous, as safetensors wants them: channels-last is a matter of this loop, not of the weights.
                name: value.to("cpu", copy=True, memory_format=torch.contiguous_format)
                for name, value in self.network.state_dict().items()
            }
        evaluated = time.perf_counter()
        resampling = self.strategy.update(Outcome(validation_accuracy, *scores))
        self.resamplings[resampling.kind] += 1
        return Epoch(
            epoch=self.epoch,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=validation_loss,
            validation_accuracy=validation_accuracy,
            subset_size=len(subset),
            images_trained=self.images_trained,
            unique_images=int(np.count_nonzero(self.times_trained)),
            resampling=resampling.kind,
            replaced=resampling.replaced,
            beta=resampling.beta,
            seconds_train=trained - prepared,
            seconds_evaluate=evaluated - trained,
            seconds_select=selected - start + time.perf_counter() - evaluated,
            seconds_waiting=waited + seconds_waited(),
        )

    def _train(self, subset: NDArray[np.int64]) -> tuple[float, float, NDArray[np.float32]]:
        """One pass over a subset in random order.

        Returns mean loss and accuracy, each image counted as it was trained, and (2, len(subset)) its loss and margin then.
        """
        self.network.train()
        generator = torch_generator(self.run.seed, "order", self.epoch)
        order = torch.randperm(len(subset), generator=generator).to(self.images.device)
        index = self.images.indices(self.parts.pool[subset])[order]
        weights = self.strategy.weights()
        weight = None if weights is None else torch.from_numpy(weights).to(self.images.device)[order]
        in_order = torch.empty(3, len(subset), device=self.images.device)
        for start in range(0, len(index), self.run.batch_size):
            batch = slice(start, start + self.run.batch_size)
            in_order[:, batch] = self._step(index[batch], None if weight is None else weight[batch], self.epoch)
        if self.images.device.type == "cuda":  # which has the epoch's steps still before it
            self.strategy.look_ahead()
        losses, _, correct = in_order.double()
        scores = torch.empty_like(in_order[:2])
        scores[:, order] = in_order[:2]
        return *self._means(torch.stack([losses.sum(), correct.sum()]), len(index)), scores.cpu().numpy()

    def evaluate(self, part: NDArray[np.int64]) -> tuple[float, float]:
        """Mean loss and accuracy on a part of the images."""
        return self._means(self._evaluation(self.images.indices(part)), len(part))

    @torch.no_grad()
    def diagnose(self, part: NDArray[np.int64]) -> tuple[list[list[int]], list[DeadUnits]]:
        """The confusion matrix on a part of the images, and what of the network is dead there."""
        self.network.eval()
        counts = torch.zeros(self.n_classes, self.n_classes, dtype=torch.int64, device=self.images.device)
        with watch_units(self.network) as highest:
            for batch in self.images.indices(part).split(self._evaluation_batch):
                logits = self._passes.logits(self.images.batch(batch))
                known = ~logits.isnan().any(
                    1
                )  # without numbers an image is taken for nothing, and not for the first class
                places = self.images.labels[batch] * self.n_classes + logits.argmax(1)
                counts.view(-1).add_(torch.bincount(places[known], minlength=counts.numel()))
        return counts.tolist(), dead_units(highest)

    @staticmethod
    def _means(total: Tensor, count: int) -> tuple[float, float]:
        loss, correct = total.tolist()  # the one wait for the device in an epoch's training or evaluation
        return loss / count, correct / count

    def state_dict(self) -> dict[str, Any]:
        """Everything that later epochs depend on."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "strategy": self.strategy.state_dict(),
            "times_trained": self.times_trained,
            "best_weights": self.best_weights,
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])  # which replaces tensors
        self._step = self._new_step()
        self.strategy.load_state_dict(tensors_to_arrays(state["strategy"]))
        self.times_trained = tensors_to_arrays(state["times_trained"])
        self.best_weights = state["best_weights"]
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self.sittings += 1


_COUNTERS = ("epoch", "images_trained", "best_epoch", "best_accuracy", "resamplings", "sittings")


def train(
    training: Training,
    path: Path,
    begun: dict[str, Any] | None,
    save: Callable[[dict[str, Any]], None],
    on_epoch: Callable[[Epoch], None],
    stop: Stop,
) -> Trained:
    """Train to the end.

    Args:
        training: at its start.
        path: of the history.
        begun: what was last given to `save`, arrays as tensors, to go on from there.
        save: takes a checkpoint every few seconds, and before the end.
        on_epoch: called after each epoch.
        stop: asked after each epoch but the last whether to save and leave.

    Raises:
        Stopped: `stop` said so.
        StateError: `begun` is not of this training, part of which it may have changed.
    """
    history, rows = History(path, Epoch), []
    if begun is not None:
        with loading():
            training.load_state_dict(begun["training"])
            rows = [Epoch(**row) for row in begun["history"]]
    history.restart(rows)
    saved = time.monotonic()
    while training.epoch < training.run.epochs:
        row = training.run_epoch()
        history.append(row)
        on_epoch(row)
        last = training.epoch == training.run.epochs
        stopping = stop() and not last
        if time.monotonic() - saved >= SECONDS_BETWEEN_CHECKPOINTS or last or stopping:
            save({"training": training.state_dict(), "history": to_values(history.rows)})
            saved = time.monotonic()
        if stopping:
            raise Stopped(
                f"{training.run.id}: asked to stop, saved after epoch {training.epoch} of {training.run.epochs}; "
                "the same command goes on from there"
            )
    return _finish(training, history.rows)


def _finish(training: Training, rows: list[Epoch]) -> Trained:
    """Look at the test set for the first and only time: with the last weights, and with those of the best epoch."""
    test_at_last = test_at_best = None
    n_parameters = cnn.count_parameters(training.network)
    part = training.parts.test if len(training.parts.test) else training.parts.validation
    confusion, dead_units = training.diagnose(part)
    if len(training.parts.test):
        test_at_last = training.evaluate(training.parts.test)[1]
        training.network.load_state_dict(training.best_weights)
        test_at_best = training.evaluate(training.parts.test)[1]
    return Trained(
        history=rows,
        weights=training.best_weights,
        best_epoch=training.best_epoch,
        times_trained=training.times_trained,
        confusion=confusion,
        dead_units=dead_units,
        test_at_last=test_at_last,
        test_at_best=test_at_best,
        resamplings=training.resamplings,
        n_parameters=n_parameters,
        sittings=training.sittings,
    )
