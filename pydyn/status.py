"""Where a study stands, told from its files alone: what is complete, outdated, in work, failed, left; how long that may take."""

import fcntl
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from pydyn.config.main import load
from pydyn.errors import PydynError, RunError
from pydyn.studies import registry
from pydyn.studies.frugal_runs import FeatureSet, FineTuningRun, HeadRun
from pydyn.studies.run import AnyRun, Run
from pydyn.training.outdated import Today

State = Literal["complete", "outdated", "in work", "begun", "failed", "left"]
FAILED = "pydyn: error:"
ASKED_TO_STOP = "asked to stop"
OTHER_LOGS = ("prepare", "frugal/adapt", "frugal/extract", "frugal/join")
"""Of jobs that belong to no chunk."""


@dataclass(frozen=True)
class RunStatus:
    """Of one Run."""

    run: AnyRun
    state: State
    """`in work`: a process holds it now (as far as the file system tells of processes elsewhere). `begun`: it has a checkpoint
    and waits to be gone on with. `outdated`: what is there, whole or not, came from another configuration, data or code and will
    be made again. `failed`: the last job that was to train it ended with an error, or what is there cannot be read. `left`:
    nothing yet that a job could go on from."""
    epochs: int = 0
    """Done so far, of a Run that keeps a history while it trains."""
    problem: str = ""
    seconds: float | None = None
    """That a complete or outdated one took; of features that other Runs have too, its part."""


@dataclass
class StudyStatus:
    """Of one study."""

    study: str
    runs: list[RunStatus] = field(default_factory=list)

    def count(self, state: State) -> int:
        """How many Runs are in a state."""
        return sum(status.state == state for status in self.runs)

    @property
    def seconds_spent(self) -> float:
        """By complete Runs."""
        return sum(status.seconds or 0.0 for status in self.runs if status.state == "complete")

    @property
    def seconds_left(self) -> float | None:
        """Of training that is left, one Run at a time, judged by complete and outdated ones; None if no such is like one left.

        By the mean of those of the same setting, else by the mean time of an epoch of those of the same kind on the same data.
        """
        by_setting, by_kind = _means(self.runs)
        total = 0.0
        for status in self.runs:
            if status.state == "complete":
                continue
            run = status.run
            whole = by_setting.get(run.setting)
            if whole is None:
                an_epoch = by_kind.get((type(run), run.dataset))
                if an_epoch is None:
                    return None
                whole = an_epoch * run.most_epochs
            total += whole * (1 - min(1.0, status.epochs / run.most_epochs))
        return total


def read_status(results: Path) -> tuple[list[StudyStatus], list[str]]:
    """The status of every study that the workflow of a folder of results consists of; and errors of jobs that train nothing.

    Whether a Run is complete is told by its files' names, as everywhere before a job looks into them; and by what they say of
    where they came from, compared with the configuration that the workflow was last started with, the stores that are there and
    the code of this pydyn. A store that is yet to be made again is taken as it is.

    Raises PydynError where there are no results of a workflow.
    """
    for name in ("config.json", "plan.json"):
        if not (results / name).is_file():
            raise PydynError(
                f"{results}: no results of a workflow ({name} is not there); start the workflow, or name the folder that "
                "`results` names"
            )
    config = load(results / "config.json")
    plan = _read_plan(results / "plan.json")
    today = Today(results)
    statuses = []
    for study, chunks in plan.items():
        known = {run.id: run for run in registry.runs(config, study)} if study in config.studies else {}
        if unknown := [run_id for ids in chunks.values() for run_id in ids if run_id not in known]:
            raise PydynError(
                f"{results / 'plan.json'}: has Run {unknown[0]!r}, which config.json beside it has not (another version of "
                "pydyn wrote it, or the workflow was killed as it began); give the workflow's command once more"
            )
        status = StudyStatus(study)
        sharing = Counter(run.features for run in known.values() if isinstance(run, HeadRun))
        for name, ids in chunks.items():
            problem = _problem(_log_of(results, study, name))
            status.runs += _chunk(results, [known[run_id] for run_id in ids], today, problem, sharing)
        statuses.append(status)
    logs = [log for folder in OTHER_LOGS for log in sorted((results / "logs" / folder).rglob("*.log"))]
    return statuses, [problem for problem in map(_problem, [*logs, results / "logs" / "report.log"]) if problem]


