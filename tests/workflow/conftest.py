"""Workflows that the tests share."""

import shutil

import pytest

from tests.workflow_copy import Workflow, copy_workflow


@pytest.fixture
def workflow(tmp_path) -> Workflow:
    return copy_workflow(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """The ci preset, run to its end once. Tests read it and copy it, but do not change it."""
    workflow = copy_workflow(tmp_path_factory.mktemp("finished"))
    done = workflow.run(tool="reproduce")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().splitlines()[-1] == f"Report: {workflow.results / 'report' / 'index.html'}"
    return workflow


@pytest.fixture
def copied(finished, tmp_path) -> Workflow:
    """A copy of the finished workflow, to change."""
    folder = tmp_path / "copied"
    shutil.copytree(finished.folder, folder)
    return Workflow(folder)
