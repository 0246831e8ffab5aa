"""The folder of uploads."""

import os
import stat

import pytest

from dassl.app import uploads as room
from dassl.app.uploads import Uploads, uploads
from dassl.utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """A folder with an upload."""
    place = tmp_path / "uploads"
    (place / "digest").mkdir(parents=True)
    (place / "digest" / "a.png").write_bytes(b"abc")
    return place


def test_an_upload_is_deleted_once_it_was_used(folder):
    with Uploads(folder).taken(str(folder / "digest" / "a.png")) as path:
        assert path.read_bytes() == b"abc"
    assert list(folder.iterdir()) == []


def test_and_when_its_use_failed(folder):
    with pytest.raises(ValueError, match="broken"), Uploads(folder).taken(str(folder / "digest" / "a.png")):
        raise ValueError("broken")
    assert list(folder.iterdir()) == []


def test_nothing_outside_is_read_or_deleted(folder, tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (folder / "link.png").symlink_to(secret)
    for path in (secret, folder / ".." / "secret.png", folder / "link.png", folder / "gone.png", folder):
        with pytest.raises(UserError, match="no longer here"), Uploads(folder).taken(str(path)):
            pytest.fail("it was handed out")
    assert secret.read_bytes() == b"secret"


def test_too_many_bytes(folder, monkeypatch):
    monkeypatch.setattr(room, "MOST_BYTES", 2)
    with pytest.raises(UserError, match="larger than"), Uploads(folder).taken(str(folder / "digest" / "a.png")):
        pytest.fail("it was handed out")
    assert list(folder.iterdir()) == []


def test_what_nobody_asks_about_is_swept_away(folder):
    (folder / "cut off").write_bytes(b"new")
    os.utime(folder / "digest" / "a.png", (0, 0))
    Uploads(folder).sweep()
    assert [path.name for path in folder.iterdir()] == ["cut off"]


def test_the_folder_is_the_owners_and_goes():
    with uploads() as found:
        assert stat.S_IMODE(found.folder.stat().st_mode) == 0o700
        (found.folder / "left.png").write_bytes(b"left")
    assert not found.folder.exists()
