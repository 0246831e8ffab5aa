"""Unpacking writes inside the folder only, overwrites nothing and goes on after an interruption."""

import io
import tarfile
import zipfile

import pytest

from dassl.utils.errors import UserError
from datasets._fetch.unpack import is_archive, unpack

FILES = {"top/a.txt": b"first", "top/inner/b.txt": b"second" * 1000, "c.txt": b""}
KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def pack(path, files):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = path.suffix.removeprefix(".")
    with tarfile.open(path, "w:" + ("" if mode == "tar" else mode)) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def content_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=KINDS)
def archive(request, tmp_path):
    return pack(tmp_path / f"data.{request.param}", FILES)


def test_all_files_come_out_and_again(archive, tmp_path):
    assert is_archive(archive)
    assert unpack(archive, tmp_path / "out") == 3
    assert content_of(tmp_path / "out") == FILES
    (tmp_path / "out" / "top" / "a.txt").unlink()  # as if the first call had been interrupted
    assert unpack(archive, tmp_path / "out") == 3
    assert content_of(tmp_path / "out") == FILES


def test_a_part_of_the_archive_can_be_taken(archive, tmp_path):
    assert unpack(archive, tmp_path / "out", take="top/inner") == 1
    assert content_of(tmp_path / "out") == {"b.txt": FILES["top/inner/b.txt"]}
    with pytest.raises(UserError, match="holds no files below elsewhere"):
        unpack(archive, tmp_path / "out", take="elsewhere")


@pytest.mark.parametrize("other", [b"FIRST", b"first and more", b"fir"])
def test_another_file_of_the_same_name_is_not_overwritten(archive, tmp_path, other):
    place = tmp_path / "out" / "top" / "a.txt"
    place.parent.mkdir(parents=True)
    place.write_bytes(other)
    with pytest.raises(UserError, match="is there already"):
        unpack(archive, tmp_path / "out")
    assert place.read_bytes() == other


@pytest.mark.parametrize("name", ["../evil", "top/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:/evil"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_entry_that_leaves_the_folder_is_refused(tmp_path, kind, name):
    archive = pack(tmp_path / f"evil.{kind}", {"good.txt": b"1", name: b"2"})
    with pytest.raises(UserError, match="leaves the folder"):
        unpack(archive, tmp_path / "deep" / "out")
    assert set(content_of(tmp_path)) <= {archive.name, "deep/out/good.txt"}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path, kind):
    archive = tmp_path / "evil.tar"
    with tarfile.open(archive, "w") as opened:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        opened.addfile(entry)
    with pytest.raises(UserError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_in_a_zip_are_refused_before_anything_is_written(tmp_path):
    archive = pack(tmp_path / "evil.zip", {"good.txt": b"1"})
    with zipfile.ZipFile(archive, "a") as opened:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        opened.writestr(entry, "/etc")
    with pytest.raises(UserError, match="is a link or a device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_that_is_there_is_not_written_through(tmp_path):
    """A file that an archive would put where a link stands belongs to somebody else."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c.txt").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="is there already"):
        unpack(pack(tmp_path / "data.zip", {"c.txt": b"1"}), tmp_path / "out")
    assert not (tmp_path / "victim").exists()


def test_system_rubbish_is_left_out(tmp_path):
    archive = pack(tmp_path / "mac.zip", {"a/x.jpg": b"1", "__MACOSX/a/._x.jpg": b"2", "a/.DS_Store": b"3"})
    assert unpack(archive, tmp_path / "out") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_says_so_and_leaves_no_half_file(tmp_path, kind):
    noise = bytes((7 * number * number + number // 3) % 251 for number in range(60_000))
    archive = pack(tmp_path / f"data.{kind}", {"a.bin": noise, "b.bin": noise[::-1]})
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="no whole zip or tar archive"):
        unpack(archive, tmp_path / "out")
    assert set(content_of(tmp_path)) <= {archive.name, "out/a.bin"}


def test_what_is_no_archive(tmp_path):
    page = tmp_path / "data.zip"
    page.write_text("<html>please log in</html>")
    assert not is_archive(page)
    with pytest.raises(UserError, match="no whole zip or tar archive"):
        unpack(page, tmp_path / "out")
