import gc
import multiprocessing
import os
import time

import pytest
import torch

from dassl.data import manager as managers
from dassl.data.datum import Datum
from dassl.data.loaders import BatchPlan, ImageItems, ImageSource
from dassl.data.manager import DataManager
from dassl.data.threads import cpu_count
from tests.dassl.data.toy import write_image


def process_id(image):
    """In the place of a transform: which process decoded the image."""
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
    images._loader = None
    gc.collect()
    end = time.monotonic() + 10
    while first & alive() and time.monotonic() < end:
        time.sleep(0.05)
    assert not first & alive()


def test_no_more_workers_than_cores(make_cfg, monkeypatch):
    data = DataManager(make_cfg(DATALOADER__NUM_WORKERS=1000))
    assert data.train_loader_x.source.workers == cpu_count()
    monkeypatch.setattr(managers, "cpu_count", lambda: 3)
    assert DataManager(make_cfg(DATALOADER__NUM_WORKERS=1000)).test_loader.source.workers == 3
    assert DataManager(make_cfg(DATALOADER__NUM_WORKERS=1)).test_loader.source.workers == 1
