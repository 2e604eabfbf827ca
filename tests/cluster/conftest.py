"""A SLURM cluster of its own for each process of tests."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.cluster.one_node_slurm import OneNodeSlurm, why_not
from tests.workflow_copy import ENVIRONMENT, Workflow, copy_workflow

# As a user would for a cluster without accounting; and questions are asked more often than a real controller would like.
OPTIONS = (
    *("--workflow-profile", "workflow/profiles/slurm"),
    *("--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "10"),
)


@pytest.fixture(scope="session")
def slurm(tmp_path_factory) -> Iterator[OneNodeSlurm]:
    if "PYDYN_SLURM" not in os.environ:
        pytest.skip("takes minutes and a SLURM; `make test-slurm` sees to both")
    if problem := why_not():
        pytest.skip(problem)
    cluster = OneNodeSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def on_slurm(slurm, tmp_path) -> Workflow:
    """A copy of the workflow whose jobs go to the cluster."""
    environment = {**slurm.environment, "OMP_NUM_THREADS": ENVIRONMENT["OMP_NUM_THREADS"]}
    return replace(copy_workflow(tmp_path), options=OPTIONS, environment=environment)
