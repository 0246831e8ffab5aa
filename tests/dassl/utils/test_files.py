"""Files appear whole; what killed processes left beside them goes with the next writer, and nothing else does."""

import pytest

from dassl.engine.checkpoint import BEST, NAMES, epoch_file
from dassl.utils import files
from dassl.utils.files import atomic_path, remove_unfinished, temporary_folder
from dassl.utils.owners import here, mark
from tests.dassl.utils.test_owners import gone


@pytest.fixture(scope="module")
def dead():
    return gone()


@pytest.fixture(autouse=True)
def new_process(monkeypatch):
    """As if this process had not written yet."""
    monkeypatch.setattr(files, "_tidied", set())


def names(folder):
    return {path.name for path in folder.iterdir()}


def write(path, text="new"):
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def test_a_file_has_its_name_when_it_is_whole(tmp_path):
    path = tmp_path / "a.json"
    write(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        raise ZeroDivisionError
    assert names(tmp_path) == {"a.json"} and path.read_text(encoding="utf-8") == "old"


def test_what_dead_processes_left_goes(tmp_path, dead):
    (tmp_path / f".a.json.x1y2.{dead}.tmp").write_text("half", encoding="utf-8")
    (tmp_path / f".set.x1y2.{dead}.tmp" / "images").mkdir(parents=True)
    (tmp_path / f".set.x1y2.{dead}.tmp" / "images" / "1.png").touch()
    write(tmp_path / "b.json")
    assert names(tmp_path) == {"b.json"}


@pytest.mark.parametrize("owner", ["alive", "elsewhere", "unknown", "no mark"])
def test_what_is_not_certainly_left_stays(tmp_path, dead, owner):
    marks = {
        "alive": f".{mark()}.tmp",
        "elsewhere": f".{dead.replace(here(), '0' * 8)}.tmp",
        "unknown": ".tmp",
        "no mark": "",
    }
    name = f".a.json.x1y2{marks[owner]}"
    (tmp_path / name).touch()
    (tmp_path / f"notes.{dead}.tmp").touch()
    write(tmp_path / "a.json")
    assert names(tmp_path) == {"a.json", name, f"notes.{dead}.tmp"}


def test_links_are_removed_and_not_what_they_name(tmp_path, dead):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "kept").touch()
    (tmp_path / f".a.x.{dead}.tmp").symlink_to(mine)
    write(tmp_path / "a")
    assert names(tmp_path) == {"a", "mine"} and names(mine) == {"kept"}


def test_a_folder_of_this_process_stays_while_others_write(tmp_path):
    folder = temporary_folder(tmp_path / "new" / "set")
    files._tidied.clear()
    write(tmp_path / "new" / "a")
    assert folder.is_dir() and folder.parent == tmp_path / "new"


def test_the_one_writer_removes_what_anybody_left_of_its_names(tmp_path):
    left = [".000001.npy.left", ".000002.npy.abc.1f-7-9.tmp"]
    for name in ("000001.npy", ".lock", ".about.json.left", *left):
        (tmp_path / name).write_bytes(b"half")
    remove_unfinished(tmp_path, "*.npy")
    assert names(tmp_path) == {"000001.npy", ".lock", ".about.json.left"}


def test_unfinished_checkpoints_are_of_these_names(tmp_path):
    for path in (tmp_path / epoch_file(3), tmp_path / BEST):
        with atomic_path(path) as temporary:
            (tmp_path / f"{temporary.name}-of-another").write_bytes(b"half")
            temporary.write_bytes(b"whole")
    remove_unfinished(tmp_path, NAMES)
    assert names(tmp_path) == {epoch_file(3), BEST}
