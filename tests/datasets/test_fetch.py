"""Fetching from a server on this machine: what comes, where it lands, what is left alone, what is left to do."""

import hashlib
import sys
import types
from pathlib import Path

import pytest
from yaml import safe_load

from dassl.data.dataset import DATASET_REGISTRY, DatasetBase, Suite
from dassl.data.raw import FolderDataset
from dassl.utils.tools import CHECKOUT
from datasets import fetch as module
from datasets._fetch import download as download_module
from datasets._fetch.sources import SOURCES, Mirror, Source
from datasets.check import main as check_main
from datasets.fetch import main
from tests.dassl.data.toy import write_image
from tests.datasets._fetch.test_unpack import content_of, pack
from tests.datasets._fetch.web import Site, serve


@DATASET_REGISTRY.register()
class FetchedFruit(FolderDataset):
    dataset_dir = "fruit"
    image_dir = "pictures"
    other_image_dirs = ("top/pictures",)
    num_classes = 2


@DATASET_REGISTRY.register()
class FetchedByHand(DatasetBase):
    dataset_dir = "tools"


@DATASET_REGISTRY.register()
class FetchedSuite(Suite):
    members = ("FetchedFruit", "FetchedByHand")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A zip with two classes of images below "top/pictures"."""
    folder = tmp_path_factory.mktemp("made")
    for number, name in enumerate(("apple", "pear")):
        for image in range(5):
            write_image(folder / "top" / "pictures" / name / f"{image}.png", seed=number * 100 + image)
    return pack(folder.parent / "fruit.zip", content_of(folder)).read_bytes()


@pytest.fixture
def site(archive, monkeypatch):
    """A server with the archive; it offers FetchedFruit; FetchedByHand is nowhere."""
    monkeypatch.setattr(download_module, "PAUSE_S", 0.0)
    with serve(Site({"/fruit.zip": archive, "/list.json": b"{}"})) as running:
        by_hand = Source("tools.zip", page="https://example.org/tools", hint="ask nicely")
        monkeypatch.setitem(SOURCES, "FetchedByHand", (by_hand,))
        fruit = Mirror(f"{running.address}/fruit.zip", digest=f"md5:{hashlib.md5(archive).hexdigest()}")
        offer(monkeypatch, fruit)
        yield running


def offer(monkeypatch, *mirrors, **changes):
    source = Source("fruit.zip", mirrors, page="https://example.org/fruit", **changes)
    monkeypatch.setitem(SOURCES, "FetchedFruit", (source,))


def run(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def visible(folder):
    return {name for name in content_of(folder) if not name.startswith("top/")}


def test_a_data_set_is_fetched_and_found_by_the_check(site, tmp_path, capsys):
    root = tmp_path / "new" / "data"
    code, text = run(capsys, "FetchedFruit", "--root", root)
    assert code == 0, text
    assert len(list((root / "fruit" / "top" / "pictures").rglob("*.png"))) == 10
    assert f"10 files unpacked from {root}/fruit/fruit.zip" in text
    assert visible(root / "fruit") == {"fruit.zip"}  # no marker, no part
    assert check_main(["FetchedFruit", "--root", str(root)]) == 0


def test_what_is_there_is_left_alone(site, tmp_path, capsys):
    run(capsys, "FetchedFruit", "--root", tmp_path)
    (tmp_path / "fruit" / "fruit.zip").unlink()
    before = content_of(tmp_path)
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 0
    assert "fruit.zip: there" in text
    assert len(site.asked) == 1
    assert content_of(tmp_path) == before


def test_images_put_there_by_hand_count(site, tmp_path, capsys):
    write_image(tmp_path / "fruit" / "pictures" / "apple" / "1.png")
    assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 0
    assert site.asked == []


@pytest.mark.parametrize("name", ["fruit.zip", "other.zip"])
def test_an_archive_put_there_by_hand_is_unpacked(site, archive, tmp_path, capsys, monkeypatch, name):
    offer(monkeypatch, also=("other.zip",))
    (tmp_path / "fruit").mkdir()
    (tmp_path / "fruit" / name).write_bytes(archive)
    assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 0
    assert len(list((tmp_path / "fruit" / "top").rglob("*.png"))) == 10
    assert site.asked == []


def test_a_cut_download_goes_on_with_the_next_command(site, tmp_path, capsys):
    site.cut["/fruit.zip"] = [700] + [0] * download_module.ATTEMPTS
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 1
    assert "700 bytes are kept" in text
    site.cut.clear()
    assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 0
    assert site.asked[-1] == ("/fruit.zip", "bytes=700-")


def test_an_interrupted_unpacking_goes_on(site, tmp_path, capsys, monkeypatch):
    """Some images are there, so only the marker tells that the data set is not whole."""

    def interrupted(archive, folder, *, take=""):
        write_image(folder / "top" / "pictures" / "apple" / "0.png", seed=0)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "unpack", interrupted)
        assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 130
    assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 0
    assert len(list((tmp_path / "fruit" / "top").rglob("*.png"))) == 10
    assert len(site.asked) == 1
    assert visible(tmp_path / "fruit") == {"fruit.zip"}


def test_a_wrong_digest(site, tmp_path, capsys, monkeypatch):
    offer(monkeypatch, Mirror(f"{site.address}/fruit.zip", digest="md5:" + "0" * 32))
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 1
    assert "expected MD5 000" in text
    assert f"get it from https://example.org/fruit and put it at {tmp_path}/fruit/fruit.zip" in text
    assert content_of(tmp_path) == {}


def test_dead_and_wrong_mirrors_are_passed_over(site, archive, tmp_path, capsys, monkeypatch):
    site.files["/login"] = b"<html>please log in</html>"
    addresses = [f"{site.address}/gone.zip", f"{site.address}/login", f"{site.address}/fruit.zip"]
    offer(monkeypatch, *(Mirror(address) for address in addresses))
    assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 0
    assert [path for path, _ in site.asked] == ["/gone.zip", "/login", "/fruit.zip"]
    assert (tmp_path / "fruit" / "fruit.zip").read_bytes() == archive


def test_an_evil_archive_writes_nothing_outside(site, tmp_path, capsys, monkeypatch):
    site.files["/evil.zip"] = pack(tmp_path / "evil.zip", {"pictures/a.png": b"1", "../../evil": b"2"}).read_bytes()
    offer(monkeypatch, Mirror(f"{site.address}/evil.zip"))
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path / "data")
    assert code == 1
    assert "'../../evil' leaves the folder" in text
    assert not list(tmp_path.rglob("evil"))


def test_own_files_are_not_overwritten(site, tmp_path, capsys, monkeypatch):
    offer(monkeypatch, Mirror(f"{site.address}/fruit.zip"), gives=("top/pictures/pear",))
    own = tmp_path / "fruit" / "top" / "pictures" / "apple" / "0.png"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 1
    assert f"{own} is there already" in text
    assert own.read_bytes() == b"mine"


def test_an_archive_of_something_else(site, tmp_path, capsys, monkeypatch):
    site.files["/other.zip"] = pack(tmp_path / "other.zip", {"readme.txt": b"1"}).read_bytes()
    offer(monkeypatch, Mirror(f"{site.address}/other.zip"))
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path / "data")
    assert code == 1
    assert "does not give pictures or top/pictures" in text


def test_an_archive_in_an_archive(site, archive, tmp_path, capsys, monkeypatch):
    site.files["/outer.zip"] = pack(tmp_path / "outer.zip", {"box/inner.zip": archive}).read_bytes()
    offer(monkeypatch, Mirror(f"{site.address}/outer.zip"), take="box", then=("inner.zip",))
    assert run(capsys, "FetchedFruit", "--root", tmp_path / "data")[0] == 0
    assert len(list((tmp_path / "data" / "fruit" / "top").rglob("*.png"))) == 10


def test_a_suite_names_what_is_left_to_do_by_hand(site, tmp_path, capsys):
    code, text = run(capsys, "FetchedSuite", "--root", tmp_path)
    assert code == 1
    assert f"get it from https://example.org/tools and put it at {tmp_path}/tools/tools.zip" in text
    assert "note: ask nicely" in text
    assert "1 of 2 data sets are fetched; left to do: FetchedByHand" in text


def test_a_dry_run_does_nothing(site, tmp_path, capsys):
    code, text = run(capsys, "FetchedSuite", "--root", tmp_path / "data", "--dry-run")
    assert code == 1
    assert f"fruit.zip: would be fetched; from {site.address}/fruit.zip" in text
    assert "tools.zip: by hand; get it from https://example.org/tools" in text
    assert site.asked == []
    assert not (tmp_path / "data").exists()


def test_the_exit_code_of_a_dry_run_says_whether_something_is_left_to_do(site, tmp_path, capsys, monkeypatch):
    command = ("FetchedFruit", "--root", tmp_path)
    assert run(capsys, *command, "--dry-run")[0] == 1  # would be fetched
    assert run(capsys, *command)[0] == run(capsys, *command, "--dry-run")[0] == 0
    extra = Source("list.json", (Mirror(f"{site.address}/list.json"),), into=None, optional=True)
    monkeypatch.setitem(SOURCES, "FetchedFruit", (*SOURCES["FetchedFruit"], extra))
    assert run(capsys, *command, "--dry-run")[0] == 0  # not needed


def test_a_split_file_that_no_run_reads_is_not_called_there(site, tmp_path, capsys, monkeypatch):
    name = "split_zhou_FetchedFruit.json"
    source = Source(name, (Mirror(f"{site.address}/list.json"),), into=None, optional=True)
    monkeypatch.setitem(SOURCES, "FetchedFruit", (*SOURCES["FetchedFruit"], source))
    (tmp_path / "fruit").mkdir()
    (tmp_path / "fruit" / "split_dk_FetchedFruit.json").write_text("{}")
    why = f"runs read split_dk_FetchedFruit.json, which takes precedence; rename it to choose {name}\n"
    planned = run(capsys, "FetchedFruit", "--root", tmp_path, "--dry-run")[1]
    assert f"{name}: would be fetched (optional); from {site.address}/list.json; {why}" in planned
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 0 and f"{name}: not read; downloaded to {tmp_path / 'fruit' / name}; {why}" in text
    assert f"{name}: not read; {why}" in run(capsys, "FetchedFruit", "--root", tmp_path)[1]
    (tmp_path / "fruit" / "split_dk_FetchedFruit.json").unlink()
    assert f"{name}: there\n" in run(capsys, "FetchedFruit", "--root", tmp_path)[1]


def test_optional_files_do_not_count(site, tmp_path, capsys, monkeypatch):
    gone = Source("gone.json", (Mirror(f"{site.address}/gone.json"),), into=None, optional=True, page="https://e.org")
    extra = Source("list.json", (Mirror(f"{site.address}/list.json"),), into=None)
    monkeypatch.setitem(SOURCES, "FetchedFruit", (*SOURCES["FetchedFruit"], gone, extra))
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 0
    assert "gone.json: by hand (optional)" in text
    assert (tmp_path / "fruit" / "list.json").read_bytes() == b"{}"


def test_no_progress_without_a_terminal(site, tmp_path, capsys):
    main(["FetchedFruit", "--root", str(tmp_path)])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["FetchedFrui", "--root", "."], "did you mean FetchedFruit"), (["FetchedFruit"], "--root FOLDER")],
)
def test_mistakes_in_the_command(capsys, arguments, message):
    code, text = run(capsys, *arguments)
    assert code == 2
    assert message in text


# -- Google Drive and Kaggle, played by stand-ins ----------------------------------------------------------------


def test_google_drive(site, archive, tmp_path, capsys, monkeypatch):
    asked = []

    def drive(*, id, output, **options):
        asked.append((id, options["resume"], options["quiet"], options["use_cookies"]))
        Path(output).write_bytes(archive)

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=drive, __spec__=object()))
    offer(monkeypatch, Mirror("drive:abc", digest=f"sha256:{hashlib.sha256(archive).hexdigest()}"))
    assert run(capsys, "FetchedFruit", "--root", tmp_path)[0] == 0
    assert asked == [("abc", True, True, False)]
    assert visible(tmp_path / "fruit") == {"fruit.zip"}


def test_google_drive_refuses(site, tmp_path, capsys, monkeypatch):
    def drive(**options):
        raise RuntimeError("too many\n  people want this file")

    monkeypatch.setitem(sys.modules, "gdown", types.SimpleNamespace(download=drive, __spec__=object()))
    offer(monkeypatch, Mirror("drive:abc"))
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path)
    assert code == 1
    assert "not possible: drive:abc: too many people want this file" in text


@pytest.fixture
def kaggle(tmp_path, archive, monkeypatch):
    """A stand-in for Kaggle's client on the PATH and a home without credentials."""
    (tmp_path / "stored.zip").write_bytes(archive)
    client = tmp_path / "bin" / "kaggle"
    client.parent.mkdir()
    client.write_text(f'#!/bin/sh\n[ "$4" = "me/fruit" ] || exit 3\n/bin/cp {tmp_path}/stored.zip "$6/fruit.zip"\n')
    client.chmod(0o755)
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(client.parent))
    offer(monkeypatch, Mirror("kaggle:me/fruit"))
    return client


