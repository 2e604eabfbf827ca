"""One step of training after the other: gather, forward and backward pass, optimiser; on CUDA replayed as one graph, and
evaluation likewise.

A small network computes a batch in less time than a GPU needs to be told of it kernel by kernel. A CUDA graph starts all kernels
of a step at once.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from pydyn.data.batches import Augmentation, ResidentImages
from pydyn.ops import AmbiguityTerms, ambiguity_cross_entropy
from pydyn.ops.extension import EXTENSION
from pydyn.ops.streams import for_captures, running_beside

# Steps before a capture: libraries choose their kernels and take their workspaces in the first ones.
WARM_UP_STEPS = 3


T = TypeVar("T")


class Recorder(Protocol):
    """Records what a function does to tensors at fixed places."""

    def __call__(self, run: Callable[[], T]) -> tuple[T, Callable[[], Any]]:
        """Returns what the function returns, and what does it once more, in place."""


def capture(run: Callable[[], T]) -> tuple[T, Callable[[], None]]:
    """Record a function as a CUDA graph, after it was run a few times, with all that it changes."""
    stream = for_captures()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP_STEPS):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # On the stream of the warm-up, whose workspaces are there already.
    with torch.cuda.graph(graph, stream=stream):
        taken = run()
    return taken, graph.replay


def recorder_for(device: torch.device) -> Recorder | None:
    """On CUDA, `capture`; not without our kernels, since plain torch operations in their place copy from the host."""
    return capture if device.type == "cuda" and EXTENSION.cuda_version is not None else None


def batch_sizes(n_images: int, batch_size: int) -> list[int]:
    """The sizes that batches of so many images have: whole ones, and what is left."""
    return [size for size in (batch_size if n_images >= batch_size else 0, n_images % batch_size) if size]


class Passes:
    """A network on batches of resident images, in the precision of its Run."""

    def __init__(self, network: nn.Module, images: ResidentImages, precision: str) -> None:
        """Take what is on one device; `precision` is `bf16` or `fp32`."""
        self.network = network
        self.images = images
        self._precision = precision

    def logits(self, batch: Tensor) -> Tensor:
        """(B, classes) of images (B, C, H, W)."""
        with self._autocast():
            logits: Tensor = self.network(batch)
        return logits

    def terms(self, batch: Tensor, index: Tensor, reduction: Literal["mean", "none"] = "mean") -> AmbiguityTerms:
        """Cross-entropy and what it is made of, of images whose labels are those of `index`."""
        return ambiguity_cross_entropy(
            self.logits(batch), self.images.labels, index=index, strength=0.0, reduction=reduction, terms=True
        )

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.images.device.type, torch.bfloat16, enabled=self._precision == "bf16")


@dataclass
class _Recorded:
    """A recorded step: the places it reads, what it returns, and how to take it."""

    index: Tensor
    weight: Tensor | None
    epoch: Tensor
    told: Tensor
    replay: Callable[[], Any]
    n_epoch: int | None = None
    """What `epoch` holds, since it was set first."""


@contextlib.contextmanager
def _kept(network: nn.Module, optimiser: torch.optim.Optimizer) -> Iterator[None]:
    """Put weights, buffers and the optimiser's state back afterwards, in place. State that did not exist before becomes 0."""
    tensors = {name: value.clone() for name, value in network.state_dict().items()}
    states = {
        parameter: {name: value.clone() for name, value in state.items()}
        for parameter, state in optimiser.state.items()
    }
    yield
    network.load_state_dict(tensors)
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if parameter in states:
                value.copy_(states[parameter][name])
            else:
                value.zero_()


