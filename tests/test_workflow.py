"""What `pydyn reproduce` adds to Snakemake's arguments."""

from pathlib import Path

import pytest

from pydyn import workflow
from pydyn.errors import ConfigError, RunError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """With a default profile, on a machine of 1,000 MB."""
    (tmp_path / workflow.PROFILE).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workflow, "megabytes_here", lambda: 1000)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)


def limited(*limits):
    return ["--resources", *limits, "--workflow-profile", str(workflow.PROFILE)]


@pytest.mark.parametrize(
    ("given", "passed"),
    [
        (["--cores", "2"], [*limited("gpu=1", "mem_mb=1000"), "--cores", "2"]),
        (["page.html", "--cores", "2"], [*limited("gpu=1", "mem_mb=1000"), "page.html", "--cores", "2"]),
        (["--resources", "gpu=2", "-n"], [*limited("gpu=2", "mem_mb=1000"), "-n"]),
        (["-n", "--resources=gpu=2"], [*limited("gpu=2", "mem_mb=1000"), "-n"]),
        (["--res", "mem_mb=5", "disk=1", "page.html"], [*limited("gpu=1", "mem_mb=5", "disk=1"), "page.html"]),
        (["--resources", "mem=4GB", "-n"], [*limited("gpu=1", "mem=4GB"), "-n"]),
        (["--resources", "mem_mib=5"], limited("gpu=1", "mem_mib=5")),
        (["--config", "gpu=2"], [*limited("gpu=1", "mem_mb=1000"), "--config", "gpu=2"]),
        (["--workflow-profile=mine", "--resources", "gpu=2"], ["--workflow-profile=mine", "--resources", "gpu=2"]),
        (["--profile", "mine"], ["--profile", "mine"]),
        (["--executor", "slurm"], ["--executor", "slurm"]),
    ],
)
def test_jobs_share_this_machine_unless_they_go_elsewhere(folder, given, passed):
    assert workflow._for_this_machine(given) == passed


@pytest.mark.parametrize(
    ("given", "asks"),
    [
        (["--cores", "2"], False),
        (["--cores", "2", "--configfile", "mine.yaml", "--", "summary"], False),
        (["--cores", "2", "--config", "results=--dag"], False),
        (["--summary"], True),
        (["-S", "--configfile", "mine.yaml"], True),
        (["--rulegraph=mermaid-js"], True),
        (["--cores", "2", "--lint", "json"], True),
        (["--cores", "2", "--touch"], True),
        (["--report", "own.html"], True),
        (["--cores", "2", "--report", "own.html", "--report-after-run"], False),
    ],
)
def test_command_lines_that_run_no_job(given, asks):
    assert workflow.runs_no_job(given) == asks


def test_a_profile_of_the_environment_is_left_alone(folder, monkeypatch):
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "mine")
    assert workflow._for_this_machine(["--cores", "2"]) == ["--cores", "2"]


def test_memory_is_what_the_system_says():
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert 0 < workflow.megabytes_here() <= int(total.split()[1]) // 1024 + 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--cores", "1", "--configfile", "whole.yaml", "nope.yaml"], r"^nope\.yaml: cannot be read"),
        (["--configfile=nope.yaml", "-n"], r"^nope\.yaml: cannot be read"),
        (["--configfiles", "whole.yaml", "tab.yaml", "-n"], r"^tab\.yaml: is not YAML or JSON: .* line 3, column 1"),
        (["--configfile", "empty.yaml"], r"^empty\.yaml: holds NoneType"),
    ],
)
def test_a_file_of_configuration_that_snakemake_would_not_name_is_refused_by_name(folder, given, message):
    Path("whole.yaml").write_text("device: cpu\n")
    Path("tab.yaml").write_text("datasets:\n  mine:\n\tsource: folder\n")
    Path("empty.yaml").touch()
    with pytest.raises(ConfigError, match=message):
        workflow.reproduce(given)


def test_so_is_the_configuration_itself(folder):
    Path("config.yaml").write_text("studies: [dynamic\n")
    with pytest.raises(ConfigError, match=r"^config\.yaml: is not YAML or JSON"):
        workflow.reproduce(["--cores", "1"])


@pytest.mark.parametrize(
    "given",
    [
        ["--configfile", "a.yaml", "--configfile", "b.yaml"],
        ["--configfile=a.yaml", "--cores", "1", "--configfiles", "b.yaml"],
        ["--config", "data_root=a", "--configfile", "a.yaml", "-C", "results=b"],
    ],
)
def test_configuration_that_snakemake_would_drop_is_refused(folder, given):
    with pytest.raises(RunError, match=r"--config(file)? is given more than once, .* give all after one"):
        workflow.reproduce(given)


def test_a_home_that_cannot_be_written_is_named_before_snakemake_ends_on_it(folder, tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text("studies: []\n")
    (tmp_path / "home").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(RunError, match=r"home/\.cache/snakemake: Not a directory; Snakemake .* XDG_CACHE_HOME"):
        workflow.reproduce(["-n"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(workflow.subprocess, "Popen", lambda command: type("Done", (), {"wait": lambda self: 3})())
    monkeypatch.setattr(workflow.signal, "signal", lambda *arguments: None)
    assert workflow.reproduce(["-n"]) == 3


def test_keys_below_the_top_level_are_refused_on_the_command_line(folder):
    with pytest.raises(RunError, match=r"--config dynamic\.epochs=3: .* top level .* --configfile FILE"):
        workflow.reproduce(["--cores", "1", "--config", "device=cpu", "dynamic.epochs=3", "-n"])
    with pytest.raises(RunError, match=r"--config nothing: "):
        workflow.reproduce(["-C", "nothing"])


def test_a_workflow_that_is_only_planned_names_no_report_of_another(folder, tmp_path, monkeypatch, capfd):
    (tmp_path / "config.yaml").write_text("studies: []\n")
    (tmp_path / "index.html").touch()
    workflow.tell_report(tmp_path / "index.html")
    monkeypatch.setattr(workflow.subprocess, "Popen", lambda command: type("Done", (), {"wait": lambda self: 0})())
    monkeypatch.setattr(workflow.signal, "signal", lambda *arguments: None)
    assert workflow.reproduce(["-n", "--config", "results=elsewhere"]) == 0
    assert "Report" not in capfd.readouterr().out
