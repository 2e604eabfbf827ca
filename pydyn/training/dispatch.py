"""Runs of any kind to what trains them."""

from collections.abc import Sequence
from pathlib import Path

from pydyn.device import Device
from pydyn.studies.frugal_runs import FrugalRun
from pydyn.studies.run import AnyRun, Run
from pydyn.studies.shapes_runs import AnalysisRun, PopulationRun
from pydyn.training.folder import Log
from pydyn.training.stopping import Stop


def execute_any(runs: Sequence[AnyRun], results: Path, store_path: Path, device: Device, log: Log, stop: Stop) -> None:
    """Train Runs of one data set, each kind by its own module; see `execute`, `execute_frugal` and `execute_shapes`."""
    if networks := [run for run in runs if isinstance(run, Run)]:
        from pydyn.training.execute import execute

        execute(networks, results, store_path, device, log, stop)
    if frugal := [run for run in runs if isinstance(run, FrugalRun)]:
        from pydyn.training.frugal import execute_frugal

        execute_frugal(frugal, results, store_path, device, log, stop)
    if shapes := [run for run in runs if isinstance(run, PopulationRun | AnalysisRun)]:
        from pydyn.training.shapes import execute_shapes

        execute_shapes(shapes, results, store_path, device, log, stop)