def _read_plan(path: Path) -> dict[str, dict[str, list[str]]]:
    """Ids of Runs by study and chunk."""
    try:
        plan: dict[str, dict[str, list[str]]] = json.loads(path.read_text(encoding="utf-8"))
        listed = [ids for chunks in plan.values() for ids in chunks.values()]
        if all(isinstance(ids, list) and all(isinstance(run_id, str) for run_id in ids) for ids in listed):
            return plan
        problem = "a chunk is no list of ids"
    except (OSError, ValueError, AttributeError) as error:
        problem = str(error)
    raise PydynError(f"{path}: not a readable plan ({problem}); give the workflow's command once more")


def _chunk(
    results: Path, runs: list[AnyRun], today: Today, problem: str, sharing: Mapping[FeatureSet, int]
) -> list[RunStatus]:
    """Runs that one job trains in turn: where it ended with an error, it was in the first that is not complete."""
    found = [_run(results, run, today, sharing[run.features] if isinstance(run, HeadRun) else 1) for run in runs]
    unfinished = [index for index, status in enumerate(found) if status.state != "complete"]
    if problem and unfinished and not any(status.state == "in work" for status in found):
        named = [index for index in unfinished if problem.startswith(f"{runs[index].id}:")]
        unreadable = [index for index in unfinished if found[index].state == "failed"]
        begun = [index for index in unfinished if found[index].state == "begun"]
        index = (named or unreadable or begun or unfinished)[0]
        found[index] = replace(found[index], state="failed", problem=found[index].problem or problem)
    return found


def _run(results: Path, run: AnyRun, today: Today, n_sharing: int) -> RunStatus:
    try:
        return _readable_run(results, run, today, n_sharing)
    except RunError as error:
        return RunStatus(run, "failed", problem=str(error))


def _readable_run(results: Path, run: AnyRun, today: Today, n_sharing: int) -> RunStatus:
    directory = run.directory(results)
    if run.is_complete(results):
        path = directory / "summary.json"
        summary = _read(path, "run", "fingerprint", "code", "data")
        outdated = today.outdates(run, summary)
        return RunStatus(run, "outdated" if outdated else "complete", seconds=_seconds(path, summary, n_sharing))
    if _is_held(directory.with_name(f".{directory.name}.lock")):
        return RunStatus(run, "in work", _epochs_done(run, directory / "history.csv"))
    if not (directory / "run.json").exists():
        return RunStatus(run, "left")
    if today.outdates(run, _read(directory / "run.json", "run", "fingerprint")):
        return RunStatus(run, "outdated")
    if (directory / "summary.json").exists():
        # Other files are gone: all is made again, unless the job cannot tell whose they were.
        _read(directory / "summary.json", "fingerprint")
        return RunStatus(run, "left")
    # Without a checkpoint, what a history tells of is made again too.
    begun = (directory / "checkpoint.pt").exists()
    return RunStatus(run, "begun", _epochs_done(run, directory / "history.csv")) if begun else RunStatus(run, "left")


def _log_of(results: Path, study: str, chunk: str) -> Path:
    """As the rules name it: kinds of chunks have folders of their own."""
    kind, separator, rest = chunk.partition("__")
    if separator and kind in ("heads", "fine-tuning", "analysis"):
        return results / "logs" / study / kind / f"{rest}.log"
    return results / "logs" / study / f"{chunk}.log"


