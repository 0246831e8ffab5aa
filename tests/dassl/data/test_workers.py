import gc
import multiprocessing
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
import torch

from dassl.data import manager as managers
from dassl.data import workers as readers
from dassl.data.datum import Datum
from dassl.data.loaders import BatchPlan, ImageItems, ImageSource
from dassl.data.manager import DataManager
from dassl.data.threads import cpu_count
from dassl.utils.tools import CHECKOUT
from tests.dassl.data.toy import write_image


def process_id(image):
    """In place of a transform: which process decoded the image."""
    return torch.tensor([os.getpid()])


@pytest.fixture
def source(tmp_path):
    """Images that two workers decode, and a plan of their batches."""
    items = [Datum(str(write_image(tmp_path / f"{number}.png")), 0) for number in range(8)]
    return ImageSource(ImageItems(items, process_id), 2), BatchPlan(len(items), 2)


def processes(source, plan):
    return {int(number) for batch in source(plan) for number in batch["img"].flatten()}


def alive():
    return {process.pid for process in multiprocessing.active_children()}


def test_workers_live_through_the_epochs_and_end_with_their_loader(source):
    images, plan = source
    first = processes(images, plan)
    assert len(first) == 2 and os.getpid() not in first
    plan.epoch = 1
    assert processes(images, plan) == first <= alive()
    images.reader.close()
    gc.collect()
    end = time.monotonic() + 10
    while first & alive() and time.monotonic() < end:
        time.sleep(0.05)
    assert not first & alive()


def test_no_more_workers_than_cores(make_cfg, monkeypatch):
    data = DataManager(make_cfg(DATALOADER__NUM_WORKERS=1000))
    assert data.train_loader_x.source.reader.workers == cpu_count()
    monkeypatch.setattr(managers, "cpu_count", lambda: 3)
    assert DataManager(make_cfg(DATALOADER__NUM_WORKERS=1000)).test_loader.source.reader.workers == 3
    assert DataManager(make_cfg(DATALOADER__NUM_WORKERS=1)).test_loader.source.reader.workers == 1


def batches_of(images, plan):
    return [(batch["img"], batch["index"].tolist()) for batch in images(plan)]


def same(first, second):
    assert len(first) == len(second)
    return all(torch.equal(a, b) and i == j for (a, i), (b, j) in zip(first, second, strict=True))


def flaw(monkeypatch, transform, *, workers=2, count=10):
    """A source of images with a transform that may go wrong in a worker, and the batches that are right."""
    monkeypatch.setattr(readers, "SILENCE_S", 2)
    items = [Datum(str(number), 0) for number in range(count)]
    monkeypatch.setattr("dassl.data.loaders.read_image", lambda path, reading: int(path))
    plan = BatchPlan(count, 4)
    right = batches_of(ImageSource(ImageItems(items, lambda number: torch.full((3, 8, 8), float(number))), 0), plan)
    return ImageSource(ImageItems(items, transform), workers), plan, right


def in_worker(number):
    return multiprocessing.parent_process() is not None and number == 5


def dies(number):
    """Ends the worker that comes to image 5."""
    if in_worker(number):
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.full((3, 8, 8), float(number))


def hangs(number):
    """Keeps the worker that comes to image 5 forever."""
    while in_worker(number):
        time.sleep(0.1)
    return torch.full((3, 8, 8), float(number))


@pytest.mark.parametrize(("transform", "told"), [(dies, "killed by signal|exited unexpectedly"), (hangs, "timed out")])
def test_a_worker_that_fails_costs_no_batch(monkeypatch, caplog, transform, told):
    images, plan, right = flaw(monkeypatch, transform)
    assert same(batches_of(images, plan), right)
    [said] = [record for record in caplog.records if record.levelname == "WARNING"]
    assert re.search(told, said.message) and "DATALOADER.NUM_WORKERS 0" in said.message
    assert same(batches_of(images, plan), right)  # read here now
    assert images.reader.workers == 0


