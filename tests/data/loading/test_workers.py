"""The pool of worker processes, tested without a data set."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from processes import alive, wait_for_end

from ppdet.data.loading import workers
from ppdet.data.loading.workers import WorkerPool
from ppdet.utils.errors import UserError, WorkerError

ROOT = Path(__file__).resolve().parents[3]
ROOM = 2**16


def squares(task, empty):
    if task == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "end":
        sys.exit(7)
    if task == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if task == "fail":
        raise ValueError("not a number")
    if task == "lambda":
        return {"square": np.array([lambda: None], dtype=object)}
    ramp = empty((task * 10, 10), np.float32)
    ramp[:] = np.arange(task * 100).reshape(-1, 10)
    return {
        "square": np.array([task * task], dtype=np.int64),
        "ramp": ramp,
        "turned": ramp.T,  # starts where ramp does
        "pid": np.array([os.getpid()]),
    }


def copy(arrays):
    return {key: array.copy() for key, array in arrays.items()}


def check(batches, tasks):
    assert [int(batch["square"][0]) for batch in batches] == [task * task for task in tasks]
    for batch, task in zip(batches, tasks):
        assert np.array_equal(batch["ramp"], np.arange(task * 100).reshape(-1, 10))
        assert np.array_equal(batch["turned"], batch["ramp"].T) and batch["ramp"].dtype == np.float32


@pytest.fixture(
    params=[(1, ROOM, "fork"), (3, ROOM, "fork"), (2, 0, "fork"), (2, 600, "fork")],
    ids=["one", "three", "pipes", "little room"],
)
def pool(request):
    pool = WorkerPool(squares, *request.param)
    yield pool
    pool.close()


def test_results_come_in_order_from_the_same_processes_in_every_run(pool):
    pids = set()
    for tasks in (list(range(12)), [5], [], [7, 1, 3]):
        batches = list(pool.run(tasks, copy))
        check(batches, tasks)
        pids |= {int(batch["pid"][0]) for batch in batches}
    assert os.getpid() not in pids and len(pids) == len(pool._processes)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_a_run_that_ends_early_leaves_nothing_behind(pool, stop):
    run = pool.run(range(20), copy)
    check([next(run) for _ in range(stop)], range(stop))
    run.close()
    check(list(pool.run([4, 2], copy)), [4, 2])


def test_an_error_of_the_consumer_leaves_nothing_behind(pool):
    def refuse(arrays):
        raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        list(pool.run(range(9), refuse))
    check(list(pool.run([4, 2], copy)), [4, 2])


@pytest.mark.parametrize(
    ("task", "cause"),
    [
        ("die", r"signal SIGKILL\), perhaps because memory ran out: lower worker_num or batch_size;"),
        ("crash", r"signal SIGSEGV\), a defect;"),
        ("end", r"exit code 7\), a defect;"),
    ],
)
def test_a_dead_worker_is_an_error_and_closes_the_pool(pool, task, cause, capfd):
    with pytest.raises(WorkerError, match=rf"process died \({cause} with worker_num 0 the error appears") as caught:
        list(pool.run([1, 2, task, 3, 4, 5, 6], copy))
    assert caught.value.task in (task, None)
    assert not pool.close.alive
    wait_for_end([process.pid for process in pool._processes])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("task", "cause"), [("fail", "ValueError: not a number"), ("lambda", "lambda")])
def test_what_cannot_be_handed_over_is_an_error(pool, task, cause, capfd):
    with pytest.raises(WorkerError, match=f"could not prepare a batch: .*{cause}") as caught:
        list(pool.run([1, 2, task, 3, task, 5, 6], copy))
    assert caught.value.task == task
    check(list(pool.run([4, 2], copy)), [4, 2])
    assert capfd.readouterr().err == ""


def test_a_worker_that_hangs_is_told_and_waited_for(monkeypatch, log):
    monkeypatch.setattr(workers, "SILENT_SECONDS", 0.01)
    pool = WorkerPool(squares, 1, ROOM)
    process = pool._processes[0].pid
    os.kill(process, signal.SIGSTOP)
    threading.Thread(target=go_on, args=(log, process)).start()
    check(list(pool.run([3], copy)), [3])
    pool.close()
    assert f"data worker process {process} has been preparing one batch for 0 s" in log.text


def go_on(log, process):
    while "has been preparing one batch" not in log.text:
        time.sleep(0.01)
    os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_a_launcher_sends_to_all_processes_stop_no_worker(pool, number):
    check(list(pool.run([1], copy)), [1])  # all of them are past their start
    list(pool.run(range(6), copy))
    for process in pool._processes:
        os.kill(process.pid, number)
    check(list(pool.run([4, 2, 3], copy)), [4, 2, 3])


def test_closing_and_forgetting_end_the_processes():
    for forget in (False, True):
        pool = WorkerPool(squares, 2, ROOM)
        pids = [process.pid for process in pool._processes]
        list(pool.run(range(3), copy))
        if forget:
            del pool
        else:
            pool.close()
        wait_for_end(pids)


def test_a_pool_ends_while_a_later_one_is_in_use():
    first, second = WorkerPool(squares, 1, ROOM), WorkerPool(squares, 1, ROOM)
    first.close()
    wait_for_end([first._processes[0].pid])
    assert first._processes[0].exitcode == 0, "it was not killed"
    check(list(second.run([3], copy)), [3])
    second.close()


def test_an_interrupt_closes_the_pool(pool):
    def interrupt(arrays):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pool.run(range(9), interrupt))
    assert not pool.close.alive
    wait_for_end([process.pid for process in pool._processes])


@pytest.fixture
def spawned(monkeypatch):
    """Makes pools of one spawned worker, which finds this file's functions as an extension."""
    monkeypatch.setattr(workers, "imported", lambda: (str(Path(__file__)),))
    monkeypatch.setitem(sys.modules, "test_workers", sys.modules[__name__])
    monkeypatch.setattr(squares, "__module__", "test_workers")
    pools = []

    def make(work=squares, room=ROOM):
        pools.append(WorkerPool(work, 1, room, "spawn"))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_a_spawned_worker_does_what_a_forked_one_does(spawned, log, capfd):
    pool = spawned()
    check(list(pool.run(list(range(6)), copy)), range(6))
    run = pool.run(range(20), copy)
    check([next(run)], [0])
    run.close()
    with pytest.raises(WorkerError, match="could not prepare a batch: ValueError: not a number"):
        list(pool.run([1, "fail"], copy))
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(pool._processes[0].pid, number)
    check(list(pool.run([4], copy)), [4])
    with pytest.raises(WorkerError, match="signal SIGKILL"):
        list(pool.run([1, "die", 2], copy))
    assert not pool.close.alive
    assert capfd.readouterr().err == ""


