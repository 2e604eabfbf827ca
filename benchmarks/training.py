"""Epochs of the training loop against a textbook loop and an airbench-style one, on the same network.

    python -m benchmarks.training [--quick] [--images N] [--rounds N] [--threads N] [--json FILE]

cnn_a, batch 512, Adam, random crops of 4 pixels with padding and mirroring, N images of CIFAR's size (random bytes: what they
show does not change how long they take). Each loop lives in a process of its own, as a user would run it; they train an epoch
each in turn, after one that is not counted; medians.

- DataLoader: the textbook. A worker for each of torch's threads (where those are more than four, also with four workers),
  torchvision's transforms image by image, float32, eager.
- airbench: all images normalised and padded once, outside the timer; crops by masks, channels-last; precision and optimiser as
  ours. On CUDA as airbench has it: an epoch's images are cropped at once, since masks wait for the device, the network is
  compiled, and cuDNN tries its algorithms out; ours runs with deterministic ones, as every Run does.

On CUDA also: Runs that share the card, as threads with a stream each and as processes, against one after the other.

On a CPU both stand there twice: as written, and with the C library told to keep freed memory, as our training jobs tell it
(`pydyn.device.keep_memory`).
"""

import argparse
import contextlib
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Row, device_name, timed, write_json
from benchmarks.rivals import PADDING, CachedBatch, draw
from pydyn.data.batches import ResidentImages
from pydyn.device import keep_memory, open_device, resolve_precision
from pydyn.models import cnn
from pydyn.selection.dynamic import Dynamic
from pydyn.selection.strategy import Outcome
from pydyn.studies.run import Run
from pydyn.training.loop import Training
from pydyn.training.protocol import Parts
from pydyn.training.step import capture

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 512
EVALUATED = 64
"""Images of an evaluation, which the rivals do not have; it is not counted."""
KEEPING = ", keeping memory"
FEW_WORKERS = "DataLoader, 4 workers"
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
    """Of ours, what selection and gather take: the same strategy and batches, with nothing trained."""
    training = our_training(setting)
    device = training.images.device

    def gather(batch: Tensor) -> Tensor:
        return training.images.augmented_batch(batch, "crop-flip", 0, 1)

    if device.type == "cuda":  # as in training, where a gather is a part of what is replayed
        place = torch.zeros(BATCH, dtype=torch.int64, device=device)
        _, replay = capture(lambda: gather(place))

    def epoch() -> float:
        start = time.perf_counter()
        subset = training.strategy.subset()
        index = training.images.indices(training.parts.pool[subset])
        for batch in index.split(BATCH):
            if device.type == "cuda" and len(batch) == BATCH:
                place.copy_(batch)
                replay()
            else:
                gather(batch)
        training.strategy.update(Outcome(0.5))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - start

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


def textbook(setting: Setting, workers: int | None = None) -> Epoch:
    """DataLoader, torchvision, float32."""
    from torch.utils.data import DataLoader, TensorDataset
    from torchvision.transforms import v2

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
    training = our_training(Setting(1, setting.threads))
    with FlopCounterMode(display=False) as counter:
        training._train(np.arange(1))
    n_flops = counter.get_total_flops() * setting.n_images
    square = torch.ones(2048, 2048, dtype=setting.dtype, device=setting.device)
    return lambda: timed(lambda: square @ square, setting.device, 10) * n_flops / (2 * 2048**3)


LOOPS: dict[str, Callable[[Setting], Epoch]] = {
    "ours": ours,
    "DataLoader": textbook,
    FEW_WORKERS: partial(textbook, workers=4),
    "airbench": airbench,
    "selection + gather": choosing,
    "FLOP limit": limit,
    "ours on streams": on_streams,
}


def serve(connection: Connection, name: str, setting: Setting) -> None:
    """Of a loop's process: an epoch for each request, until there is none."""
    threads = setting.threads or torch.get_num_threads()
    if name in ("ours", "ours on streams", "selection + gather"):
        open_device("auto", threads)
    else:
        torch.set_num_threads(threads)
        torch.backends.cudnn.benchmark = True
    if name.endswith(KEEPING):
        keep_memory()
    epoch = LOOPS[name.removesuffix(KEEPING)](setting)
    connection.send(None)
    while connection.recv():
        connection.send(epoch())


