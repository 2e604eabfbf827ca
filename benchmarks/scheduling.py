"""What a scheduler costs: a workflow of many short Runs against the training in them.

    python -m benchmarks.scheduling [--quick] [--runs N] [--slots N] [--jobs-per-slot N] [--profile FOLDER] [--json FILE]
                                    [-- SNAKEMAKE ARGUMENTS]

Without --profile on this machine, SLOTS jobs at a time; with it wherever the profile sends jobs: SLOTS is then how many of them
that cluster runs at a time, which the benchmark is told and does not set (a cluster of one node with two processors:
`python tests/cluster/one_node_slurm.py FOLDER 2`). Runs are divided into JOBS-PER-SLOT jobs at most for each slot. Ours is
slot-time from the moment at which the images are ready to that at which the last Run is done (wall clock times slots: starting
processes, importing torch, waiting for a scheduler, slots that stand idle at the end); the rival, "training", is the sum of what
the Runs themselves took, by their summaries. The ratio's distance from 1 is the overhead.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import yaml

from benchmarks.measure import Row, device_name, table, write_json

ROOT = Path(__file__).parents[1]
TRIALS = 4


def prepare_folder(folder: Path, n_runs: int, epochs: int, n_jobs: int) -> None:
    """A workflow of one study, whose Runs divide into so many jobs at most."""
    shutil.copy(ROOT / "Snakefile", folder)
    shutil.copytree(ROOT / "workflow", folder / "workflow")
    images = 400
    strategies = [
        {"name": "fixed", "alpha": 0.5},
        {"name": "fresh", "alpha": 0.5},
        {"name": "dynamic", "alpha": 0.5, "beta": 0.7},
        {"name": "dynamic", "scheme": "best-set", "alpha": 0.5, "beta": 0.7},
    ]
    comparison = {"replicates": n_runs // TRIALS, "trials": [{"strategy": strategy} for strategy in strategies]}
    config = {
        "studies": ["dynamic"],
        "chunk_images": -(-n_runs // n_jobs) * epochs * images // 2,
        "datasets": {"generated": {"source": "shapes", "train": images, "test": 60}},
        "dynamic": {
            "dataset": "generated",
            "model": "cnn_a",
            "protocols": ["paper"],
            "epochs": epochs,
            "batch_size": 64,
            "comparison": comparison,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def measure(folder: Path, options: list[str]) -> tuple[float, float, int]:
    """Seconds from prepared images to the last complete Run, seconds of training in them, number of jobs."""
    command = [sys.executable, "-m", "pydyn", "reproduce", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    results = folder / "results"
    n_jobs = len(list((results / "dynamic" / "chunks").glob("*.json")))
    begun = (results / "data" / "generated.h5").stat().st_mtime
    summaries = list((results / "dynamic" / "runs").rglob("summary.json"))
    training = sum(sum(json.loads(path.read_text())["seconds"].values()) for path in summaries)
    # Not the jobs' own outputs: Snakemake touches those when it hears, up to minutes later, that a job is done.
    return max(path.stat().st_mtime for path in summaries) - begun, training, n_jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="within a minute: few Runs, whose figures mean little")
    parser.add_argument("--runs", type=int, default=1000, metavar="N")
    parser.add_argument("--slots", type=int, default=2, metavar="N", help="jobs that run at a time (default: 2)")
    parser.add_argument("--jobs-per-slot", type=int, default=4, metavar="N", help="one after the other (default: 4)")
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="of workflow/profiles, to run elsewhere")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("snakemake", nargs="*", metavar="SNAKEMAKE ARGUMENT")
    arguments = parser.parse_args()
    if min(arguments.slots, arguments.jobs_per_slot) < 1:
        parser.error("--slots and --jobs-per-slot are at least 1")
    if arguments.runs < TRIALS or arguments.runs % TRIALS:
        parser.error(f"--runs {arguments.runs}: allowed are multiples of {TRIALS}")
    n_runs, epochs = (20, 2) if arguments.quick else (arguments.runs, 10)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare_folder(folder, n_runs, epochs, arguments.slots * arguments.jobs_per_slot)
        if arguments.profile:
            options = ["--workflow-profile", str(arguments.profile.resolve())]
        else:
            options = ["--cores", str(arguments.slots)]
        wall, training, n_jobs = measure(folder, [*options, *arguments.snakemake])
    where = arguments.profile.name if arguments.profile else "one machine"
    taken = wall * arguments.slots
    case = f"{n_runs} runs in {n_jobs} jobs, {where}"
    # The training itself is the limit.
    device = device_name(torch.device("cpu"))
    rows = [Row(case, "training", device, taken, training, training / taken, training / taken, None, 1)]
    print(table(rows, "of training"))
    print(f"overhead {taken / training - 1:.1%} of {training:.0f} s of training; wall clock {wall:.0f} s")
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
