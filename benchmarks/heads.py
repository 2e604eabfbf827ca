"""Many heads at once against one after the other, and against scikit-learn's LogisticRegression.

    python -m benchmarks.heads [--quick] [--json FILE] [--cases TEXT] [--rounds N] [--threads N]

10,000 rows of 1,280 float16 features with 3 or 8 classes (relu of a mixture of 64 latent dimensions, with noise); 8,000 train,
2,000 validate after every epoch; batches of 256. Data are prepared, outside the timer, once for all. A round is an epoch of each
contender, in turn, with the set-up of its training; medians. Each runs on one thread and on all; the faster counts.

- heads 160: so many settings (learning rate, weight decay, strength, power, for redesigned heads dropout). "sequential" is the
  same trainer with one setting after the other; a round times a tenth of them, another one in each, and counts it ten times.
- heads 160 fit: "sklearn" is LogisticRegression for as many values of C (float32, standardised, lbfgs with tol 1e-4 and at most
  1,000 iterations, joblib with a process for each core, a tenth of the fits in each round as above); ours is 160 linear heads
  that end by patience (5, at most 50 epochs). The best balanced accuracy of both on the validation rows is printed.
- search K: K settings on 3 classes. The seconds are those of *one head for an epoch of 1,000 training rows* (and 250 validation
  rows): `project` has the cost of a search of any size from it.

limit_fraction is the time that the floating-point operations of all matrix products take at the speed of a large matrix product
(2,048 squared) in the same precision on all threads, over ours.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import Row, device_name, timed, write_json
from pydyn.device import keep_memory, resolve_precision
from pydyn.models.head_setting import HeadSetting, Kind
from pydyn.training.head_data import DTYPES, HeadData, Precision
from pydyn.training.heads import HeadTraining

N_ROWS, N_TRAIN, N_FEATURES, N_LATENT, N_HIDDEN = 10_000, 8_000, 1_280, 64, 128
BATCH = 256
TENTHS = 10
SQUARE = 2048
PATIENCE, MOST_EPOCHS = 5, 50


def make_features(n_classes: int) -> tuple[Tensor, Tensor]:
    """(N, D) float16, and (N,) labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, n_classes, (N_ROWS,), generator=generator)
    centres = 0.25 * torch.randn(n_classes, N_LATENT, generator=generator)
    latent = centres[labels] + torch.randn(N_ROWS, N_LATENT, generator=generator)
    mixing = torch.randn(N_LATENT, N_FEATURES, generator=generator) / N_LATENT**0.5
    return torch.relu(latent @ mixing + 0.5 * torch.randn(N_ROWS, N_FEATURES, generator=generator)).half(), labels


def make_data(n_classes: int, precision: Precision, device: torch.device) -> HeadData:
    features, labels = (tensor.to(device) for tensor in make_features(n_classes))
    rows = torch.arange(N_ROWS, device=device)
    return HeadData.prepare(features, labels, rows[:N_TRAIN], rows[N_TRAIN:], precision=precision)


def make_settings(kind: Kind, count: int) -> list[HeadSetting]:
    """The first of a grid, in an order that mixes everything."""
    rates, decays, strengths, dropouts = (
        np.geomspace(1e-4, 1e-2, 5).tolist(),
        (0.0, 1e-3, 1e-2, 1e-1),
        (0.0, 0.5, 1.0, 2.0),
        (0.0, 0.5) if kind == "redesigned" else (0.0,),
    )
    powers = (1.0,) if kind == "redesigned" else (1.0, 2.0)
    grid = [
        HeadSetting(
            kind,
            rate,
            weight_decay=decay,
            strength=strength,
            power=power,
            batch_size=BATCH,
            hidden=N_HIDDEN if kind == "redesigned" else None,
            dropout=dropout,
        )
        for rate, decay, strength, power, dropout in product(rates, decays, strengths, powers, dropouts)
    ]
    order = np.random.default_rng(0).permutation(len(grid))
    return [grid[index] for index in order[:count]]


def train(data: HeadData, settings: list[HeadSetting], epochs: int = 1, patience: int | None = None) -> HeadTraining:
    """From set-up to the last epoch."""
    training = HeadTraining(data, settings, epochs=epochs, patience=patience)
    while training.running:
        training.run_epoch()
    return training


def n_flops(data: HeadData, setting: HeadSetting) -> int:
    """Of the matrix products of one head's epoch."""
    with FlopCounterMode(display=False) as counter:
        train(data, [setting])
    return counter.get_total_flops()