def test_what_cannot_be_sent_to_a_spawned_worker_is_an_error_that_says_what_to_do(spawned):
    with pytest.raises(UserError, match=r"cannot be sent to them \(.*lambda.*\): define its class in a file"):
        spawned(lambda task, empty: {})


SCRIPT = """
import os, signal, sys
sys.path[:0] = {tests}
from test_workers import squares, copy
from ppdet.data.loading.workers import WorkerPool
pool = WorkerPool(squares, {count}, 1000, {start!r})
next(pool.run(range(9), copy))
print(*[process.pid for process in pool._processes], flush=True)
{end}
"""


@pytest.mark.parametrize(
    ("start", "end"),
    [
        *(("fork", end) for end in ("signal.pause()", "sys.exit()", "raise SystemError", "os._exit(1)")),
        ("spawn", "signal.pause()"),
    ],
)
def test_no_worker_outlives_the_main_process(start, end):
    """The script does not guard its main part, and a spawned worker does not run it again."""
    count = 2 if start == "fork" else 1
    folders = [str(ROOT / "tests"), str(Path(__file__).parent)]
    script = SCRIPT.format(tests=folders, end=end, start=start, count=count)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as main:
        pids = [int(pid) for pid in main.stdout.readline().split()]
        assert len(pids) == count
        if "pause" in end:
            assert all(alive(pid) for pid in pids)
            main.kill()
        main.wait()
        wait_for_end(pids)


def test_arrays_that_are_not_plain_memory_go_through_the_pipe():
    def make(task, empty):
        record = np.zeros(2, dtype=[("x", "f4"), ("y", "i4")])
        record["y"] = task
        return {"objects": np.array([{"x": task}], dtype=object), "records": record}

    pool = WorkerPool(make, 1, 1 << 16)
    try:
        (arrays,) = pool.run([3], dict)
    finally:
        pool.close()
    assert arrays["objects"][0] == {"x": 3}
    assert arrays["records"]["y"].tolist() == [3, 3]


def test_a_worker_that_does_not_stop_is_killed_and_gone_afterwards(monkeypatch):
    """Not only on its way out: a process that has been killed takes a while to end."""
    joined = []
    monkeypatch.setattr(workers, "STOP_SECONDS", 0.0)
    pool = WorkerPool(squares, 1, ROOM, "fork")
    (process,) = pool._processes
    monkeypatch.setattr(process, "join", lambda seconds: joined.append(process.exitcode))
    monkeypatch.setattr(process, "is_alive", lambda: True)
    pool.close()
    assert len(joined) == 2  # once for it to stop, and once after it was killed
    multiprocessing.process.BaseProcess.join(process)
    assert process.exitcode in (0, -signal.SIGKILL)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_that_cannot_be_started_are_an_error(monkeypatch, start):
    """As a limit of processes makes it; the workers that have started end."""
    before, starts = multiprocessing.process.BaseProcess.start, []

    def refuse(process):
        starts.append(process)
        if len(starts) > 1:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        before(process)

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    with pytest.raises(WorkerError, match=r"cannot be started \(Resource temporarily unavailable\): lower worker_num"):
        WorkerPool(squares, 3, ROOM, start)
    assert not starts[0].is_alive()