def test_kaggle_with_credentials(site, kaggle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path / "data")
    assert code == 0, text
    assert visible(tmp_path / "data" / "fruit") == {"fruit.zip", ".fruit.zip.digest"}  # nobody publishes one
    assert "secret" not in text


def test_kaggle_with_a_token_file(site, kaggle, tmp_path, capsys):
    token = tmp_path / "home" / ".kaggle" / "kaggle.json"
    token.parent.mkdir(parents=True)
    token.write_text("{}")
    assert run(capsys, "FetchedFruit", "--root", tmp_path / "data")[0] == 0


def test_kaggle_is_not_asked_without_credentials_or_client(site, kaggle, tmp_path, capsys):
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path / "data")
    assert code == 1
    assert "Kaggle's client finds no token of your account" in text
    assert "https://example.org/fruit" in text
    kaggle.unlink()
    assert "Kaggle's client is not installed" in run(capsys, "FetchedFruit", "--root", tmp_path / "data")[1]


def test_kaggle_fails(site, kaggle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "secret")
    offer(monkeypatch, Mirror("kaggle:me/other"))
    code, text = run(capsys, "FetchedFruit", "--root", tmp_path / "data")
    assert code == 1
    assert "kaggle:me/other: Kaggle's client says: exit code 3" in text