class Step:
    """Trains a network on one batch, where there is a recorder by a recording.

    Whole batches are recorded, and what is left at the end of an epoch once that is as many images as in the epoch before. A
    recording works on the tensors of network and optimiser as they are at `prepare`: make another Step after they were
    replaced. Recorded or not, a step does the same to the last bit, if the kernels are deterministic.
    """

    def __init__(
        self,
        passes: Passes,
        optimiser: torch.optim.Optimizer,
        batch_size: int,
        augmentation: Augmentation | Literal["none"],
        seed: int,
        recorder: Recorder | None,
    ) -> None:
        """Take what to train.

        Args:
            passes: of the network.
            optimiser: of its parameters; `capturable` if it is to be captured.
            batch_size: of whole batches.
            augmentation: of the images.
            seed: of the augmentation.
            recorder: records steps on whole batches.
        """
        self._passes = passes
        self._optimiser = optimiser
        self._batch_size = batch_size
        self._augmentation = augmentation
        self._seed = seed
        self._recorder = recorder
        self._recorded: dict[tuple[int, bool], _Recorded] = {}
        self._left_before = 0

    def prepare(self, n_images: int, weighted: bool) -> None:
        """Record what an epoch will repeat, if that is not done yet; nothing that training depends on changes.

        What it will not repeat is forgotten: a recording keeps the memory of a whole step.

        Args:
            n_images: of the epoch.
            weighted: whether its steps get weights.
        """
        left, left_before = n_images % self._batch_size, self._left_before
        self._left_before = left
        sizes = batch_sizes(n_images, self._batch_size)
        self._recorded = {key: self._recorded[key] for size in sizes if (key := (size, weighted)) in self._recorded}
        for size in sizes:
            known = size == self._batch_size or left == left_before
            if self._recorder is not None and known and (size, weighted) not in self._recorded:
                self._recorded[size, weighted] = self._record(self._recorder, size, weighted)

    def _record(self, recorder: Recorder, size: int, weighted: bool) -> _Recorded:
        device = self._passes.images.device
        index = torch.zeros(size, dtype=torch.int64, device=device)
        weight = torch.ones(size, device=device) if weighted else None
        epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._passes.network.train()
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices), _kept(self._passes.network, self._optimiser):
            told, replay = recorder(lambda: self._take(index, weight, epoch))
        return _Recorded(index, weight, epoch, told, replay)

    def __call__(self, index: Tensor, weight: Tensor | None, epoch: int) -> Tensor:
        """Take a step.

        Args:
            index: (B,) int64, of the images.
            weight: (B,) float32, of their losses in the mean.
            epoch: of the augmentation.

        Returns:
            (3, B), float32, of the images as the network was before the step: their losses, margins, and 1 where classified
            correctly. The next step may overwrite it.
        """
        recorded = self._recorded.get((len(index), weight is not None))
        if recorded is None:
            return self._take(index, weight, epoch)
        recorded.index.copy_(index)
        if recorded.n_epoch != epoch:  # a launch less in most steps
            recorded.epoch.fill_(epoch)
            recorded.n_epoch = epoch
        if weight is not None and recorded.weight is not None:
            recorded.weight.copy_(weight)
        recorded.replay()
        return recorded.told

    def _take(self, index: Tensor, weight: Tensor | None, epoch: int | Tensor) -> Tensor:
        terms = self._passes.terms(self._batch(index, epoch), index, "mean" if weight is None else "none")
        with running_beside(index.device, partial(_told, terms)) as told:
            # To None: a captured backward pass then writes its gradients instead of adding to them.
            self._optimiser.zero_grad(set_to_none=True)
            (terms.loss if weight is None else (terms.loss * weight).mean()).backward()
            self._optimiser.step()
        return told

    def _batch(self, index: Tensor, epoch: int | Tensor) -> Tensor:
        if self._augmentation == "none":
            return self._passes.images.batch(index)
        return self._passes.images.augmented_batch(index, self._augmentation, self._seed, epoch)


def _told(terms: AmbiguityTerms) -> Tensor:
    return torch.stack([terms.losses.detach(), terms.margins.detach(), terms.correct.float()])


class Evaluation:
    """Evaluates a network on batches, where there is a recorder by recordings of batches of the sizes that are prepared."""

    def __init__(self, passes: Passes, batch_size: int, recorder: Recorder | None) -> None:
        """Take what to evaluate, in which batches, and what records."""
        self._passes = passes
        self._batch_size = batch_size
        self._recorder = recorder
        self._recorded: dict[int, tuple[Tensor, Tensor, Callable[[], Any]]] = {}

    @torch.no_grad()
    def prepare(self, n_images: int) -> None:
        """Record what the evaluation of so many images will repeat, if that is not done yet."""
        self._passes.network.eval()
        for size in batch_sizes(n_images, self._batch_size):
            if self._recorder is not None and size not in self._recorded:
                index = torch.zeros(size, dtype=torch.int64, device=self._passes.images.device)
                self._recorded[size] = index, *self._recorder(partial(self._take, index))

    @torch.no_grad()
    def __call__(self, index: Tensor) -> Tensor:
        """Evaluate the images of `index` (n,), int64: (2,), float64, sum of losses and number of images classified correctly."""
        self._passes.network.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self._passes.images.device)
        for batch in index.split(self._batch_size):
            if len(batch) not in self._recorded:
                total += self._take(batch)
                continue
            place, taken, replay = self._recorded[len(batch)]
            place.copy_(batch)
            replay()
            total += taken
        return total

    def _take(self, index: Tensor) -> Tensor:
        terms = self._passes.terms(self._passes.images.batch(index), index)
        return torch.stack([terms.losses.double().sum(), terms.correct.sum().double()])
