"""Three finished runs of toy tasks, and the page that shows them."""

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

import export
from dassl.app.runs import load_runs
from dassl.app.server import application, listening, url
from dassl.app.uploads import Uploads
from tests.lab import Lab

NAMES = ("soft", "res", "tuned.safetensors")


@dataclass(frozen=True)
class Served:
    """A page that is being served, and the folder of its uploads."""

    url: str
    folder: Path

    def uploads(self) -> list[Path]:
        """The files in the folder."""
        return [path for path in self.folder.rglob("*") if path.is_file()]


@pytest.fixture(scope="session")
def places(toy_root, tiny_clip, tmp_path_factory):
    """A run whose method takes other class names, one whose method does not, and an exported file."""
    lab = Lab(toy_root, tiny_clip, tmp_path_factory.mktemp("app"))
    lab.run("soft", OPTIM__MAX_EPOCH=1)
    lab.run("res", trainer="TaskRes", OPTIM__MAX_EPOCH=1)
    exported = lab.output / "runs" / "tuned.safetensors"
    assert export.main([str(lab.folder("soft")), "-o", str(exported)]) == 0
    return [str(lab.output / "runs" / name) for name in NAMES]


@pytest.fixture(scope="session")
def runs(places):
    """The runs, loaded."""
    return load_runs(places, device="cpu")


@pytest.fixture
def photo(toy_root, tmp_path):
    """A picture that belongs to no run."""
    path = tmp_path / "photo <b>&.png"
    shutil.copy(min((toy_root / "pets").rglob("*.png")), path)
    return path


@pytest.fixture(scope="session")
def served(runs, tmp_path_factory):
    """The page of the three runs."""
    pytest.importorskip("gradio", reason="needs gradio: pip install -r requirements-app.txt")
    import uvicorn

    folder = tmp_path_factory.mktemp("uploads")
    with pytest.MonkeyPatch.context() as patch, listening("127.0.0.1", 0) as listener:
        patch.setenv("GRADIO_TEMP_DIR", "")  # put back afterwards
        app = application(runs, Uploads(folder), local=True)
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield Served(url("127.0.0.1", listener.getsockname()[1]), folder)
        server.should_exit = True
        thread.join(timeout=20)
