"""A study `frugal` of a small network with random weights."""

from pydyn.config.main import parse
from pydyn.device import open_device
from pydyn.studies.frugal_runs import FineTuningRun
from pydyn.studies.registry import runs as runs_of
from pydyn.training.frugal import execute_frugal

RAW = {
    "studies": ["frugal"],
    "datasets": {"tiny": {"source": "shapes", "train": 48, "test": 24, "image_size": 32}},
    "frugal": {
        "datasets": ["tiny"],
        "backbones": [{"name": "mobilenet_v3_small", "weights": "none", "input_size": 32}],
        "replicates": 2,
        "precision": "fp32",
        "adaptation": {"max_batches": 2, "batch_size": 16},
        "extraction": {"batch_size": 20, "shards": 2},
        "heads": {"epochs": 6, "patience": 3, "hidden": 8, "batch_size": 16, "weight_decays": [0.01]},
        "fine_tuning": {"learning_rates": [0.001, 0.0001], "batch_size": 16, "epochs": 2, "patience": 2},
    },
}
CONFIG = parse(RAW)


def chosen(kind, count=None):
    return [run for run in runs_of(CONFIG, "frugal") if isinstance(run, FineTuningRun) == (kind == "fine-tuning")][
        :count
    ]


def train(runs, folder, stop=lambda: False):
    lines = []
    execute_frugal(runs, folder, folder / "data" / "tiny.h5", open_device("cpu", 1), lines.append, stop)
    return lines
