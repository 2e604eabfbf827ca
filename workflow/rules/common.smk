import atexit
import json
import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# Rules call `pydyn` of the environment that Snakemake itself runs in, also where a job starts in a bare shell. Not by its path
# in the rules: a changed command would re-run everything.
os.environ["PATH"] = os.pathsep.join(
    [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
)

from pydyn.data.checks import source_state
from pydyn.errors import PydynError
from pydyn.plan import make_plan
from pydyn.provenance import code_digest

try:
    PLAN = make_plan(config)
except PydynError as error:
    raise WorkflowError(str(error)) from None
# The same rules for editors and other tools; what PLAN accepts, it accepts.
validate(config, "../schemas/config.schema.json", set_default=False)

RESULTS = PLAN.results.as_posix()
CONFIG = f"{RESULTS}/config.json"
REPORT = f"{RESULTS}/report/index.html"
USES_GPU = PLAN.config.device == "cuda" or (
    PLAN.config.device == "auto" and Path("/dev/nvidiactl").exists()
)


# The configuration as this workflow resolved it: what every verb reads. Jobs take it as ancient and carry what they depend on as
# params, so that a change re-runs what it touches and nothing else.
rule config:
    output:
        CONFIG,
    log:
        f"{RESULTS}/logs/config.log",
    localrule: True
    params:
        resolved=json.dumps(config, indent=2),
    message:
        "Writing the resolved configuration"
    shell:
        "cat >{output} 2>{log} <<'CONFIGURATION'\n{params.resolved}\nCONFIGURATION"


onsuccess:
    # At the very end, below Snakemake's own closing lines: it is what one wants to know.
    atexit.register(print, f"Report: {Path(REPORT).resolve()}")