@pytest.mark.parametrize(
    ("images_fit", "workers", "size"), [(1000, 2, 4), (28, 2, 2), (14, 2, 1), (10, 1, 1), (8, 1, 1), (7, 0, 0)]
)
def test_small_shared_memory_is_not_overrun(monkeypatch, caplog, images_fit, workers, size):
    """Of two workers' pieces each, 2 x 3 + 1 images of half the memory must fit; of one worker's, 3 + 1."""
    images, plan, right = flaw(monkeypatch, lambda number: torch.full((3, 8, 8), float(number)))
    image_bytes = 3 * 8 * 8 * 4
    monkeypatch.setattr(readers, "shared_memory", lambda: images_fit * image_bytes)
    assert same(batches_of(images, plan), right)
    loader, pieces = images.reader._loader, images.reader._pieces
    assert ((0, 0) if loader is None else (loader.num_workers, pieces.size)) == (workers, size)
    assert ("too little" in caplog.text) == (workers == 0)


def test_pieces_of_a_batch_do_not_wait_in_shared_memory(monkeypatch):
    images, plan, right = flaw(monkeypatch, lambda number: torch.full((3, 8, 8), float(number)))
    monkeypatch.setattr(readers, "shared_memory", lambda: 14 * 3 * 8 * 8 * 4)
    shared = [batch.is_shared() for batch, _ in batches_of(images, plan)]
    assert images.reader._pieces.size == 1 and shared == [False] * 3
    assert same(batches_of(images, plan), right)


def refuse(error):
    def call(*_, **__):
        raise error

    return call


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        ("dassl.data.workers.Queue", OSError(30, "Read-only file system"), "no way to pass them on"),
        ("dassl.data.workers.Listener", OSError("AF_UNIX path too long"), "no way to pass them on"),
        ("torch.Tensor.share_memory_", RuntimeError("unable to allocate shared memory"), "no way to pass them on"),
        (
            "multiprocessing.process.BaseProcess.start",
            BlockingIOError(11, "Resource temporarily unavailable"),
            "a worker failed",
        ),
    ],
)
def test_where_no_worker_can_work_the_run_reads(monkeypatch, caplog, place, error, told):
    images, plan, right = flaw(monkeypatch, lambda number: torch.full((3, 8, 8), float(number)))
    monkeypatch.setattr(place, refuse(error))
    assert same(batches_of(images, plan), right)
    [said] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told in said and str(error) in said


def test_shared_memory_that_others_fill_meanwhile_is_told_at_once(monkeypatch, caplog):
    images, plan, right = flaw(monkeypatch, lambda number: torch.full((3, 8, 8), float(number)))
    monkeypatch.setattr(readers, "SILENCE_S", 600)
    share = torch.Tensor.share_memory_

    def full(tensor):
        if multiprocessing.parent_process() is not None and tensor[0, 0, 0, 0] > 3:
            raise RuntimeError("unable to allocate shared memory(shm)\nfor file: No space left")
        return share(tensor)

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    assert same(batches_of(images, plan), right)
    [said] = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "a worker failed (for file: No space left)" in said


@pytest.mark.parametrize(("limit", "told", "workers"), [(64, 64, 2), (24, 1000, 0)])
def test_a_real_small_shared_memory(limit, told, workers, tmp_path):
    """In a mount namespace with so many MiB of shared memory, of which others take some, for batches of 96 MiB."""
    program = tmp_path / "small.py"
    program.write_text(
        "import torch\n"
        "from dassl.data import loaders, workers\n"
        "from dassl.data.datum import Datum\n"
        "loaders.read_image = lambda path, reading: int(path)\n"
        "items = [Datum(str(number), 0) for number in range(64)]\n"
        "images = loaders.ImageItems(items, lambda number: torch.full((3, 512, 512), float(number)))\n"
        "source = loaders.ImageSource(images, 2)\n"
        f"workers.shared_memory = lambda: {told} * 2**20\n"
        "found = [batch['img'][:, 0, 0, 0].tolist() for batch in source(loaders.BatchPlan(64, 32))]\n"
        "print(found == [[float(n) for n in range(32)], [float(n) for n in range(32, 64)]], source.reader.workers)\n"
    )
    mount = f"mount -t tmpfs -o size={limit}m tmpfs /dev/shm && exec {shlex.quote(sys.executable)} {program}"
    command = ["unshare", "--mount", "sh", "-c", mount]
    if subprocess.run([*command[:-1], "mount -t tmpfs tmpfs /dev/shm"], capture_output=True, check=False).returncode:
        pytest.skip("mounting takes rights that this user has not")
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.stdout == f"True {workers}\n", done.stderr
