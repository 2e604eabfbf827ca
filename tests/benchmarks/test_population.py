import json
from functools import partial

import pytest
import torch

from benchmarks.population import OneByOne, Together, one_forward_each, one_pass
from pydyn.models.tiny import TinyCNN
from tests.benchmarks.running import run_benchmark

run = partial(run_benchmark, "population")


def test_prints_a_table_and_writes_rows(tmp_path):
    done = run("--cases", "ablate 2-2", "--rounds", 1, "--threads", 1, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    assert "of limit" in done.stdout
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["case"], row["rival"]) == ("ablate 2-2", "sequential")
    assert row["ratio"] == pytest.approx(row["rival_seconds"] / row["ours_seconds"])
    assert row["limit_fraction"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--cases", "no such case"], "no case holds that"), (["--threads", 0], "--threads 0 is not at least 1")],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, message):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]


def test_both_make_the_same_updates():
    architecture, before = TinyCNN((4, 4)), torch.get_num_threads()
    ours, rival = Together(architecture, 3, before), OneByOne(architecture, 3, before, channels_last=True)
    ours()
    rival()
    theirs = torch.stack(
        [torch.cat([part.detach().flatten() for part in network.parameters()]) for network in rival.networks]
    )
    # Where a gradient is all but 0, Adam makes whole steps of its rounding.
    distance = (ours.parameters - theirs).abs()
    assert (distance < 2e-5).double().mean() > 0.95
    assert distance.max() < 0.01


def test_both_count_the_same_images():
    architecture, before = TinyCNN((3, 4)), torch.get_num_threads()
    ours = one_pass(architecture, before)()
    for channels_last in (False, True):
        theirs = one_forward_each(architecture, before, channels_last)()
        # An image between two classes may fall on either side.
        assert all(abs(one - other) <= 2 for one, other in zip(ours, theirs, strict=True))
