"""A small study of shapes, trained for real, and populations made up by hand."""

from pathlib import Path
from typing import Any

from pydyn.config.datasets import ShapesDataset
from pydyn.config.main import Config, parse
from pydyn.data.prepare import prepare
from pydyn.device import open_device
from pydyn.studies.registry import runs
from pydyn.studies.shapes_runs import PopulationRun
from pydyn.training.population_summary import MemberResult, PopulationSummary
from pydyn.training.shapes import execute_shapes

RAW: dict[str, Any] = {
    "studies": ["shapes"],
    "datasets": {"figures": {"source": "shapes", "train": 90, "test": 45, "image_size": 16}},
    "shapes": {
        "replicates": 3,
        "trainings": [{"dataset": "figures", "epochs": 2, "filters": ["2-2", "4-12", "3"]}],
        "causes": [
            {
                "dataset": "figures",
                "filters": "2-2",
                "epochs": 2,
                "initialisers": ["glorot_uniform"],
                "optimisers": [{"name": "adam", "learning_rate": 0.001}],
                "replicates": 3,
            }
        ],
        "analyses": [{"dataset": "figures", "filters": "4-12"}],
    },
}


def train(results: Path) -> tuple[Config, Path]:
    """The whole study, in a folder of results."""
    config, store = parse(RAW), results / "data" / "figures.h5"
    prepare("figures", ShapesDataset(**RAW["datasets"]["figures"]), Path(), store)
    every: Any = runs(config, "shapes")
    execute_shapes(every, results, store, open_device("cpu", 1), lambda line: None)
    return config, results


RUN = PopulationRun("shapes", "figures", "2-2", 1, 32, "adam", 0.001, "glorot_uniform", "bytes", "clipped", False, 3, 0)


def population_of(*members: MemberResult, run: PopulationRun = RUN) -> PopulationSummary:
    rest: dict[str, Any] = {"fingerprint": "", "code": "", "data": "", "device": "", "finished": ""}
    rest |= {"n_train": 90, "n_validation": 45, "n_classes": 3, "n_parameters": 1, "seconds": 1.0, "threads": 1}
    return PopulationSummary(run=run, members=list(members), versions={}, **rest)


def member(seed: int, loss: float, dead: tuple[int, int, int] = (0, 0, 0)) -> MemberResult:
    return MemberResult(seed, loss, 1 / 3, 1 / 3, 1 / 3, 1, list(dead[:2]), dead[2], 2)
