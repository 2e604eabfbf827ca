"""Populations of tiny networks against one network after the other in torch.

    python -m benchmarks.population [--quick] [--json FILE] [--threads N] [--cases TEXT] [--rounds N]

- population K F1-F2: K networks trained on a few batches of 32 images of 28 x 28 pixels by Adam, each on images of its own. The
  rival trains as many modules by the same updates, eagerly, one after the other: images normalised outside the timer, a fused
  optimiser, channels-last or not and one thread or all, whichever it is fastest with.
- ablate F1-F2: accuracy without each filter of a network, on 1,024 images. The rival has the smaller networks at hand and runs
  each over all images in turn, likewise.

Ours, the rival and a product of matrices take turns in one process; medians. "of limit": the time that the rival's floating-point
operations take at the speed of that product on all threads, over ours. It may pass 100 %, since ours takes fewer: fewer products
for a convolution, none for gradients of pixels that lose in pooling, the first layer once for all networks that lack a filter.
"""

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Action, Row, device_name, table, timed, write_json
from pydyn.device import keep_memory
from pydyn.models.initialisers import initial_parameters
from pydyn.models.tiny import TinyCNN, TinyNetwork
from pydyn.ops import OPTIMISERS, GreyImages, ablate_filters, population_epoch
from pydyn.sensitivity.pruning import Filter, remove_filters

CPU = torch.device("cpu")
BATCH, STEPS = 32, 4
LEARNING_RATE = 1e-3
N_IMAGES, N_ABLATED = 2048, 1024
TURN_SECONDS = 0.05
SQUARE = 1024
"""Side of the matrices whose product sets the limit."""


def figures(n_images: int) -> GreyImages:
    """Bright squares of different sizes on black, as regular as the study's figures."""
    half = 4 + np.arange(n_images) % 9
    place = np.abs(np.arange(28) - 13.5)
    inside = (place[:, None] < half[:, None, None]) & (place < half[:, None, None])
    pixels = torch.from_numpy((255 * inside).astype(np.uint8))
    return GreyImages(pixels, torch.arange(n_images) % 3)


def drawn(architecture: TinyCNN, n_networks: int) -> Tensor:
    """Initial parameters (K, P)."""
    draws = [initial_parameters(architecture, "glorot_uniform", np.random.default_rng(k)) for k in range(n_networks)]
    return torch.stack(draws)


class Together:
    """Trains all networks by one call."""

    def __init__(self, architecture: TinyCNN, n_networks: int, threads: int) -> None:
        self.architecture, self.threads = architecture, threads
        self.images = figures(N_IMAGES)
        self.order = orders(n_networks)
        self.parameters = drawn(architecture, n_networks)
        self.moments = torch.zeros(n_networks, 2, architecture.n_parameters)
        self.rates = torch.full((n_networks,), LEARNING_RATE)
        self.optimisers = torch.full((n_networks,), OPTIMISERS.index("adam"))
        self.step = 0

    def __call__(self) -> None:
        torch.set_num_threads(self.threads)
        state = self.order, self.parameters, self.moments, self.rates, self.optimisers
        population_epoch(self.architecture, self.images, *state, step=self.step, batch_size=BATCH)
        self.step += STEPS


class OneByOne:
    """Trains one module after the other by the same updates."""

    def __init__(self, architecture: TinyCNN, n_networks: int, threads: int, channels_last: bool) -> None:
        self.threads = threads
        layout = torch.channels_last if channels_last else torch.contiguous_format
        images = figures(N_IMAGES)
        self.labels = images.labels
        self.images = images.normalised().contiguous(memory_format=layout)
        self.order = orders(n_networks)
        self.networks = [
            architecture.module(parameters).to(memory_format=layout)  # type: ignore[call-overload]
            for parameters in drawn(architecture, n_networks)
        ]
        self.optimisers = [
            torch.optim.Adam(network.parameters(), LEARNING_RATE, eps=1e-7, fused=True) for network in self.networks
        ]

    def __call__(self) -> None:
        torch.set_num_threads(self.threads)
        for network, optimiser, order in zip(self.networks, self.optimisers, self.order, strict=True):
            for index in order.split(BATCH):
                optimiser.zero_grad()
                cross_entropy(network(self.images[index]), self.labels[index]).backward()
                optimiser.step()


def orders(n_networks: int) -> Tensor:
    """The images of each network's steps, (K, M)."""
    generator = np.random.default_rng(0)
    return torch.from_numpy(np.stack([generator.permutation(N_IMAGES)[: STEPS * BATCH] for _ in range(n_networks)]))


