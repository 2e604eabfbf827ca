"""Files that are either whole or absent: written under a temporary name, flushed to disk, renamed."""

import glob
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a killed writer may leave behind. Nothing reads such a name, and the next writer of the same file removes it.
TEMPORARY_MARK = ".pydyn-part-"
# Of other machines that share a file system one cannot tell which processes live.
HOST = platform.node()


@contextmanager
def whole_or_absent(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, flush it to disk and rename it to `path`.

    If the block raises, the temporary file is removed and `path` is as it was. Left-overs of killed writers of the same
    file on this machine are removed first, unless their process still lives.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_overs(path)
    temporary = path.with_name(f".{path.name}{TEMPORARY_MARK}{HOST}-{os.getpid()}")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)  # some writers make files that nobody else may read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write a whole text file (UTF-8), or leave `path` as it was."""
    with whole_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _remove_left_overs(path: Path) -> None:
    # Glob's own characters may be part of a file's name.
    for left_over in path.parent.glob(f".{glob.escape(path.name)}{TEMPORARY_MARK}{glob.escape(HOST)}-*"):
        process = left_over.name.rpartition("-")[2]
        if not (process.isdigit() and Path(f"/proc/{process}").exists()):
            left_over.unlink(missing_ok=True)
