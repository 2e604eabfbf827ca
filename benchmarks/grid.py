"""How long the published grid takes: 21 Runs of 200 epochs (paper a, tables 2 and 3), from those of them that are complete.

    python -m benchmarks.grid RESULTS [--json FILE]

RESULTS is the folder of results of a workflow, or of `pydyn train`, at the scale of the preset `paper`. A cell of the grid that
was not run is taken to last as long as the mean of those of as many images. It takes a whole Run at least for each of the three
numbers of images. The seconds are those of the Runs' epochs; what a process does before its first one is not in them.
"""

import argparse
import json
import statistics
import sys
from dataclasses import asdict
from pathlib import Path

from pydyn.files import write_text
from pydyn.selection.dynamic import Dynamic
from pydyn.training.summary import Summary, read_summary

ALPHAS = (15_000, 20_000, 25_000)
BETAS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
EPOCHS = 200
BATCH = 512


def cell_of(summary: Summary) -> tuple[int, float] | None:
    """The grid's cell that a Run is of."""
    run, strategy = summary.run, summary.run.strategy
    if not isinstance(strategy, Dynamic) or (run.epochs, run.protocol, run.model, run.batch_size) != (
        EPOCHS,
        "paper",
        "cnn_a",
        BATCH,
    ):
        return None
    plain = (strategy.scheme, strategy.replacements, strategy.delta, run.augmentation, run.batch_norm)
    if plain != ("base", "uniform", 0.01, "none", False):
        return None
    cell = (int(strategy.alpha), strategy.beta)
    return cell if cell[0] in ALPHAS and cell[1] in BETAS else None


def main() -> int:
    """Project, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    summaries = [read_summary(path) for path in sorted(arguments.results.rglob("summary.json"))]
    measured = [(cell, summary) for summary in summaries if (cell := cell_of(summary)) is not None]
    devices = {(summary.device, summary.precision) for _, summary in measured}
    if len(devices) > 1:
        parser.error(f"{arguments.results} holds Runs of several devices: {', '.join(map(str, sorted(devices)))}")
    missing = [alpha for alpha in ALPHAS if not any(cell[0] == alpha for cell, _ in measured)]
    if missing:
        parser.error(
            f"{arguments.results} holds {len(measured)} complete Runs of the grid, and none of {missing} images; "
            f"one at least is needed for each of {ALPHAS}"
        )
    seconds = {}
    for alpha in ALPHAS:
        alike = statistics.mean(summary.seconds.total for cell, summary in measured if cell[0] == alpha)
        for beta in BETAS:
            own = [summary.seconds.total for cell, summary in measured if cell == (alpha, beta)]
            seconds[alpha, beta] = statistics.mean(own) if own else alike
    n_cells = len({cell for cell, _ in measured})
    total = sum(seconds.values())
    ((device, precision),) = devices
    print(f"{device}, {precision}: {len(measured)} whole Runs, {n_cells} of the grid's {len(seconds)} cells")
    for (alpha, beta), summary in measured:
        parts = summary.seconds
        print(
            f"  {alpha} images, beta {beta}: {parts.train:.1f} s training, {parts.evaluate:.1f} s evaluation, "
            f"{parts.select:.2f} s selection; accuracy {summary.reported_accuracy:.4f}"
        )
    print(f"the grid, one Run after the other: {total:.0f} s{'' if n_cells == len(seconds) else ', projected'}")
    if arguments.json:
        result = {
            "device": device,
            "precision": precision,
            "runs": [
                {
                    "id": summary.run.id,
                    "seconds": asdict(summary.seconds),
                    "images_trained": summary.images_trained,
                    "accuracy": summary.reported_accuracy,
                    "best_epoch": summary.accuracy.best_epoch,
                    "accuracy_at_last": summary.accuracy.last_validation,
                }
                for _, summary in measured
            ],
            "cells": len(seconds),
            "cells_measured": n_cells,
            "seconds": total,
        }
        write_text(arguments.json, json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
