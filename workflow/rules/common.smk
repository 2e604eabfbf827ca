import json
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

from pydyn.config.main import read
from pydyn.data.checks import source_state
from pydyn.errors import PydynError
from pydyn.files import in_a_line, write_text
from pydyn.left_jobs import cancel_left_jobs
from pydyn.locks import hold_folder, hold_results, refused
from pydyn.plan import (
    forget_false_marks,
    forget_other_stores,
    make_plan,
    weights_state,
)
from pydyn.provenance import (
    analyses_digest,
    code_digest,
    fine_tuning_digest,
    heads_digest,
    populations_digest,
    training_digest,
)
from pydyn.workflow import has_gpu, only_asks, tell_report, use_own_tools

use_own_tools()
try:
    read(
        *workflow.configfiles
    )  # what Snakemake takes of them without a word, this refuses
    PLAN = make_plan(config)
except PydynError as error:
    raise WorkflowError(str(error)) from None
except OSError as error:
    raise WorkflowError(in_a_line(error)) from None
# The same rules for editors and other tools; what PLAN accepts, it accepts.
validate(config, "../schemas/config.schema.json", set_default=False)

RESULTS = PLAN.results.as_posix()
REPORT = f"{RESULTS}/report/index.html"
# Only the Snakemake that is to run something touches anything, and not those that it starts in jobs.
RUNS_JOBS = (
    workflow.is_main_process
    and not workflow.output_settings.dryrun
    and not only_asks(sys.argv[1:])
)
HOLDER = None
if RUNS_JOBS:
    try:
        hold_folder()
        tell_report(Path(REPORT))
        HOLDER = hold_results(PLAN.results)
        if HOLDER is None:
            if forgotten := forget_false_marks(PLAN):
                print(
                    f"{forgotten[0]}{f' and {len(forgotten) - 1} more' if forgotten[1:] else ''}: Runs that it calls complete are "
                    "gone, or of another configuration",
                    file=sys.stderr,
                )
            for store in forget_other_stores(PLAN):
                print(f"{store}: is of another declaration", file=sys.stderr)
    except OSError as error:
        raise WorkflowError(in_a_line(error)) from None
USES_GPU = PLAN.config.device == "cuda" or (PLAN.config.device == "auto" and has_gpu())

# The configuration as this workflow resolved it, which every verb reads. It is no job's input; jobs carry what they depend on as
# params, so that a change re-runs what it touches. (As an ancient input that a job makes it would hide changed params, because
# Snakemake looks no further at a job behind a job that runs.)
CONFIG = f"{RESULTS}/config.json"
RESOLVED = json.dumps(config, indent=2) + "\n"
# For `pydyn status`, which may be asked where the data are not.
RUNS_OF_JOBS = json.dumps(
    {
        study: {name: [run.id for run in chunk.runs] for name, chunk in chunks.items()}
        for study, chunks in PLAN.chunks.items()
    }
)
PLAN_FILE = f"{RESULTS}/plan.json"
if RUNS_JOBS and HOLDER is None:
    # Where nothing is left to do, `onstart` does not come, and what is damaged would stay so.
    for file, content in ((CONFIG, RESOLVED), (PLAN_FILE, RUNS_OF_JOBS)):
        try:
            if Path(REPORT).exists():
                read(file)
        except PydynError:
            write_text(file, content)


def memory(megabytes, per_input=0):
    """What a job asks for: measured peaks with room (docs/clusters.md), and as much again with each attempt that failed."""
    return lambda wildcards, input, attempt: round(
        attempt * (megabytes + per_input * input.size_mb)
    )


def minutes(limit):
    """A job's time limit, where there are such; longer with each attempt. What it had done when time was up, it keeps."""
    return lambda wildcards, attempt: attempt * limit


def source_files(wildcards):
    """An archive is an input; the rule's params hold the state of it and of folders."""
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
    try:
        if HOLDER is not None:
            raise refused(PLAN.results, HOLDER)
        cancel_left_jobs(Path.cwd())
        write_text(CONFIG, RESOLVED)
        write_text(PLAN_FILE, RUNS_OF_JOBS)
    except PydynError as error:
        raise WorkflowError(str(error)) from None
    except OSError as error:
        raise WorkflowError(in_a_line(error)) from None


onsuccess:
    # Not where only a part of the workflow was asked for.
    if Path(REPORT).exists():
        print(f"Report: {Path(REPORT).resolve()}")
