"""What profiles ask a scheduler for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow_copy import ENVIRONMENT, ROOT

pytestmark = pytest.mark.slow
PROFILES = ROOT / "workflow" / "profiles"
TRAINING = {
    *("adapt_backbone", "extract_features", "fine_tune", "train_heads"),
    *("train_dynamic", "train_architectures", "train_populations", "analyse_filters"),
}

# Of every job its rule and the line that the plugin would submit it with.
PLAN = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string

configfiles, overwritten = json.loads(sys.argv[1])
params = dict.fromkeys(["run_uuid", "slurm_logfile", "comment_str", "account", "partition", "workdir"], "")
with SnakemakeApi(OutputSettings(dryrun=True, quiet={Quietness.ALL})) as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(cores=1, overwrite_resources=overwritten),
        config_settings=ConfigSettings(configfiles=[Path(file) for file in configfiles]),
        snakefile=Path("Snakefile"),
    )
    workflow.dag().execute_workflow(executor="dryrun")
    for job in workflow._workflow.dag.jobs:
        print("JOB", json.dumps([job.rule.name, get_submit_command(job, params) + set_gres_string(job)]))
"""


def profile(name: str) -> dict:
    return yaml.safe_load((PROFILES / name / "config.yaml").read_text())


@pytest.mark.parametrize(("name", "gpus"), [("slurm-gpu", 1), ("slurm", 0)])
def test_the_published_scale_asks_for_one_gpu_per_training_job_and_for_none_elsewhere(workflow, name, gpus):
    # Generated images in place of archives that a machine of tests may lack: as many jobs of each kind for a data set.
    workflow.change(frugal={"datasets": ["shapes-1.3", "shapes-2.1"]})
    files = ["workflow/presets/paper.yaml", "changes.yaml"]
    command = [sys.executable, "-c", PLAN, json.dumps([files, profile(name)["set-resources"]])]
    done = subprocess.run(
        command, cwd=workflow.folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    jobs = [json.loads(line.removeprefix("JOB ")) for line in done.stdout.splitlines() if line.startswith("JOB ")]
    assert {rule for rule, _ in jobs} == {*TRAINING, "prepare", "join_features", "report", "all"}
    assert len(jobs) > 800
    for rule, line in jobs:
        asked = re.findall(r"--gpus=(\S+)", line)
        assert asked == (["1"] if gpus and rule in TRAINING else []), line
        assert "--gres" not in line


def test_profiles_for_slurm_agree_but_for_the_gpu():
    cpu, gpu = profile("slurm"), profile("slurm-gpu")
    assert gpu.pop("set-resources") == {rule: {"gpu": 1} for rule in TRAINING}
    assert cpu.pop("set-resources") == {rule: {"gpu": 0} for rule in TRAINING}
    assert cpu == gpu


def test_the_status_script_says_what_snakemake_wants_to_hear(tmp_path):
    script = PROFILES / "sbatch" / "status.sh"
    answers = {
        "COMPLETED": "success",
        "OUT_OF_MEMORY": "failed",
        "TIMEOUT": "failed",
        "CANCELLED": "failed",
        "slurm_load_jobs error: Invalid job id specified": "failed",
        "PENDING": "running",
        "COMPLETING": "running",
        "slurm_load_jobs error: Unable to contact slurm controller (connect failure)": "running",
    }
    for answer, expected in answers.items():
        for tool, says in (("squeue", answer), ("sacct", "")):
            (tmp_path / tool).write_text(f"#!/bin/sh\necho '{says}'\n")
            (tmp_path / tool).chmod(0o755)
        environment = {**ENVIRONMENT, "PATH": f"{tmp_path}:{ENVIRONMENT['PATH']}"}
        done = subprocess.run([script, "7"], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected, answer
    assert Path(profile("sbatch")["cluster-generic-status-cmd"]) == script.relative_to(ROOT)
