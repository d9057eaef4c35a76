"""Processes without Paddle that watch each other."""

import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ppdet.engine.distributed.watchdog import SILENT_SECONDS, RankLostError, Watchdog, keep_alive, listen

ROOT = Path(__file__).resolve().parents[3]
START = """
import os, signal, sys, time
from ppdet.engine.distributed.watchdog import RankLostError, Watchdog, listen
rank = int(sys.argv[1])
if rank == 0:
    server = listen("127.0.0.1")
    print(server.getsockname()[1], flush=True)
    watchdog = Watchdog(0, 3, token="secret", server=server)
else:
    watchdog = Watchdog(rank, 3, token="secret", address=("127.0.0.1", int(sys.argv[2])))
watchdog.meet()
"""


def start(code, rank, port=0):
    command = [sys.executable, "-c", START + textwrap.dedent(code), str(rank), str(port)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code, victim=None):
    """Process number, process and standard error of three ranks that run `code` when all have met.

    `victim` is killed when all ranks have written a line.
    """
    processes = [start(code, 0)]
    port = processes[0].stdout.readline()
    processes += [start(code, rank, port) for rank in (1, 2)]
    if victim is not None:
        assert all(process.stdout.readline() for process in processes)
        processes[victim].kill()
    return [(process.pid, process, process.communicate()[1]) for process in processes]


def test_ranks_that_end_at_different_times_disturb_nobody():
    code = """
        for _ in range(3):
            time.sleep(0.1 * rank)
            watchdog.meet()
        watchdog.finished()
        time.sleep({0: 1.0, 1: 0.0, 2: 2.0}[rank])
    """
    assert [(process.returncode, err) for _, process, err in run(code)] == [(0, "")] * 3


@pytest.mark.parametrize("victim", [0, 2])
def test_a_killed_rank_ends_the_others_although_its_children_live(victim):
    code = f"""
        if rank == {victim} and not os.fork():
            os.close(1), os.close(2)
        else:
            print("ready", flush=True)
        time.sleep(600)
    """
    ranks = run(code, victim)
    for rank, (_, process, err) in enumerate(ranks):
        if rank == victim:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 2
            assert f"error: rank {victim} (process {ranks[victim][0]} on {socket.gethostname()}) is gone" in err


def test_the_line_is_written_before_the_second_of_grace():
    """An error of this rank's own may end it within that second, by a signal too."""
    code = """
        import ppdet.engine.distributed.watchdog
        ppdet.engine.distributed.watchdog.GRACE_SECONDS = 600.0
        print("ready", flush=True)
        while not watchdog.announced:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ranks = run(code, victim=2)
    for rank in (0, 1):
        assert ranks[rank][1].returncode == -signal.SIGKILL
        assert ranks[rank][2].count(f"error: rank 2 (process {ranks[2][0]} on ") == 1


def test_what_a_rank_ended_by_is_told_by_all():
    code = """
        if rank == 1:
            assert watchdog.failed("the disk is full") is None
            sys.exit(7)
        watchdog.meet()
    """
    ranks = run(code)
    assert ranks[1][1].returncode == 7
    for rank in (0, 2):
        _, process, err = ranks[rank]
        assert process.returncode != 0
        assert re.search(rf"rank 1 \(process {ranks[1][0]} on .*\) ended: the disk is full", err)


def test_an_echo_waits_for_the_cause():
    """Rank 2 fails because rank 1 is gone: it reports rank 1's cause."""
    code = """
        print("ready", flush=True)
        if rank == 2:
            print(watchdog.failed("no connection", patience=600.0), file=sys.stderr)
            sys.exit(7)
        time.sleep(600)
    """
    ranks = run(code, victim=1)
    assert "rank 1 (" in ranks[2][2] and "is gone" in ranks[2][2]
    assert "rank 1 (" in ranks[0][2] and "no connection" not in ranks[0][2]


def test_an_error_of_this_rank_is_not_replaced_by_that_of_another():
    code = """
        while rank == 0 and watchdog.news is None:
            time.sleep(0.01)
        watchdog.failed("all of us")
        time.sleep(1.5)
        sys.exit(10 + rank)
    """
    assert [process.returncode for _, process, _ in run(code)] == [10, 11, 12]


def test_waiting_for_a_rank_that_has_ended_is_an_error():
    code = """
        if rank == 2:
            watchdog.finished()
            time.sleep(1)
            sys.exit(0)
        try:
            watchdog.meet()
        except RankLostError as error:
            print(error, file=sys.stderr)
            watchdog.finished()
            time.sleep(1)
    """
    ranks = run(code)
    assert ranks[0][2] == "rank 2 has ended before the others\n"
    assert [process.returncode for _, process, _ in ranks] == [0, 0, 0]


def test_a_process_whose_launcher_is_gone_is_asked_to_stop():
    worker = START.replace("rank = int(sys.argv[1])", "rank = 0").replace("0, 3,", "0, 1,")
    worker = worker.replace("watchdog.meet()", "")
    worker += """
signal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), os._exit(0)))
os.write(int(sys.argv[1]), b"ready")
time.sleep(600)
"""
    launcher = f"""
import os, subprocess, sys
ear, mouth = os.pipe()
subprocess.Popen([sys.executable, "-c", {worker!r}, str(mouth)], pass_fds=[mouth])
os.read(ear, 5)
"""
    result = subprocess.run([sys.executable, "-c", launcher], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.split()[-1] == "asked"
    assert "the launcher is gone" in result.stderr


def test_strangers_are_not_let_in():
    server = listen("127.0.0.1")
    port = server.getsockname()[1]
    code = f"""
        import socket
        connection = socket.create_connection(("127.0.0.1", {port}))
        connection.sendall(b'{{"token": "guessed", "peer": [1, "here", 1]}}\\n')
        while connection.recv(4096):
            pass
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)]) as stranger:
        with pytest.raises(RankLostError, match="rank 1 did not connect to rank 0 within 2 s"):
            Watchdog(0, 2, token="secret", server=server, join_seconds=2)
        assert stranger.wait() == 0


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="names of Linux")
def test_a_silent_machine_is_given_up_after_half_a_minute():
    with socket.socket() as connection:
        keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle, interval, count = (
            connection.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + interval * count == SILENT_SECONDS == 30
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