def _problem(log: Path) -> str:
    """The error that a log ends with; empty if it ends with none, or with the wish that the command be given again."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    last = lines[-1] if lines else ""
    if last.startswith(FAILED):
        return "" if ASKED_TO_STOP in last else f"{last.removeprefix(FAILED).strip()} ({log})"
    return f"{last} ({log})" if "Traceback (most recent call last):" in lines else ""


def _is_held(lock: Path) -> bool:
    """Whether a process trains the Run whose lock this is."""
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _epochs_done(run: AnyRun, history: Path) -> int:
    # Others write theirs at the end: one that is there already is what is left of an earlier result.
    if not isinstance(run, Run | FineTuningRun):
        return 0
    try:
        return max(0, len(history.read_bytes().splitlines()) - 1)
    except OSError:
        return 0


def _read(path: Path, *names: str) -> dict[str, Any]:
    """A summary or a Run's description, with these among what it holds. Raises RunError if it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        lacking = [name for name in names if name not in found]
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, str(error)) from None
    if not isinstance(found, dict) or lacking:
        raise _unreadable(path, f"it has no {(lacking or names)[0]!r}")
    return found


def _seconds(path: Path, summary: Mapping[str, Any], n_sharing: int) -> float:
    """That a complete Run took. Each kind of summary keeps them in its own way: one figure, parts of it, or costs by stage.

    `n_sharing` Runs have its features, which were made once: their seconds add up to what it took.
    """
    seconds = summary.get("seconds", summary.get("costs"))
    parts = dict(seconds) if isinstance(seconds, dict) else {"": seconds}
    if "search" in parts:
        parts.pop("training", None)  # of the learning rate that won, which is among those that the search tried
    total = 0.0
    for name, part in parts.items():
        value = part.get("seconds") if isinstance(part, dict) else part
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise _unreadable(path, f"seconds: {value!r} is no number")
        total += value / n_sharing if name in ("adaptation", "extraction") else value
    return total


def _unreadable(path: Path, problem: str) -> RunError:
    kind = "summary" if path.name == "summary.json" else "Run's description"
    return RunError(f"{path}: not a readable {kind} ({problem}); remove its folder and run again")


def _means(
    runs: Iterable[RunStatus],
) -> tuple[dict[str, float], dict[tuple[type[AnyRun], str], float]]:
    settings: dict[str, list[float]] = defaultdict(list)
    kinds: dict[tuple[type[AnyRun], str], list[float]] = defaultdict(list)
    for status in runs:
        if status.seconds is not None:
            settings[status.run.setting].append(status.seconds)
            kinds[type(status.run), status.run.dataset].append(status.seconds / status.run.most_epochs)
    return (
        {setting: fmean(values) for setting, values in settings.items()},
        {kind: fmean(values) for kind, values in kinds.items()},
    )


def describe(statuses: Iterable[StudyStatus], problems: Iterable[str], most_named: int = 10) -> str:
    """For a terminal: a line for each study, then what is outdated, in work or has failed; then the other jobs' problems."""
    states: list[State] = ["complete", "outdated", "in work", "begun", "failed", "left"]
    columns = "".join(f"{state:>10}" for state in states)
    lines = [f"{'study':<14} {'Runs':>6} {columns} {'trained':>12}  to go, one at a time"]
    named = []
    for status in statuses:
        counts = "".join(f"{status.count(state):>10}" for state in states)
        left = "unknown yet" if status.seconds_left is None else _clock(status.seconds_left)
        lines.append(f"{status.study:<14} {len(status.runs):>6} {counts} {_clock(status.seconds_spent):>12}  {left}")
        if outdated := [each.run.id for each in status.runs if each.state == "outdated"]:
            named.append(
                f"outdated: {len(outdated)} of {status.study}, such as {outdated[0]}: what is there came from another "
                "configuration, data or code and will be made again"
            )
        shown = [each for each in status.runs if each.state in ("in work", "failed")]
        for each in shown[:most_named]:
            so_far = f", epoch {each.epochs} of {each.run.most_epochs}" if each.epochs else ""
            named.append(f"{each.state}: {each.run.id}{so_far}{': ' + each.problem if each.problem else ''}")
        if len(shown) > most_named:
            named.append(f"... and {len(shown) - most_named} more of {status.study}")
    return "\n".join([*lines, *named, *(f"failed: {problem}" for problem in problems)])


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