def one_forward_each(architecture: TinyCNN, threads: int, channels_last: bool) -> Callable[[], list[int]]:
    """Correct images of each network that lacks one filter, a forward pass for each."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = figures(N_ABLATED)
    inputs = images.normalised().contiguous(memory_format=layout)
    network = TinyNetwork(architecture, drawn(architecture, 1)[0])
    smaller: list[nn.Module] = [
        remove_filters(network, [Filter(layer, number)]).module().to(memory_format=layout)  # type: ignore[call-overload]
        for layer, count in enumerate(architecture.filters)
        for number in range(count)
    ]

    def run() -> list[int]:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            # Some at a time stay in the caches, which is faster than all at once.
            predictions = [torch.cat([one(part).argmax(1) for part in inputs.split(256)]) for one in smaller]
            return [int((predicted == images.labels).sum()) for predicted in predictions]

    return run


def one_pass(architecture: TinyCNN, threads: int) -> Callable[[], list[int]]:
    """The same by one call."""
    images, parameters = figures(N_ABLATED), drawn(architecture, 1)[0]

    def run() -> list[int]:
        torch.set_num_threads(threads)
        return ablate_filters(architecture, images, parameters).tolist()[1:]

    return run


def fastest(make: Callable[[int, bool], Action], threads: int) -> tuple[int, bool]:
    """The rival's best form: how many threads, and whether channels-last."""
    forms = list(itertools.product(sorted({1, threads}), (False, True)))
    seconds = medians([make(*form) for form in forms], rounds=2)
    return forms[seconds.index(min(seconds))]


def medians(actions: list[Action], rounds: int) -> list[float]:
    """Median seconds of a call, measured in turns of a twentieth of a second or one call, after one that does not count."""
    calls = []
    for action in actions:
        timed(action, CPU, 1)
        calls.append(max(1, round(TURN_SECONDS / timed(action, CPU, 1))))
    seconds: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken, count in zip(actions, seconds, calls, strict=True):
            taken.append(timed(action, CPU, count))
    return [statistics.median(taken) for taken in seconds]


def row(case: str, ours: Action, rival: Action, n_flops: int, threads: int, rounds: int) -> Row:
    """Time a pair, with a product of matrices beside it."""
    square = torch.ones(SQUARE, SQUARE)

    def product() -> None:
        torch.set_num_threads(threads)
        square @ square

    ours_seconds, rival_seconds, seconds = medians([ours, rival, product], rounds)
    torch.set_num_threads(threads)
    limit = seconds * n_flops / (2 * SQUARE**3)
    ratio, fraction = rival_seconds / ours_seconds, limit / ours_seconds
    name = device_name(CPU)
    return Row(case, "sequential", name, ours_seconds, rival_seconds, ratio, fraction, None, rounds)


def population_row(case: str, n_networks: int, filters: tuple[int, int], threads: int, rounds: int) -> Row:
    architecture = TinyCNN(filters)
    one = OneByOne(architecture, 1, 1, False)
    with FlopCounterMode(display=False) as counter:
        one()
    form = fastest(lambda n, last: OneByOne(architecture, 4, n, last), threads)
    ours, rival = Together(architecture, n_networks, threads), OneByOne(architecture, n_networks, *form)
    return row(case, ours, rival, n_networks * counter.get_total_flops(), threads, rounds)


def ablation_row(case: str, filters: tuple[int, int], threads: int, rounds: int) -> Row:
    architecture = TinyCNN(filters)
    with FlopCounterMode(display=False) as counter:
        one_forward_each(architecture, 1, False)()
    rival = one_forward_each(architecture, *fastest(lambda n, last: one_forward_each(architecture, n, last), threads))
    return row(case, one_pass(architecture, threads), rival, counter.get_total_flops(), threads, rounds)


def cases() -> dict[str, tuple[bool, Callable[[str, int, int], Row]]]:
    """For each case whether it is quick, and what makes its row."""
    found: dict[str, tuple[bool, Callable[[str, int, int], Row]]] = {}
    for filters in ((2, 2), (4, 4), (16, 16), (64, 64)):
        name = "-".join(map(str, filters))
        # The largest ones are the slowest to wait for.
        n_networks = 64 if filters[0] < 64 else 8
        found[f"population {n_networks} {name}"] = (
            filters == (4, 4),
            lambda case, threads, rounds, k=n_networks, f=filters: population_row(case, k, f, threads, rounds),
        )
    for filters in ((2, 2), (4, 4), (16, 16)):
        found[f"ablate {'-'.join(map(str, filters))}"] = (
            filters == (16, 16),
            lambda case, threads, rounds, f=filters: ablation_row(case, f, threads, rounds),
        )
    return found


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.population", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="few cases, within a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases whose name holds this")
    parser.add_argument("--rounds", type=int, help="measurements of each (default: 11, quick 2)")
    arguments = parser.parse_args()
    if arguments.threads < 1:
        parser.error(f"--threads {arguments.threads} is not at least 1")
    keep_memory()
    rounds = arguments.rounds or (2 if arguments.quick else 11)
    chosen = {
        name: make
        for name, (quick, make) in cases().items()
        if arguments.cases in name and (quick or not arguments.quick)
    }
    if not chosen:
        parser.error(f"--cases {arguments.cases!r}: no case holds that")
    rows = []
    for name, make in chosen.items():
        print(f"{name} ...", file=sys.stderr, flush=True)
        rows.append(make(name, arguments.threads, rounds))
    print(rows[0].device)
    print(table(rows, "of limit"))
    if arguments.json:
        write_json(rows, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