class Stopwatch:
    """Seconds of contenders that take turns."""

    def __init__(self, device: torch.device, threads: int) -> None:
        self.device, self.threads = device, threads
        self._taken: dict[tuple[str, int], list[float]] = {}

    def time(self, name: str, action: Callable[[], object], times: float = 1.0, threads: int | None = None) -> None:
        """Do it on so many threads, else on all, and count it `times`."""
        threads = threads or self.threads
        torch.set_num_threads(threads)
        self._taken.setdefault((name, threads), []).append(timed(action, self.device, 1) * times)
        torch.set_num_threads(self.threads)

    def time_both(self, name: str, action: Callable[[], object], times: float = 1.0) -> None:
        """On one thread and on all."""
        for threads in sorted({1, self.threads}):
            self.time(name, action, times, threads)

    def median(self, name: str) -> float:
        """Of the faster number of threads."""
        return min(statistics.median(taken) for (other, _), taken in self._taken.items() if other == name)

    def time_square(self, precision: Precision) -> None:
        """A floating-point operation of a large matrix product."""
        square = torch.ones(SQUARE, SQUARE, dtype=DTYPES[precision], device=self.device)
        self.time("square", lambda: square @ square, 1 / (2 * SQUARE**3))


def population_row(
    case: str, kind: Kind, n_classes: int, count: int, precision: Precision, watch: Stopwatch, rounds: int
) -> Row:
    """The population against the same trainer with one head after the other."""
    data, settings = make_data(n_classes, precision, watch.device), make_settings(kind, count)

    def all_at_once() -> None:
        train(data, settings)

    def one_by_one(chosen: list[HeadSetting]) -> None:
        for setting in chosen:
            train(data, [setting])

    all_at_once()
    for turn in range(rounds):
        tenth = settings[turn % TENTHS :: TENTHS]
        watch.time_both("ours", all_at_once)
        watch.time_square(precision)
        watch.time_both("sequential", partial(one_by_one, tenth), count / len(tenth))
        watch.time_square(precision)
    ours, rival = watch.median("ours"), watch.median("sequential")
    limit = n_flops(data, settings[0]) * count * watch.median("square")
    return Row(case, "sequential", device_name(watch.device), ours, rival, rival / ours, limit / ours, None, rounds)


def search_row(case: str, kind: Kind, count: int, precision: Precision, watch: Stopwatch, rounds: int) -> Row:
    """`population_row`, for one head and 1,000 rows."""
    row = population_row(case, kind, 3, count, precision, watch, rounds)
    share = count * N_TRAIN / 1000
    return replace(row, ours_seconds=row.ours_seconds / share, rival_seconds=row.rival_seconds / share)


def project(row: Row, n_rows: int, n_heads: int, epochs: int) -> float:
    """Seconds that a search would take, by the cost of a `search` row, measured with about as many heads.

    Args:
        row: of a case `search`.
        n_rows: to train on; a quarter as many validate.
        n_heads: settings.
        epochs: of each, on average.
    """
    return row.ours_seconds * n_rows / 1000 * n_heads * epochs


