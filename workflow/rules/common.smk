import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from pydyn.data.checks import source_state
from pydyn.errors import PydynError
from pydyn.files import write_text
from pydyn.plan import forget_false_marks, make_plan
from pydyn.provenance import (
    analyses_digest,
    code_digest,
    fine_tuning_digest,
    heads_digest,
    populations_digest,
    training_digest,
)
from pydyn.workflow import has_gpu, hold_folder, use_own_tools

use_own_tools()
try:
    PLAN = make_plan(config)
except PydynError as error:
    raise WorkflowError(str(error)) from None
# The same rules for editors and other tools; what PLAN accepts, it accepts.
validate(config, "../schemas/config.schema.json", set_default=False)

RESULTS = PLAN.results.as_posix()
REPORT = f"{RESULTS}/report/index.html"
hold_folder(Path(REPORT))
for mark in forget_false_marks(PLAN):
    print(f"{mark}: Runs that it calls complete are gone", file=sys.stderr)
USES_GPU = PLAN.config.device == "cuda" or (PLAN.config.device == "auto" and has_gpu())

# The configuration as this workflow resolved it, which every verb reads. It is no job's input; jobs carry what they depend on as
# params, so that a change re-runs what it touches. (As an ancient input that a job makes it would hide changed params, because
# Snakemake looks no further at a job behind a job that runs.)
CONFIG = f"{RESULTS}/config.json"
RESOLVED = json.dumps(config, indent=2) + "\n"


def source_files(wildcards):
    """An archive is an input; of a folder the rule's params hold the state."""
    dataset = PLAN.config.datasets[wildcards.dataset]
    if dataset.source == "archive":
        return dataset.resolve(Path(PLAN.config.data_root)).as_posix()
    return []


def complete_chunks(wildcards):
    return [
        f"{RESULTS}/{study}/chunks/{chunk}.json"
        for study, chunks in PLAN.chunks.items()
        for chunk in chunks
    ]


onstart:
    write_text(CONFIG, RESOLVED)


onsuccess:
    print(f"Report: {Path(REPORT).resolve()}")
