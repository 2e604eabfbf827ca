"""Files that are either whole or absent: written under a temporary name, flushed to disk, renamed."""

import errno
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
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def whole_or_absent(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, flush it to disk and rename it to `path`.

    If the block raises, the temporary file is removed and `path` is as it was. Left-overs of killed writers of the same
    file on this machine are removed first, unless their process still lives. Raises OSError with the file's name when there is
    no room for it, whatever the library that writes makes of that.
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
    except Exception as error:
        if (number := _no_room(error)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def walk(folder: Path | str) -> Iterator[tuple[str, bool]]:
    """All files and folders below, as relative paths with `/`, and whether each is a folder.

    Links are followed, but for those to a folder on the way to them, which would never end. Links that lead nowhere are files
    that cannot be read: that they are not there must not go unsaid.
    """
    yield from _walk(Path(folder), "", frozenset())


def _walk(folder: Path, prefix: str, above: frozenset[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    status = folder.stat()
    if (identity := (status.st_dev, status.st_ino)) in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            target = Path(entry) if entry.is_symlink() else entry  # which raises of a link to itself
            if target.is_dir():
                yield prefix + entry.name, True
                yield from _walk(Path(entry), f"{prefix}{entry.name}/", above | {identity})
            elif target.is_file() or (entry.is_symlink() and not Path(entry).exists()):
                yield prefix + entry.name, False


def in_a_line(error: OSError) -> str:
    """What the system said, and of which file, for a user: a full disk, a folder in place of a file, no permission."""
    advice = "; make room and give the same command again, which goes on from there" if error.errno in NO_ROOM else ""
    return f"{error.filename or 'a file'}: {error.strerror or error}{advice}"


def append_text(path: Path, text: str) -> None:
    """Add to a text file (UTF-8) and bring it to disk. Raises OSError with the file's name when there is no room for it."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path: Path | str, text: str) -> None:
    """Write a whole text file (UTF-8), or leave `path` as it was."""
    with whole_or_absent(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _no_room(error: BaseException | None) -> int | None:
    """The system's number for a full disk or a used-up quota, if that is what an error comes from; else None.

    Libraries that write files raise exceptions of their own, with the system's words in them.
    """
    while error is not None:
        for number in NO_ROOM:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def _remove_left_overs(path: Path) -> None:
    # Glob's own characters may be part of a file's name.
    for left_over in path.parent.glob(f".{glob.escape(path.name)}{TEMPORARY_MARK}{glob.escape(HOST)}-*"):
        process = left_over.name.rpartition("-")[2]
        if not (process.isdigit() and Path(f"/proc/{process}").exists()):
            left_over.unlink(missing_ok=True)
