import io
import struct
import tarfile
import zipfile

import pytest

from pydyn.data.archives import check_archive, scan_archive, stream_archive
from pydyn.errors import DataError

WHERE = "data set 'x'"
SUFFIXES = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip"]


def tar_with(path, *members):
    """Write an archive of (name, type, content) members."""
    with tarfile.open(path, "w") as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(content)
            info.linkname = "elsewhere"
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_kind_is_listed_and_streamed(make_folder, pack, suffix):
    folder = make_folder({"a": 3, "b": 2})
    path = pack(folder, suffix)
    check_archive(WHERE, path)
    contents = scan_archive(WHERE, path, wanted=["a/001.png"])
    files = [f"pictures/{name}" for name in ("a/000.png", "a/001.png", "a/002.png", "b/000.png", "b/001.png")]
    assert contents.files == files
    assert {"pictures", "pictures/a", "pictures/b"} <= contents.folders
    assert list(contents.texts) == ["pictures/a/001.png"]
    wanted = [1, 4]
    assert list(stream_archive(WHERE, path, wanted)) == [(folder.parent / files[i]).read_bytes() for i in wanted]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_archives_are_refused(make_folder, pack, suffix, share):
    path = pack(make_folder({"a": 10, "b": 10}, size=(40, 40)), suffix)
    whole = path.read_bytes()
    if suffix == ".tar":
        # What follows the end-of-archive mark is padding.
        whole = whole.rstrip(b"\0")
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"data set 'x': .*pictures.* cannot be read; it is truncated, corrupt"):
        scan_archive(WHERE, path)


def test_tar_cut_between_two_members_is_refused(make_folder, pack):
    path = pack(make_folder({"a": 3, "b": 3}))
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[5].offset
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="truncated"):
        scan_archive(WHERE, path)


def test_tar_with_a_spoilt_header_is_refused(make_folder, pack):
    path = pack(make_folder({"a": 3, "b": 3}))
    with tarfile.open(path) as archive:
        start = archive.getmembers()[5].offset
    content = bytearray(path.read_bytes())
    content[start : start + 100] = b"\xff" * 100
    path.write_bytes(content)
    with pytest.raises(DataError, match="corrupt"):
        scan_archive(WHERE, path)


def test_damage_between_the_passes_is_refused(make_folder, pack):
    path = pack(make_folder({"a": 3, "b": 3}, size=(40, 40)))
    n_files = len(scan_archive(WHERE, path).files)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(DataError, match="truncated"):
        list(stream_archive(WHERE, path, range(n_files)))


def test_zip_member_with_a_wrong_checksum_is_refused(make_folder, pack):
    path = pack(make_folder({"a": 2, "b": 2}), ".zip")
    content = bytearray(path.read_bytes())
    content[content.index(b"\x89PNG") + 30] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match="corrupt"):
        list(stream_archive(WHERE, path, range(4)))


@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/etc/evil.png"])
@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_members_that_leave_the_archive_are_refused(tmp_path, name, suffix):
    path = tmp_path / f"evil{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"x")
    else:
        tar_with(path, (name, tarfile.REGTYPE, b"x"))
    with pytest.raises(DataError, match="leaves the archive") as caught:
        scan_archive(WHERE, path)
    assert repr(name) in str(caught.value)


def test_backslashes_in_a_zip_separate_folders(tmp_path):
    path = tmp_path / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a\\1.png", b"x")
        archive.writestr("..\\evil.png", b"x")
    with pytest.raises(DataError, match="leaves the archive"):
        scan_archive(WHERE, path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    path = tar_with(tmp_path / "x.tar", ("a/1.png", tarfile.REGTYPE, b"x"), ("a/2.png", kind, b""))
    with pytest.raises(DataError, match=r"'a/2\.png', which is a link or a device"):
        scan_archive(WHERE, path)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("a/2.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match=r"'a/2\.png', which is a link"):
        scan_archive(WHERE, tmp_path / "x.zip")


def test_spoilt_names_in_a_zip_are_refused(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/é.png", b"x")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xc3\xff"))  # no UTF-8, as the zip says it is
    for read in (check_archive, scan_archive):
        with pytest.raises(DataError, match=r"x\.zip cannot be read; it is truncated, corrupt"):
            read(WHERE, path)


@pytest.mark.parametrize(("key", "value"), [("GNU.sparse.size", "x"), ("GNU.sparse.map", "0,x")])
def test_numbers_in_a_tar_that_are_none_are_refused(tmp_path, key, value):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a/b.png")
        info.pax_headers = {key: value}
        archive.addfile(info)
    with pytest.raises(DataError, match=r"x\.tar cannot be read; it is truncated, corrupt"):
        scan_archive(WHERE, path)


def test_headers_nested_without_end_are_refused(tmp_path):
    path = tar_with(tmp_path / "x.tar", ("a/b.png", tarfile.REGTYPE, b"x"))
    header = tarfile.TarInfo("././@LongLink")
    header.type = tarfile.GNUTYPE_LONGNAME
    path.write_bytes(header.tobuf(tarfile.GNU_FORMAT) * 2000 + path.read_bytes())
    with pytest.raises(DataError, match=r"x\.tar cannot be read; it is truncated, corrupt"):
        scan_archive(WHERE, path)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_headers_longer_than_any_name_are_refused(tmp_path, kind):
    path = tar_with(tmp_path / "x.tar", ("a/b.png", tarfile.REGTYPE, b"x"), ("././@LongLink", kind, b"a" * 2**21))
    with pytest.raises(DataError, match=r"x\.tar cannot be read.*\(a header of 2,097,152 bytes"):
        scan_archive(WHERE, path)


def test_encrypted_zips_are_refused(make_folder, pack):
    path = pack(make_folder({"a": 1, "b": 1}), ".zip")
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    struct.pack_into("<H", content, start + 8, 1)
    path.write_bytes(content)
    with pytest.raises(DataError, match="is encrypted"):
        scan_archive(WHERE, path)


def test_a_name_held_twice_is_refused(tmp_path):
    path = tar_with(tmp_path / "x.tar", ("a/1.png", tarfile.REGTYPE, b"x"), ("./a/1.png", tarfile.REGTYPE, b"y"))
    with pytest.raises(DataError, match=r"holds 'a/1.png' twice"):
        scan_archive(WHERE, path)


def test_members_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pydyn.data.archives.MAX_MEMBER_BYTES", 3)
    with pytest.raises(DataError, match=r"'a/1.png' of 4 bytes"):
        scan_archive(WHERE, tar_with(tmp_path / "x.tar", ("a/1.png", tarfile.REGTYPE, b"abcd")))


@pytest.mark.parametrize("name", ["x.rar", "x.7z", "x.tar.zst", "x"])
def test_unknown_suffixes_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError, match=r"no supported archive; its name must end in \.tar"):
        check_archive(WHERE, tmp_path / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_contents_that_belie_the_suffix_are_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"neither tar nor zip" * 100)
    with pytest.raises(DataError, match="not what its suffix says"):
        check_archive(WHERE, path)