# -- the table of sources ------------------------------------------------------------------------------------------


def test_every_published_data_set_has_a_source():
    published = {
        dataset.__name__
        for dataset in DATASET_REGISTRY
        if dataset.__module__.startswith("datasets.") and not issubclass(dataset, Suite) and dataset.dataset_dir
    }
    embedded = {name for name in published if DATASET_REGISTRY.get(name).embedded}
    assert published - embedded <= set(SOURCES)
    assert {name for name in SOURCES if not name.startswith("Fetched")} <= set(DATASET_REGISTRY.names())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sources_are_well_formed(name):
    for source in SOURCES[name]:
        assert source.page.startswith(("https://", "http://"))
        assert "/" not in source.file
        for mirror in source.mirrors:
            kind, _, rest = mirror.address.partition(":")
            assert rest.startswith("//") if kind in ("http", "https") else kind in ("drive", "kaggle") and rest
            if mirror.digest:
                algorithm, _, value = mirror.digest.partition(":")
                assert len(value) == 2 * hashlib.new(algorithm).digest_size
                assert int(value, 16) >= 0


# -- docs/datasets.md ----------------------------------------------------------------------------------------------


def test_the_page_agrees_with_the_declarations():
    """Every data set has a row with its yaml, folder, classes, counts and page."""
    text = (CHECKOUT / "docs" / "datasets.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines() if line.count("|") == 8
    ]
    table = {row[0]: row[1:] for row in rows if row[0] in DATASET_REGISTRY}
    assert set(table) == {name for name in SOURCES if not name.startswith("Fetched")}
    for name, (yaml, folder, _, classes, counts, page) in table.items():
        dataset = DATASET_REGISTRY.get(name)
        config = CHECKOUT / "configs" / "datasets" / f"{yaml.strip('`')}.yaml"
        assert safe_load(config.read_text(encoding="utf-8")) == {"DATASET": {"NAME": name}}
        assert folder == f"`{dataset.dataset_dir}/`"
        assert classes == f"{dataset.num_classes:,}"
        assert counts == (" / ".join(f"{count:,}" for count in dataset.counts) if dataset.counts else "not known")
        assert f"({SOURCES[name][0].page})" in page
