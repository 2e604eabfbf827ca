"""Epochs of the training loop against a textbook loop and an airbench-style one, on the same network.

    python -m benchmarks.training [--images N] [--rounds N] [--threads N] [--json FILE]

cnn_a, batch 512, Adam, random crops of 4 pixels with padding and mirroring, N images of CIFAR's size (random bytes: what they
show does not change how long they take). An epoch of each in turn, after one that is not counted; medians.

- textbook: DataLoader with a worker for each core, torchvision's transforms image by image, float32, eager.
- airbench: all images normalised and padded once, outside the timer; crops by masks, channels-last; precision and optimiser as
  ours.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import Row, device_name, timed, write_json
from benchmarks.rivals import PADDING, CachedBatch, draw
from pydyn.data.batches import ResidentImages
from pydyn.models import cnn
from pydyn.selection.dynamic import Dynamic
from pydyn.studies.run import Run
from pydyn.training.device import keep_memory, resolve_precision
from pydyn.training.loop import Parts, Training

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 512
EVALUATED = 64
"""Images of an evaluation, which the rivals do not have."""


def our_training(images: Tensor, labels: Tensor, precision: str) -> Training:
    """A Run that trains on half of twice as many images, resampling after every epoch."""
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
    nowhere = np.empty(0, np.int64)
    parts = Parts(np.arange(len(images)), np.arange(EVALUATED), nowhere)
    return Training(run, ResidentImages(images, labels, MEAN, STD), parts, 10, precision)


def plain_epoch(
    device: torch.device, batches: Callable[[], Iterable[tuple[Tensor, Tensor]]], precision: str, fast: bool
) -> Callable[[], None]:
    """Train on batches by the book: with `fast`, channels-last and a fused optimiser."""
    network = cnn.build("cnn_a", 3, 10, torch.Generator().manual_seed(0)).to(device)
    if fast:
        network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), 1e-3, fused=fast or None)
    loss_of = torch.nn.CrossEntropyLoss()

    def epoch() -> None:
        for images, labels in batches():
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = network(images)
            loss_of(logits.float(), labels).backward()
            optimiser.step()

    return epoch


def textbook(images: Tensor, labels: Tensor, device: torch.device) -> Callable[[], None]:
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

    workers = max(1, torch.get_num_threads())
    dataset = Transformed(images.cpu().permute(0, 3, 1, 2), labels.cpu())
    loader = DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=True)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in loader:
            yield inputs.to(device), targets.to(device)

    return plain_epoch(device, batches, "fp32", fast=False)


def airbench(images: Tensor, labels: Tensor, precision: str) -> Callable[[], None]:
    """Cached images, crops by masks."""
    device = images.device
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    cached = CachedBatch(images, mean, std, torch.bfloat16 if precision == "bf16" else torch.float32)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for index in torch.randperm(len(images), device=device).split(BATCH):
            yield cached(index, *draw(len(index), device)), labels[index]

    return plain_epoch(device, batches, precision, fast=True)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=4096, help="trained in an epoch (default: 4096)")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each that count (default: 3)")
    parser.add_argument("--threads", type=int, help="of the CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    arguments = parser.parse_args()
    if min(arguments.images, arguments.rounds, arguments.threads or 1) < 1:
        parser.error("--images, --rounds and --threads are at least 1")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve_precision("auto", device)
    n = arguments.images
    images = torch.randint(0, 256, (2 * n, 32, 32, 3), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (2 * n,), device=device)
    training = our_training(images, labels, precision)
    history = []
    actions: dict[str, Callable[[], object]] = {
        "ours": lambda: history.append(training.run_epoch()),
        "textbook": textbook(images[:n], labels[:n], device),
        "airbench": airbench(images[:n], labels[:n], precision),
    }
    taken: dict[str, list[float]] = {name: [] for name in actions}
    for turn in range(arguments.rounds + 1):
        for name, action in actions.items():
            seconds = timed(action, device, 1)
            print(
                f"{name}: {n / seconds:,.0f} images/s{' (warm-up)' if turn == 0 else ''}", file=sys.stderr, flush=True
            )
            taken[name] += [seconds] if turn else []
    median = {name: statistics.median(seconds) for name, seconds in taken.items()}
    selecting = statistics.median(row.seconds_select / (row.seconds_select + row.seconds_train) for row in history[1:])
    print(f"{device_name(device)}; ours in {precision}, {n:,} images an epoch")
    for name, seconds in median.items():
        print(f"{name:10} {n / seconds:10,.0f} images/s   ours is {seconds / median['ours']:.2f} times as fast")
    print(f"selection takes {selecting:.2%} of ours")
    if arguments.json:
        name = device_name(device)
        write_json(
            [
                Row(
                    f"epoch of {n}",
                    rival,
                    name,
                    median["ours"],
                    median[rival],
                    median[rival] / median["ours"],
                    None,
                    None,
                    arguments.rounds,
                )
                for rival in ("textbook", "airbench")
            ],
            arguments.json,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
