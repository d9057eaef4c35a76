"""Worker processes that fail, die, hang and lose their parent."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from odd_worker import OddWorker, Unwilling
from patience import PATIENCE, wait_until
from serving import ROOT

from ppdet.deploy.serving import worker_process
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.deploy.serving.slots import Slots
from ppdet.deploy.serving.worker_process import Died, Ended, JobFailed, WorkerProcess
from ppdet.utils.errors import DeployError


class Limit:
    """The longest time of a call, which a test changes."""

    seconds = float(PATIENCE)

    def __call__(self):
        return self.seconds


@pytest.fixture(scope="module")
def metrics():
    return Metrics()


@pytest.fixture(scope="module")
def slots():
    return Slots(count=2, size=4096)


@pytest.fixture(scope="module")
def worker(metrics, slots):
    worker = WorkerProcess("odd", OddWorker, (slots,), metrics, Limit())
    yield worker
    worker.end()


def restarts(metrics):
    return metrics.registry.get_sample_value("ppdet_worker_restarts_total", {"worker": "odd"})


def test_it_answers_in_order_and_survives_errors_and_signals(worker):
    assert worker.call("double", 21) == 42 and worker.ready and worker.idle and not worker.overdue
    with pytest.raises(JobFailed, match="ZeroDivisionError: odd"):
        worker.call("fail")
    for number in (signal.SIGINT, signal.SIGTERM):  # as a terminal sends them to all processes
        os.kill(worker.pid, number)
    pid = worker.pid
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda number: worker.call("double", number), range(200))) == [*range(0, 400, 2)]
    assert worker.pid == pid and worker.idle


def test_arrays_travel_in_slots_which_no_file_holds(worker, slots):
    numbers = [slots.take(), slots.take()]
    assert slots.free == 0 and sorted(numbers) == [0, 1]
    packed = [worker.call("fill", number, number + 0.5, 1000) for number in numbers]
    for number, arrays in zip(numbers, packed):
        image = slots[number].unpack(arrays)["image"]
        assert image.tolist() == [number + 0.5] * 1000
        assert image.base is not None and arrays["image"].shape == (1000,)
        slots.give_back(number)
    large = worker.call("fill", 0, 3.0, 2000)  # 8000 bytes do not fit
    assert slots[0].unpack(large)["image"].tolist() == [3.0] * 2000
    if os.name == "posix":
        assert os.stat(slots._handle).st_nlink == 0 or "memfd" in os.readlink(f"/proc/self/fd/{slots._handle}")


def test_one_that_was_killed_while_idle_costs_no_call(worker, metrics, log):
    worker.start()
    before, pid = restarts(metrics), worker.pid
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: worker.died_idle)
    assert worker.call("double", 1) == 2
    assert worker.pid != pid and restarts(metrics) == before + 1
    assert f"odd process {pid} died (signal SIGKILL): starting another one" in log.text


def test_one_that_dies_with_a_call_says_how(worker):
    with pytest.raises(Died, match=r"the odd process died \(signal SIGKILL\)") as died:
        worker.call("die")
    assert not died.value.overdue and not worker.ready and worker.died_idle
    assert worker.call("double", 1) == 2


def test_one_that_hangs_is_killed_and_the_call_behind_it_goes_to_another(worker, metrics, log):
    worker.start()
    with ThreadPoolExecutor(2) as pool:
        stuck = pool.submit(worker.call, "never_end")
        wait_until(lambda: not worker.idle)
        behind = pool.submit(worker.call, "double", 4)
        wait_until(lambda: worker._life._awaited == 2)
        assert not worker.overdue
        worker.limit.seconds = 0.0
        wait_until(lambda: worker.overdue)
        worker.kill_overdue()
        worker.limit.seconds = float(PATIENCE)
        error = stuck.exception(PATIENCE)
        assert behind.result(PATIENCE) == 8
    assert isinstance(error, Died) and error.overdue
    assert metrics.registry.get_sample_value("ppdet_worker_kills_total", {"worker": "odd"}) == 1
    assert "is killed: no answer within 0 s" in log.text


def test_a_stopped_one_can_be_killed(worker):
    worker.start()
    os.kill(worker.pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as pool:
        # More than a pipe holds: the call does not even leave this process.
        call = pool.submit(worker.call, "double", b"x" * 10_000_000)
        wait_until(lambda: not worker.idle)
        worker.limit.seconds = 0.0
        wait_until(lambda: worker.overdue)
        worker.kill_overdue()
        worker.limit.seconds = float(PATIENCE)
        # It was not asked for yet, so that another process may answer.
        assert call.result(PATIENCE) == b"x" * 20_000_000


def test_one_that_has_ended_is_not_started_again(metrics, slots):
    worker = WorkerProcess("odd", OddWorker, (slots,), metrics, Limit())
    worker.start()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(worker.call, "never_end")
        wait_until(lambda: not worker.idle)
        worker.end()
        assert isinstance(call.exception(PATIENCE), (Died, Ended))  # Ended: it was killed before the call reached it
    with pytest.raises(Ended):
        worker.call("double", 1)
    assert not worker.died_idle


@pytest.mark.parametrize(
    ("reason", "starts", "message"),
    [("no such folder", 1, "no such folder"), (None, 3, "the odd process died at its start (signal SIGKILL)")],
)
def test_one_that_cannot_start_gives_up(metrics, monkeypatch, reason, starts, message):
    monkeypatch.setattr(worker_process, "PAUSE_S", 0)
    lives = []
    life = worker_process.Life
    monkeypatch.setattr(worker_process, "Life", lambda *arguments: lives.append(life(*arguments)) or lives[-1])
    worker = WorkerProcess("odd", Unwilling, (reason,), metrics, Limit())
    with pytest.raises(Ended):
        worker.start()
    assert len(lives) == starts and isinstance(worker.failure, DeployError) and str(worker.failure) == message
    worker.end()


def test_one_whose_kind_has_run_is_tried_again_and_again(metrics, slots, monkeypatch, log):
    monkeypatch.setattr(worker_process, "PAUSE_S", 0.001)
    monkeypatch.setattr(worker_process, "LONGEST_PAUSE_S", 0.003)
    good = WorkerProcess("odd", OddWorker, (slots,), metrics, Limit(), environment={"PPDET_ODD": "1"})
    good.alike = [good, WorkerProcess("odd", Unwilling, (None,), metrics, Limit())]
    good.alike[1].alike = good.alike
    assert good.call("environment", "PPDET_ODD") == "1" and "PPDET_ODD" not in os.environ
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(good.alike[1].call, "double", 3)
        wait_until(lambda: log.text.count("(signal SIGKILL): trying again in 0.003 s") >= 2)
        good.alike[1].make, good.alike[1].arguments = OddWorker, (slots,)
        assert call.result(PATIENCE) == 6
    assert good.alike[1].failure is None
    assert "trying again in 0.001 s" in log.text and "trying again in 0.002 s" in log.text
    for worker in good.alike:
        worker.end()


PARENT = f"""
import sys, threading
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from odd_worker import OddWorker
from ppdet.deploy.serving.prometheus import Metrics
from ppdet.deploy.serving.slots import Slots
from ppdet.deploy.serving.worker_process import WorkerProcess

