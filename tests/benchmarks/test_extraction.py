import json
from functools import partial

import pytest

from tests.benchmarks.running import run_benchmark

run = partial(run_benchmark, "extraction")


@pytest.mark.slow
def test_sets_extraction_beside_the_bare_forward_pass(tmp_path):
    arguments = ["--images", 32, "--rounds", 1, "--threads", 1, "--backbone", "mobilenet_v3_small"]
    done = run(*arguments, "--json", tmp_path / "rows.json")
    assert done.returncode == 0, done.stderr
    extraction, *searches = json.loads((tmp_path / "rows.json").read_text())
    assert (extraction["case"], extraction["rival"]) == ("extraction mobilenet_v3_small", "forward")
    assert extraction["ratio"] == pytest.approx(extraction["rival_seconds"] / extraction["ours_seconds"])
    assert [row["case"].split()[-1] for row in searches] == ["1000x10", "10000x40", "100000x160"]


def test_wrong_arguments_are_refused_in_a_line():
    done = run("--images", 3)
    assert done.returncode == 2
    assert "--images is at least 32" in done.stderr.splitlines()[-1]