def fit_row(case: str, n_classes: int, count: int, precision: Precision, watch: Stopwatch, rounds: int) -> Row:
    """Linear heads that end by patience against scikit-learn's LogisticRegression."""
    from joblib import Parallel

    data = make_data(n_classes, precision, watch.device)
    settings = [
        HeadSetting("linear", rate, weight_decay=decay, batch_size=BATCH)
        for rate in np.geomspace(1e-4, 1e-2, 8).tolist()
        for decay in np.geomspace(1e-4, 1, count // 8).tolist()
    ]
    arrays = _arrays(make_data(n_classes, "fp32", torch.device("cpu")))
    strengths = np.geomspace(1e-4, 1e2, count)
    scores: list[float] = []
    trained: list[HeadTraining] = []

    def ours() -> None:
        trained.append(train(data, settings, MOST_EPOCHS, PATIENCE))

    with Parallel(n_jobs=len(os.sched_getaffinity(0))) as parallel:

        def theirs(chosen: NDArray[np.float64]) -> None:
            scores.extend(parallel(_fits(arrays, chosen)))

        train(data, settings)
        parallel(_fits(arrays, strengths[:: count // 2], iterations=1))
        for turn in range(rounds):
            tenth = strengths[turn % TENTHS :: TENTHS]
            watch.time_both("ours", ours)
            watch.time_square(precision)
            watch.time("sklearn", partial(theirs, tenth), count / len(tenth))
            watch.time_square(precision)
    results = trained[0].results()
    epochs = sum(len(result.history) for result in results)
    best = max(result.best.balanced_accuracy for result in results)
    seconds, rival = watch.median("ours"), watch.median("sklearn")
    limit = n_flops(data, settings[0]) * epochs * watch.median("square")
    print(
        f"{case}: best balanced accuracy on the validation rows: ours {best:.4f} "
        f"({epochs / count:.0f} epochs a head), sklearn {max(scores):.4f} ({len(scores)} fits)"
    )
    return Row(
        case, "sklearn", device_name(watch.device), seconds, rival, rival / seconds, limit / seconds, None, rounds
    )


def _arrays(data: HeadData) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
    tensors = (data.features, data.labels, data.validation_features, data.validation_labels)
    features, labels, validation_features, validation_labels = (tensor.numpy() for tensor in tensors)
    return features, labels, validation_features, validation_labels


def _fits(arrays: tuple[NDArray, ...], strengths: NDArray[np.float64], iterations: int = 1000) -> list:
    from joblib import delayed

    return [delayed(_fit)(*arrays, strength, iterations) for strength in strengths]


def _fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    validation_features: NDArray[np.float32],
    validation_labels: NDArray[np.int64],
    strength: float,
    iterations: int,
) -> float:
    """A LogisticRegression's balanced accuracy."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the warm-up's
        model = LogisticRegression(C=strength, max_iter=iterations).fit(features, labels)
    return float(balanced_accuracy_score(validation_labels, model.predict(validation_features)))


Measure = Callable[[str, Stopwatch, int], Row]


def cases(device: torch.device) -> dict[str, tuple[bool, Measure]]:
    """For each case whether it is quick, and what makes its row."""
    fastest = resolve_precision("auto", device)
    found: dict[str, tuple[bool, Measure]] = {}
    for kind, n_classes, precision in product(("linear", "redesigned"), (3, 8), ("fp32", "bf16")):
        if precision == "bf16" and fastest == "fp32":
            continue
        found[f"heads 160 {kind} {n_classes} {precision}"] = (
            (kind, n_classes, precision) == ("linear", 3, fastest),
            lambda case, watch, rounds, kind=kind, n_classes=n_classes, precision=precision: population_row(
                case, kind, n_classes, 160, precision, watch, rounds
            ),
        )
    for n_classes in (3, 8):
        found[f"heads 160 fit {n_classes} {fastest}"] = (
            False,
            lambda case, watch, rounds, n_classes=n_classes: fit_row(case, n_classes, 160, fastest, watch, rounds),
        )
    for kind, count in product(("linear", "redesigned"), (10, 40, 160)):
        found[f"search {kind} {count} {fastest}"] = (
            False,
            lambda case, watch, rounds, kind=kind, count=count: search_row(case, kind, count, fastest, watch, rounds),
        )
    return found


def table(rows: list[Row]) -> str:
    """The rows as aligned text."""
    lines = [f"{'case':30} {'rival':12} {'ours':>12} {'rival':>12} {'ratio':>7} {'of FLOP limit':>14}"]
    for row in rows:
        lines.append(
            f"{row.case:30} {row.rival:12} {row.ours_seconds * 1e3:9.3f} ms {row.rival_seconds * 1e3:9.3f} ms "
            f"{row.ratio:7.2f} {row.limit_fraction or 0:>14.0%}"
        )
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="160 linear heads, two rounds: within a minute")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases whose name holds this")
    parser.add_argument("--rounds", type=int, help="epochs of each that count (default: 10, quick 2)")
    parser.add_argument("--threads", type=int, help="of the CPU, for all heads at once (default: all cores)")
    arguments = parser.parse_args()
    threads = arguments.threads or torch.get_num_threads()
    rounds = arguments.rounds or (2 if arguments.quick else 10)
    if min(threads, rounds) < 1 or arguments.threads == 0 or arguments.rounds == 0:
        parser.error("--rounds and --threads are at least 1")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    keep_memory()
    torch.set_num_threads(threads)
    chosen = {
        name: make
        for name, (quick, make) in cases(device).items()
        if arguments.cases in name and (quick or not arguments.quick)
    }
    if not chosen:
        parser.error(f"--cases {arguments.cases!r}: no case holds that")
    rows: list[Row] = []
    for name, make in chosen.items():
        start = time.perf_counter()
        rows.append(make(name, Stopwatch(device, threads), rounds))
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    print(f"{rows[0].device}, medians of {rounds}")
    print(table(rows))
    if arguments.json:
        write_json(rows, arguments.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
