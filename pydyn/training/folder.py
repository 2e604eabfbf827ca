"""A Run's folder: one process at a time works in it, what is complete stays, what came of other things is kept aside."""

import contextlib
import fcntl
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pydyn.errors import RunError
from pydyn.files import write_text
from pydyn.studies.run import AnyRun

Log = Callable[[str], None]


def fingerprint_of(run: AnyRun, *depends_on: str) -> str:
    """16 hex digits that change with the Run and with whatever else its result depends on, as digests of data and code."""
    return hashlib.sha256(" ".join([run.digest, *depends_on]).encode()).hexdigest()[:16]


@contextlib.contextmanager
def open_folder(run: AnyRun, results: Path, fingerprint: str, log: Log) -> Iterator[Path | None]:
    """Hold a Run's folder while its result is made; None if that is complete already.

    What the folder holds of another fingerprint, or of a complete Run that has lost files, moves to the study's `superseded`.
    Waits for another process that works on the same Run.

    Raises RunError if the folder holds what cannot be told.
    """
    directory = run.directory(results)
    with _only_one(directory, log):
        begun = _begun(directory)
        if begun not in (None, fingerprint):
            kept = _set_aside(run, results, str(begun))
            log(f"{run.id}: what was there came from another configuration, data or code; kept in {kept}")
        elif (directory / "summary.json").exists():
            if _fingerprint_in(directory / "summary.json") != fingerprint:
                raise RunError(
                    f"{directory / 'summary.json'}: is not of the Run that its folder holds; remove the folder and run again"
                )
            if run.is_complete(results):
                yield None
                return
            kept = _set_aside(run, results, fingerprint)
            log(f"{run.id}: some of its files are gone, so it is made again; what was left is kept in {kept}")
        _describe(run, results, fingerprint)
        yield directory


def begin_anew(run: AnyRun, results: Path, fingerprint: str) -> Path:
    """Keep aside what a folder that is held open holds of its Run so far; gives where."""
    kept = _set_aside(run, results, fingerprint)
    _describe(run, results, fingerprint)
    return kept


def fingerprint_in(run: AnyRun, results: Path) -> str:
    """The fingerprint of what a complete Run's folder holds."""
    return _fingerprint_in(run.directory(results) / "run.json")


def _begun(directory: Path) -> str | None:
    """The fingerprint of what a Run's directory holds; None if nothing has begun there."""
    path = directory / "run.json"
    if not path.exists():
        return None
    found = _fingerprint_in(path)
    if not re.fullmatch("[0-9a-f]{16}", found):
        raise RunError(
            f"{path}: not a Run's description (fingerprint {found!r}); remove its folder and run again"
        ) from None
    return found


def _fingerprint_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        kind = "summary" if path.name == "summary.json" else "Run's description"
        raise RunError(f"{path}: not a readable {kind} ({error}); remove its folder and run again") from None


@contextlib.contextmanager
def _only_one(directory: Path, log: Log) -> Iterator[None]:
    """Hold a Run's lock. The system frees it when its process ends, however that ends."""
    # Beside the folder and not in it: the folder may be set aside as a whole.
    directory.parent.mkdir(parents=True, exist_ok=True)
    with directory.with_name(f".{directory.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"{directory}: another process trains this Run; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        directory.mkdir(exist_ok=True)
        yield


def _describe(run: AnyRun, results: Path, fingerprint: str) -> None:
    content = json.dumps({"fingerprint": fingerprint, "run": run.to_dict()}, indent=2) + "\n"
    write_text(run.directory(results) / "run.json", content)


def _set_aside(run: AnyRun, results: Path, fingerprint: str) -> Path:
    """Move a Run's folder, in one step, to where nothing looks for it but people."""
    directory, target = run.directory(results), results / run.study / "superseded" / run.id / fingerprint
    while target.exists():
        target = target.with_name(target.name + "+")
    target.parent.mkdir(parents=True, exist_ok=True)
    directory.rename(target)
    directory.mkdir()
    return target
