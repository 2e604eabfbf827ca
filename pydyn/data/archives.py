"""Tar and zip archives, listed and streamed in their own order without unpacking to disk."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, Self

from pydyn.errors import DataError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
SUFFIXES = (*TAR_SUFFIXES, ".zip")
# A member is held in memory while it is decoded; no image of a size worth training on comes near this.
MAX_MEMBER_BYTES = 512 * 2**20
# What tells a member's name and attributes, where a tar's own fields are too short for them.
MAX_HEADER_BYTES = 2**20
_LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True)
class Contents:
    """What an archive holds; paths are relative, with `/` between parts."""

    files: list[str] = field(default_factory=list)
    folders: set[str] = field(default_factory=set)
    texts: dict[str, bytes] = field(default_factory=dict)
    """The bytes of the files that were asked for."""


@dataclass(frozen=True)
class _Member:
    name: str
    kind: Literal["file", "folder", "link or device"]
    n_bytes: int
    read: Callable[[], bytes]


def check_archive(where: str, path: Path) -> None:
    """Refuse, without reading on, a file whose suffix or beginning is not that of a supported archive."""
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{where}: {path} is no supported archive; its name must end in {', '.join(SUFFIXES)}")
    with _readable(where, path):
        if _is_zip(path):
            zipfile.ZipFile(path).close()
        else:
            tarfile.open(path, tarinfo=_Header).close()


def scan_archive(where: str, path: Path, wanted: Collection[str] = ()) -> Contents:
    """List an archive, reading it to its end, and keep the bytes of every file whose path ends in one of `wanted`.

    Raises DataError, which begins with `where`, if the archive is truncated or corrupt, is encrypted, names a file
    twice, or has a member that is a link, a device, too large or outside the archive.
    """
    contents = Contents()
    seen: set[str] = set()
    wanted_parts = [PurePosixPath(name).parts for name in wanted]
    with _readable(where, path):
        for member in _members(path):
            name = _safe_name(where, path, member)
            if member.kind == "folder":
                contents.folders.add(name)
                continue
            if name in seen:
                raise DataError(f"{where}: {path} holds {name!r} twice; repack it")
            seen.add(name)
            contents.files.append(name)
            contents.folders.update(map(str, PurePosixPath(name).parents[:-1]))
            if any(PurePosixPath(name).parts[-len(parts) :] == parts for parts in wanted_parts):
                contents.texts[name] = member.read()
    return contents


def stream_archive(where: str, path: Path, positions: Iterable[int]) -> Iterator[bytes]:
    """Give the bytes of the files at these ascending positions in `scan_archive(...).files`, reading front to back.

    Raises DataError, which begins with `where`, if the archive is truncated or corrupt.
    """
    remaining = iter(positions)
    position = next(remaining, None)
    with _readable(where, path):
        files = (member for member in _members(path) if member.kind == "file")
        for current, member in enumerate(files):
            if position is None:
                return
            if current == position:
                yield member.read()
                position = next(remaining, None)
    if position is not None:
        raise DataError(f"{where}: {path} changed while it was read; prepare again")


def _is_zip(path: Path) -> bool:
    return path.name.lower().endswith(".zip")


def _safe_name(where: str, path: Path, member: _Member) -> str:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\0" in member.name:
        raise DataError(
            f"{where}: {path} holds {member.name!r}, which leaves the archive; repack it with relative paths"
        )
    if member.kind == "link or device":
        raise DataError(
            f"{where}: {path} holds {member.name!r}, which is a link or a device; repack it with plain files "
            "(tar --dereference --hard-dereference)"
        )
    if member.n_bytes > MAX_MEMBER_BYTES:
        raise DataError(
            f"{where}: {path} holds {member.name!r} of {member.n_bytes:,} bytes; at most {MAX_MEMBER_BYTES:,} are "
            "allowed"
        )
    return str(name)


def _members(path: Path) -> Iterator[_Member]:
    return _zip_members(path) if _is_zip(path) else _tar_members(path)


class _Header(tarfile.TarInfo):
    """A header of a tar, which tarfile reads into memory whole before anything can be asked of it: not one without end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _LONG_HEADERS and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {header.size:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed")
        return header


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, tarinfo=_Header) as tar:
        while (info := tar.next()) is not None:
            # tarfile keeps every header it has read; nothing here goes back.
            tar.members.clear()  # type: ignore[attr-defined]
            kind: Literal["file", "folder", "link or device"] = (
                "file" if info.isreg() else "folder" if info.isdir() else "link or device"
            )
            yield _Member(info.name, kind, info.size, lambda info=info: _read_tar_member(tar, info))  # type: ignore[misc]
        _require_end(tar)


def _read_tar_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return file.read() if file is not None else b""


def _require_end(tar: tarfile.TarFile) -> None:
    """Refuse an archive cut off between two members or spoilt in a header: tarfile takes both for its end."""
    if tar.fileobj is None:
        raise tarfile.ReadError("closed")
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no end-of-archive mark where the last member ends")
    # Checksums of compressed archives are at their very end.
    while tar.fileobj.read(2**20):
        pass


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.flag_bits & 1:
                raise zipfile.BadZipFile(f"{info.filename!r} is encrypted, which is not supported")
            kind: Literal["file", "folder", "link or device"] = "folder" if info.is_dir() else "file"
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "link or device"
            name = info.filename.replace("\\", "/")
            yield _Member(name, kind, info.file_size, lambda info=info: archive.read(info))  # type: ignore[misc]


@contextmanager
def _readable(where: str, path: Path) -> Iterator[None]:
    """Turn what the archive libraries raise on damage into a DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    # On spoilt names, numbers and nested headers they raise almost anything.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise DataError(
            f"{where}: {path} cannot be read; it is truncated, corrupt or not what its suffix says ({reason}); "
            "fetch it again"
        ) from error
