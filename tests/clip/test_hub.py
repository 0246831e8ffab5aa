"""Files of the Hub, without a network: a stand-in for its one function that downloads."""

import httpx
import pytest
from huggingface_hub import errors

import clip
from clip import hub


def answer(status):
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co/a/b"))


@pytest.fixture
def site(monkeypatch, tmp_path):
    """Files by (repository, name), or an error for all; returns what was asked for."""
    files, asked = {}, []

    def download(repository, file, *, local_dir=None):
        asked.append(file)
        if isinstance(files.get("error"), Exception):
            raise files["error"]
        if (repository, file) not in files:
            raise errors.RemoteEntryNotFoundError("no such file", response=answer(404))
        folder = tmp_path / "cache" if local_dir is None else local_dir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(files[repository, file])
        return str(folder / file)

    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "check_reachable", lambda: None)
    return files, asked


def test_the_first_file_that_is_there_is_fetched(site, tmp_path):
    files, asked = site
    files["a/b", "two"] = b"2"
    path = hub.fetch("a/b", ("one", "two", "three"), name="x", folder=tmp_path / "own")
    assert path == tmp_path / "own" / "two" and path.read_bytes() == b"2" and asked == ["one", "two"]
    assert hub.fetch_others("a/b", ("one", "two"), None) == [tmp_path / "cache" / "two"]
    with pytest.raises(clip.BackboneError, match=r"https://huggingface.co/a/b has none of the files one, so x cannot"):
        hub.fetch("a/b", ("one",), name="x")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.LocalEntryNotFoundError("no\nmore"), r"x \(one of https://huggingface.co/a/b\) .*failed \(no\)"),
        (ConnectionError("refused"), r"failed \(refused\); .*`python -m clip fetch x --to FOLDER`.*WEIGHTS FOLDER"),
        (errors.GatedRepoError("gated", response=answer(403)), "is gated: accept its terms there, and log in"),
        (errors.RepositoryNotFoundError("none", response=answer(404)), "does not exist or is private"),
        (errors.HfHubHTTPError("busy", response=answer(503)), r"failed \(busy\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_fetched_is_one_line(site, error, message):
    site[0]["error"] = error
    with pytest.raises(clip.BackboneError, match=message) as caught:
        hub.fetch("a/b", ("one",), name="x")
    assert "\n" not in str(caught.value)


def test_without_a_network_it_is_asked_for_an_answer_once(monkeypatch):
    class Session:
        asked = 0

        def head(self, address, timeout):
            self.asked += 1
            if self.asked == 1:
                raise RuntimeError("name or service\nnot known")

    session = Session()
    monkeypatch.setattr(hub.huggingface_hub.utils, "get_session", lambda: session)
    monkeypatch.setattr(hub.huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", lambda *each, **more: "/cache/one")
    hub.check_reachable.cache_clear()
    with pytest.raises(clip.BackboneError, match=r"failed \(name or service\); on a machine with a network run"):
        hub.fetch("a/b", ("one", "two"), name="x")
    assert session.asked == 1
    assert [str(hub.fetch("a/b", ("one",), name="x")) for _ in range(2)] == ["/cache/one"] * 2
    assert session.asked == 2, "an answer is remembered, a failure is not"
    hub.check_reachable.cache_clear()


def test_a_folder_comes_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(hub.huggingface_hub, "try_to_load_from_cache", lambda repository, file: f"/cache/{file}")
    assert str(hub.find("a/b", ("one",), [tmp_path])) == "/cache/one"
    (tmp_path / "one").touch()
    assert hub.find("a/b", ("one",), [tmp_path]) == tmp_path / "one"
    monkeypatch.setattr(hub.huggingface_hub, "try_to_load_from_cache", lambda repository, file: None)
    assert hub.find("a/b", ("two",), [tmp_path]) is None


def test_names():
    assert hub.slug("hf-hub:a/b") == "a--b" and hub.slug("ViT-B-16:x") == "ViT-B-16--x"
    assert hub.is_repository("a/b.c-d") and not any(map(hub.is_repository, ("a", "a/b/c", "../b", "a/..")))
