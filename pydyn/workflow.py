"""Running Snakemake so that the same command always finishes, also after a kill -9; and what rules need of their surroundings."""

import contextlib
import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from pydyn.config.main import read
from pydyn.errors import RunError
from pydyn.files import write_text
from pydyn.locks import SNAKEMAKE_FOLDER

# What a driver leaves on a machine with an NVIDIA GPU. Asking torch would cost seconds, at each planning.
GPU_MARK = Path("/dev/nvidiactl")
REPORT = "pydyn.report"
PROFILE = Path("workflow/profiles/default")
# What the Snakefile reads first, and what names the files that are laid over it.
DEFAULTS = Path("config.yaml")
CONFIGFILE = ("--configfile", "--configfiles")
CONFIG = ("--config", "-C")
# Of Snakemake, which parses the rules for them too and does not tell the rules which it is.
WITHOUT_JOBS = frozenset(
    """
    --archive --cleanup-metadata --cm --cleanup-shadow --conda-cleanup-envs --conda-create-envs-only
    --container-cleanup-images --containerize --d3dag --dag --delete-all-output --delete-temp-output --detailed-summary -D
    --export-cwl --filegraph --generate-unit-tests --lint --list -l --list-changes --lc --list-conda-envs
    --list-input-changes --li --list-params-changes --lp --list-rules --list-target-rules --lt --list-untracked --lu
    --print-compilation --report --rulegraph --summary -S --touch -t --unlock
    """.split()  # noqa: SIM905 (a list would take a line for each)
)


def use_own_tools() -> None:
    """Let rules call `pydyn` of the environment that Snakemake itself runs in, also where a job starts in a bare shell.

    Not by its path in the rules: a changed command would re-run everything.
    """
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def has_gpu() -> bool:
    """Whether this machine looks as if it had an NVIDIA GPU."""
    return GPU_MARK.exists()


def runs_no_job(arguments: Sequence[str]) -> bool:
    """Whether Snakemake is asked for something, such as a summary, or to note something, and not to make anything."""
    if "--report-after-run" in arguments:  # which `--report` then belongs to
        return False
    return not WITHOUT_JOBS.isdisjoint(argument.split("=")[0] for argument in arguments)


def tell_report(report: Path) -> None:
    """Leave word for `reproduce` of where this workflow's report goes."""
    write_text(SNAKEMAKE_FOLDER / REPORT, str(report.resolve()))


def reproduce(arguments: Sequence[str]) -> int:
    """Run Snakemake in the working directory, on the default profile; returns its exit status.

    Snakemake's own locks outlive it when it is killed, and it cannot tell a dead one's from a living one's. They are not used
    here: every Snakemake of this workflow holds locks of the system's (`hold_folder`, `hold_results`), which end with its
    process.

    SIGTERM is handed on to the jobs on this machine, which save what they have, and to Snakemake, which then ends.

    Raises RunError for a Snakemake that is to work in another folder, whose report this would not see; for configuration that it
    would drop without a word; for a home that it cannot write to. Raises ConfigError for files of configuration that it would end
    on with a traceback, or without their name.
    """
    if elsewhere := [argument for argument in arguments if argument.split("=")[0] in ("--directory", "-d")]:
        raise RunError(
            f"{elsewhere[0]}: `pydyn reproduce` works in the folder it is started in; use Snakemake itself for another"
        )
    _refuse_repeated(arguments)
    _refuse_keys_within(arguments)
    read(*_configuration(arguments))
    _refuse_closed_cache()
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--nolock",
        "--rerun-incomplete",
        *_for_this_machine(arguments),
    ]
    report = SNAKEMAKE_FOLDER / REPORT
    # Of an earlier workflow, perhaps on other results: one that is only planned leaves no word.
    report.unlink(missing_ok=True)
    process = subprocess.Popen(command)
    # A terminal sends Ctrl-C to both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: _end(process.pid))
    status = process.wait()
    if status == 0 and report.exists() and Path(report.read_text(encoding="utf-8")).exists():
        print(f"Report: {report.read_text(encoding='utf-8')}", flush=True)
    return status


def _configuration(arguments: Sequence[str]) -> list[Path]:
    """The files of configuration that Snakemake will read."""
    defaults = [DEFAULTS] if DEFAULTS.is_file() else []
    return defaults + [Path(value) for value in _values(CONFIGFILE, arguments)]


def _values(names: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """What is given to an option that takes several values."""
    values, of_option = [], False
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option in names:
            of_option = not value
            values += [value] if value else []
        elif argument.startswith("-"):
            of_option = False
        elif of_option:
            values.append(argument)
    return values


def _refuse_keys_within(arguments: Sequence[str]) -> None:
    """Snakemake ends with a traceback on what is no key of the top level with a value."""
    for entry in _values(CONFIG, arguments):
        if not re.fullmatch(r"[A-Za-z_][\w-]+=.*", entry, flags=re.DOTALL):
            raise RunError(
                f"--config {entry}: only keys of the top level can be given here, as results=FOLDER; write others into a file "
                "and lay it over: --configfile FILE"
            )


def _refuse_repeated(arguments: Sequence[str]) -> None:
    """Of options that take several values Snakemake keeps the last only, where they are given twice."""
    for names, what in ((CONFIGFILE, "FILE"), (CONFIG, "KEY=VALUE")):
        if sum(argument.split("=")[0] in names for argument in arguments) > 1:
            raise RunError(
                f"{names[0]} is given more than once, and Snakemake would take the last only; give all after one: "
                f"{names[0]} {what} {what}"
            )


def _refuse_closed_cache() -> None:
    """Snakemake ends with a traceback where its cache cannot be, as in a container whose user has no home."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "snakemake"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if not os.access(cache, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(cache))
    except OSError as error:
        raise RunError(
            f"{cache}: {error.strerror}; Snakemake keeps a cache there: let HOME or XDG_CACHE_HOME name a folder that can be "
            "written"
        ) from None


def _end(snakemake: int) -> None:
    """Snakemake ends when its jobs have; by itself it would wait for their natural end."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(snakemake)
        parent.terminate()
        for job in parent.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "snakemake" not in job.cmdline():
                    job.terminate()


def _for_this_machine(arguments: Sequence[str]) -> list[str]:
    """The arguments, with the default profile and what jobs side by side may use of this machine, unless they go elsewhere."""
    given = {argument.split("=")[0] for argument in arguments}
    if given & {"--workflow-profile", "--profile", "--executor", "-e"} or "SNAKEMAKE_PROFILE" in os.environ:
        return [*arguments]
    if not PROFILE.is_dir():
        return [*arguments]
    # The command line's resources replace the profile's, so what that says of GPUs stands here again.
    limits = {"gpu": "gpu=1", "mem": f"mem_mb={megabytes_here()}"}
    rest, of_resources = [], False
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option in ("--resources", "--res"):
            of_resources, argument = True, value
        if not of_resources or argument.startswith("-") or (argument and "=" not in argument):
            of_resources = False
            rest.append(argument)
        elif argument:
            # `mem`, `mem_mb` and `mem_mib` are one resource.
            limits[re.sub("_mi?b$", "", argument.partition("=")[0])] = argument
    # The profile last: an option of one value, after which a target is a target.
    return ["--resources", *limits.values(), "--workflow-profile", str(PROFILE), *rest]


def megabytes_here() -> int:
    """Memory of this machine, or what its container may use of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    return total // 2**20
