"""Processes are started by fork or spawn, and forked ones do not finalize objects that they inherit."""

import gc
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from ppdet.data.loading.workers import WorkerPool
from ppdet.utils.errors import UserError
from ppdet.utils.process.start import objects_stay_here, process_context

ROOT = Path(__file__).resolve().parents[3]


class OnDevice:
    """Stands for a tensor in a reference cycle: its destructor notes the process that it runs in."""

    def __init__(self, path):
        self.path, self.itself = path, self

    def __del__(self):
        with open(self.path, "a") as stream:
            stream.write(f"{os.getpid()}\n")


@pytest.fixture
def garbage(tmp_path):
    """Gives the processes that have finalized an object so far, which was garbage before the test, uncollected."""
    gc.collect()
    gc.disable()
    path = tmp_path / "finalized"
    path.touch()
    OnDevice(path)
    yield lambda: [int(pid) for pid in path.read_text().split()]
    gc.enable()
    gc.collect()  # while its folder is there: a destructor that raises within ast.parse makes Python 3.11 fail


def collect(task, empty=None):
    """A worker's work: look for garbage, its own among it; all that was found."""
    own = [0]
    own.append(own)
    del own
    return {"pid": np.array([os.getpid()]), "collected": np.array([gc.collect()])}


def check(results, garbage):
    assert {int(result["pid"][0]) for result in results} and os.getpid() not in {int(r["pid"][0]) for r in results}
    assert all(int(result["collected"][0]) >= 1 for result in results)  # what it made itself
    assert garbage() == []
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert garbage() == [os.getpid()]


def test_workers_of_a_reader(garbage):
    pool = WorkerPool(collect, 2, 1 << 12)
    results = list(pool.run(range(4), lambda arrays: {key: array.copy() for key, array in arrays.items()}))
    pool.close()
    check(results, garbage)


def test_a_process_that_has_frozen_its_objects_keeps_them_so(garbage):
    gc.freeze()
    try:
        with objects_stay_here():
            pass
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_how_processes_start(monkeypatch):
    assert process_context().get_start_method() == "fork"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert process_context().get_start_method() == "spawn"  # although macOS can fork
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UserError, match="worker_start is fork, which this system does not have: set it to auto or spa"):
        process_context("fork")
