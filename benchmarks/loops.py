"""Epochs of training, one loop after another's fashion: ours, the textbook's, an airbench-style one, and parts of ours.

Each is a function that takes what they have in common and returns what trains an epoch. All train cnn_a on batches of 512 random
images, cropped and mirrored, with Adam.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import timed
from benchmarks.rivals import PADDING, CachedBatch, draw
from pydyn.data.batches import ResidentImages
from pydyn.device import resolve_precision
from pydyn.models import cnn
from pydyn.selection.dynamic import Dynamic
from pydyn.studies.run import Run
from pydyn.training.loop import Training
from pydyn.training.protocol import Parts
from pydyn.training.step import capture

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 512
EVALUATED = 64
"""Images of an evaluation, which the rivals do not have; it is not counted."""
SHARING = 4
"""Runs on one card."""

Epoch = Callable[[], float]
"""Trains an epoch; returns the seconds that count."""


@dataclass(frozen=True)
class Setting:
    """What all loops have in common."""

    n_images: int
    threads: int | None

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def precision(self) -> str:
        return resolve_precision("auto", self.device)

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def images(self, n_images: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (n_images, 32, 32, 3), dtype=torch.uint8, generator=generator)
        labels = torch.randint(0, 10, (n_images,), generator=generator)
        return images.to(self.device), labels.to(self.device)


def our_training(setting: Setting) -> Training:
    """A Run that trains on half of twice as many images, resampling after every epoch."""
    images, labels = setting.images(2 * setting.n_images)
    run = Run(
        study="dynamic",
        dataset="benchmark",
        protocol="paper",
        model="cnn_a",
        batch_norm=False,
        strategy=Dynamic(alpha=0.5, beta=0.7, delta=1.0),
        epochs=1000,
        batch_size=BATCH,
        learning_rate=1e-3,
        precision="auto",
        augmentation="crop-flip",
        seed=0,
    )
    parts = Parts(np.arange(len(images)), np.arange(EVALUATED), np.empty(0, np.int64))
    return Training(run, ResidentImages(images, labels, MEAN, STD), parts, 10, setting.precision)


def ours(setting: Setting) -> Epoch:
    """The loop of this project: training and selection."""
    training = our_training(setting)

    def epoch() -> float:
        row = training.run_epoch()
        return row.seconds_train + row.seconds_select

    return epoch


def choosing(setting: Setting) -> Epoch:
    """Of ours, what selection and gather take: the one as an epoch says, the other by itself, with the subset put on the device.

    Random numbers that are drawn while a GPU trains are not counted: nothing waits for them.
    """
    training = our_training(setting)
    device = training.images.device
    generator = np.random.default_rng(0)
    place = torch.zeros(setting.n_images, dtype=torch.int64, device=device)

    def gather() -> None:
        for batch in place.split(BATCH):
            training.images.augmented_batch(batch, "crop-flip", 0, 1)

    # As in training, where a gather is a part of what is replayed and waits for no launch of its own.
    run = capture(gather)[1] if device.type == "cuda" else gather

    def bring_and_gather() -> None:
        place.copy_(training.images.indices(training.parts.pool[subset]))
        run()

    subset = training.strategy.subset()

    def epoch() -> float:
        nonlocal subset
        row = training.run_epoch()
        subset = generator.permutation(training.strategy.subset())  # a Run gathers in random order
        return row.seconds_select + timed(bring_and_gather, device, 1)

    return epoch


def on_streams(setting: Setting) -> Epoch:
    """An epoch of several Runs at once, each in a thread and on a stream of its own: the seconds of one."""
    trainings = [(our_training(setting), torch.cuda.Stream()) for _ in range(SHARING)]

    def run(training: Training, stream: torch.cuda.Stream) -> None:
        with torch.cuda.stream(stream):
            training.run_epoch()

    for pair in 2 * trainings:  # what is left at the end of an epoch is captured in the second one
        run(*pair)  # captures must not meet each other

    def run_all() -> None:
        with ThreadPoolExecutor(SHARING) as pool:
            list(pool.map(run, *zip(*trainings, strict=True)))

    return lambda: timed(run_all, setting.device, 1) / SHARING


def by_the_book(
    setting: Setting, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], precision: str, fast: bool
) -> Epoch:
    """Train on batches: with `fast`, channels-last and a fused optimiser."""
    device = setting.device
    network: torch.nn.Module = cnn.build("cnn_a", 3, 10, torch.Generator().manual_seed(0)).to(device)
    if fast:
        network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, fused=fast or None)
    # Not `network.compile`, which in torch 2.11 compiles no Sequential, and says nothing.
    forward = torch.compile(network, mode="max-autotune") if fast and device.type == "cuda" else network
    loss_of = torch.nn.CrossEntropyLoss()

    def train() -> None:
        for images, labels in batches():
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = forward(images)
            loss_of(logits.float(), labels).backward()
            optimiser.step()

    return lambda: timed(train, device, 1)


def textbook(setting: Setting, workers: int | None = None, tf32: bool = True) -> Epoch:
    """DataLoader, torchvision, float32; on CUDA with convolutions in TF32, as torch has them unasked, or without."""
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision.transforms import v2

    torch.backends.cudnn.allow_tf32 = tf32
    transform = v2.Compose(
        [
            v2.RandomCrop(32, PADDING),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )

    class Transformed(TensorDataset):
        def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
            return transform(self.tensors[0][position]), self.tensors[1][position]

    images, labels = setting.images(setting.n_images)
    dataset = Transformed(images.cpu().permute(0, 3, 1, 2), labels.cpu())
    loader = DataLoader(
        dataset,
        BATCH,
        shuffle=True,
        num_workers=workers or max(1, torch.get_num_threads()),
        persistent_workers=True,
        multiprocessing_context="fork",  # as by default, on Linux, in a process that was not spawned itself
    )

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in loader:
            yield inputs.to(setting.device), targets.to(setting.device)

    return by_the_book(setting, batches, "fp32", fast=False)


def airbench(setting: Setting) -> Epoch:
    """Cached images, crops by masks."""
    device = setting.device
    images, labels = setting.images(setting.n_images)
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    cached = CachedBatch(images, mean, std, setting.dtype)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(images), device=device)
        for part in order.split(len(order) if device.type == "cuda" else BATCH):
            inputs = cached(part, *draw(len(part), device))
            yield from zip(inputs.split(BATCH), labels[part].split(BATCH), strict=True)

    return by_the_book(setting, batches, setting.precision, fast=True)


def limit(setting: Setting) -> Epoch:
    """An epoch's floating-point operations at the speed of a large product of matrices in the same precision."""
    # On the CPU and as torch has it: layers that are fused for a GPU would not be counted.
    network = cnn.build("cnn_a", 3, 10, torch.Generator().manual_seed(0))
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, 32, 32)).sum().backward()
    n_flops = counter.get_total_flops() * setting.n_images
    side = 8192 if setting.device.type == "cuda" else 2048  # a GPU is not done with starting before smaller ones end
    square = torch.ones(side, side, dtype=setting.dtype, device=setting.device)
    return lambda: timed(lambda: square @ square, setting.device, 10) * n_flops / (2 * side**3)
