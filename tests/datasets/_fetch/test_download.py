"""Downloads go on after a cut, notice a changed or wrong file, and leave nothing half done under the final name."""

import hashlib

import pytest

from datasets._fetch import download as module
from datasets._fetch.download import DownloadError, download, split_of
from tests.datasets._fetch.web import Site, serve

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "CHUNK", 1000)
    with serve(Site({"/a.bin": CONTENT})) as running:
        yield running


def leftovers(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole(site, tmp_path):
    md5, sha256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
    for name, digest in (("a", f"md5:{md5}"), ("b", f"sha256:{sha256}"), ("c", "")):
        download(f"{site.address}/a.bin", tmp_path / "new" / name, digest=digest, size=len(CONTENT))
        assert (tmp_path / "new" / name).read_bytes() == CONTENT
    assert leftovers(tmp_path / "new") == [".c.digest", "a", "b", "c"]  # nobody publishes a digest of c


def test_a_cut_connection_goes_on_where_it_was(site, tmp_path):
    site.cut["/a.bin"] = [30_000, 20_000]
    download(f"{site.address}/a.bin", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert [wanted for _, wanted in site.asked] == ["", "bytes=30000-", "bytes=50000-"]


def test_a_later_call_goes_on_after_all_attempts_failed(site, tmp_path):
    url = f"{site.address}/a.bin"
    site.cut["/a.bin"] = [5_000] + [0] * module.ATTEMPTS
    with pytest.raises(DownloadError, match="5,000 bytes are kept"):
        download(url, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert split_of(tmp_path / "a", url).stat().st_size == 5_000
    site.cut.clear()
    download(url, tmp_path / "a")
    assert site.asked[-1][1] == "bytes=5000-"
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert leftovers(tmp_path) == [".a.digest", "a"]


def test_what_came_from_another_address_goes_when_the_file_is_there(site, tmp_path):
    part = split_of(tmp_path / "a", f"{site.address}/other.bin")
    for name in (part.name, f"{part.name}.tag", split_of(tmp_path / "b", site.address).name):
        (tmp_path / name).touch()
    download(f"{site.address}/a.bin", tmp_path / "a")
    assert leftovers(tmp_path) == [".a.digest", split_of(tmp_path / "b", site.address).name, "a"]


def test_a_file_of_this_name_always_has_a_digest(site, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(tmp_path), "replace", killed)
    monkeypatch.setattr(module, "write_text", lambda path, text: path.write_text(text, encoding="utf-8"))
    with pytest.raises(KeyboardInterrupt):
        download(f"{site.address}/a.bin", tmp_path / "a")
    monkeypatch.undo()
    assert (tmp_path / ".a.digest").is_file() and not (tmp_path / "a").exists()
    download(f"{site.address}/a.bin", tmp_path / "a")
    assert leftovers(tmp_path) == [".a.digest", "a"]


def test_progress_resets_the_count_of_failures(site, tmp_path):
    site.cut["/a.bin"] = [1_000] * (module.ATTEMPTS + 3)
    download(f"{site.address}/a.bin", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_start(site, tmp_path, ranges):
    url = f"{site.address}/a.bin"
    site.cut["/a.bin"] = [5_000] + [0] * module.ATTEMPTS
    with pytest.raises(DownloadError):
        download(url, tmp_path / "a")
    site.cut.clear()
    site.ranges = ranges
    site.files["/a.bin"] = CONTENT[::-1]
    download(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("kept", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_that_is_as_long_as_the_file_or_longer(site, tmp_path, kept):
    url = f"{site.address}/a.bin"
    split_of(tmp_path / "a", url).write_bytes((CONTENT + b"12345")[:kept])
    download(url, tmp_path / "a", digest=f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_parts_of_two_addresses_are_not_mixed(site, tmp_path):
    site.files["/b.bin"] = CONTENT[::-1]
    site.cut["/a.bin"] = [5_000] + [0] * module.ATTEMPTS
    with pytest.raises(DownloadError):
        download(f"{site.address}/a.bin", tmp_path / "a")
    download(f"{site.address}/b.bin", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    ("expected", "reason"),
    [({"digest": "md5:" + "0" * 32}, "expected MD5 0000"), ({"size": 7}, "expected 7 bytes, got 102,400")],
)
def test_a_wrong_file_is_not_kept(site, tmp_path, expected, reason):
    with pytest.raises(DownloadError, match=reason):
        download(f"{site.address}/a.bin", tmp_path / "a", **expected)
    assert leftovers(tmp_path) == []


def test_a_dead_link_is_not_tried_again(site, tmp_path):
    with pytest.raises(DownloadError, match="the server answers 404"):
        download(f"{site.address}/gone.bin", tmp_path / "a")
    assert len(site.asked) == 1
    assert leftovers(tmp_path) == []


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    with serve(Site()) as site:
        address = site.address
    with pytest.raises(DownloadError, match="refused"):
        download(f"{address}/a.bin", tmp_path / "a")