class Contender:
    """A loop in its process."""

    def __init__(self, name: str, setting: Setting) -> None:
        context: Any = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        # Not a daemon: a DataLoader has children of its own.
        self._process = context.Process(target=serve, args=(theirs, name, setting))
        self._process.start()
        theirs.close()

    def wait(self) -> None:
        """Until it is ready for its first epoch."""
        self._connection.recv()

    def epoch(self) -> float:
        self._connection.send(True)
        seconds: float = self._connection.recv()
        return seconds

    def end(self) -> None:
        with contextlib.suppress(OSError):  # it may have died
            self._connection.send(False)
        self._process.join(10)
        self._process.kill()


class Sharing:
    """Several of our loops, each in its process, on one card."""

    def __init__(self, setting: Setting) -> None:
        self._contenders = [Contender("ours", setting) for _ in range(SHARING)]

    def wait(self) -> None:
        for contender in self._contenders:
            contender.wait()

    def epoch(self) -> float:
        """All of them train an epoch at once: the seconds of one."""
        start = time.perf_counter()
        with ThreadPoolExecutor(SHARING) as pool:
            list(pool.map(Contender.epoch, self._contenders))
        return (time.perf_counter() - start) / SHARING

    def end(self) -> None:
        for contender in self._contenders:
            contender.end()


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,024 images, two rounds: within a minute")
    parser.add_argument("--images", type=int, default=4096, help="trained in an epoch (default: 4096)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each that count (default: 5)")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    arguments = parser.parse_args()
    if min(arguments.images, arguments.rounds, arguments.threads or 1) < 1:
        parser.error("--images, --rounds and --threads are at least 1")
    n, rounds = (1024, 2) if arguments.quick else (arguments.images, arguments.rounds)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    setting = Setting(n, arguments.threads)
    rivals = ["DataLoader", "airbench"]
    if torch.get_num_threads() > 4:  # as most people leave it
        rivals.insert(1, FEW_WORKERS)
    if setting.device.type == "cpu":
        rivals += [rival + KEEPING for rival in rivals]
    names = ["ours", *rivals, "selection + gather", "FLOP limit"]
    contenders: dict[str, Contender | Sharing] = {name: Contender(name, setting) for name in names}
    sharing = ["ours on streams", "ours in processes"] if setting.device.type == "cuda" else []
    if sharing:
        contenders |= {sharing[0]: Contender(sharing[0], setting), sharing[1]: Sharing(setting)}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    try:
        for contender in contenders.values():
            contender.wait()
        for turn in range(rounds + 1):
            for name, contender in contenders.items():
                seconds = contender.epoch()
                warm_up = " (warm-up)" if turn == 0 else ""
                print(f"{name}: {n / seconds:,.0f} images/s{warm_up}", file=sys.stderr, flush=True)
                taken[name] += [seconds] if turn else []
    finally:
        for contender in contenders.values():
            contender.end()
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    name, ours_seconds = device_name(setting.device), median["ours"]
    fraction = median["FLOP limit"] / ours_seconds
    print(f"{name}; ours in {setting.precision}, {n:,} images an epoch, medians of {rounds}")
    for loop in ("ours", *rivals):
        ratio = median[loop] / ours_seconds
        print(f"{loop:28} {n / median[loop]:10,.0f} images/s   ours is {ratio:.2f} times as fast")
    print(f"{'FLOP limit':28} {n / median['FLOP limit']:10,.0f} images/s   ours reaches {fraction:.0%} of it")
    print(f"selection and gather take {median['selection + gather'] / ours_seconds:.2%} of ours")
    for way in sharing:
        ratio = ours_seconds / median[way]
        print(
            f"{SHARING} Runs, {way:19} {n / median[way]:10,.0f} images/s   {ratio:.2f} times as fast as one after the other"
        )
    if arguments.json:
        rows = [
            Row(f"training epoch of {n}", rival, name, ours_seconds, median[rival], ratio, fraction, None, rounds)
            for rival in rivals
            for ratio in [median[rival] / ours_seconds]
        ]
        rows += [
            Row(f"training epoch of {n}, {SHARING} Runs", f"one by one, not {way}", name, *pair, None, None, rounds)
            for way in sharing
            for pair in [(median[way], ours_seconds, ours_seconds / median[way])]
        ]
        share = median["selection + gather"]
        rows.append(
            Row(
                f"selection + gather of {n}",
                "epoch",
                name,
                share,
                ours_seconds,
                ours_seconds / share,
                None,
                None,
                rounds,
            )
        )
        write_json(rows, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