workers = [WorkerProcess("odd", OddWorker, (Slots(1, 4096),), Metrics(), lambda: 1e9) for _ in range(3)]
for worker in workers:
    worker.start()
for worker, method in zip(workers, ("never_end", "keep_the_lock")):
    threading.Thread(target=worker.call, args=(method,), daemon=True).start()
print(*(worker.pid for worker in workers), flush=True)
if sys.argv[1] == "wait":
    threading.Event().wait()
"""


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="the test looks at processes in /proc")
@pytest.mark.parametrize("end", ["wait", "return"])
def test_none_outlives_its_parent(end):
    """Whether that is killed or ends as it should; one worker waits, one keeps Python's lock, one is stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, end], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 3
    if sys.platform == "linux":
        os.kill(pids[2], signal.SIGSTOP)
    if end == "wait":
        process.kill()
    _, errors = process.communicate(timeout=PATIENCE)
    wait_until(lambda: all(is_gone(pid) for pid in pids))
    assert "leaked" not in errors and "resource_tracker" not in errors


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives pages of a file back to the system")
def test_memory_of_large_images_is_given_back():
    slots = Slots(count=3, size=2**40)  # of which only what is written takes up memory
    values = np.full(300_000, 2.5, np.float32)
    packed = slots[2].pack({"image": values})
    assert np.array_equal(slots[2].unpack(packed)["image"], values)
    before = os.stat(slots._handle).st_blocks
    slots.empty(2)
    assert before >= values.nbytes // 512 and os.stat(slots._handle).st_blocks == 0
    assert not slots[2].unpack(packed)["image"].any()
