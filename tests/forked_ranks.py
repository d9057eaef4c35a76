"""Ranks of jobs as processes that are forked from one which has loaded Paddle: starting them costs next to nothing.

Run as a program, it takes a file of jobs and writes down their ranks' exit codes; `run_jobs` does that for a test.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Rank(NamedTuple):
    """code: exit code, negative if a signal ended the process."""

    process: int
    code: int
    output: str


def run_jobs(folder: Path, scripts: list[str], *, ranks: int = 2) -> list[list[Rank]]:
    """Run every script as a job of `ranks` ranks, one job after the other.

    Args:
        scripts: Python code, which finds its rank as `rank`, and runs as a launched process would.
    """
    (folder / "jobs.json").write_text(json.dumps({"scripts": scripts, "ranks": ranks}))
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder)]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    jobs = json.loads((folder / "ended.json").read_text())
    return [
        [Rank(*ended, (folder / f"{job}_{rank}.log").read_text()) for rank, ended in enumerate(ranks)]
        for job, ranks in enumerate(jobs)
    ]


def run_as_rank(script: str, rank: int, ports: list[int], log: Path) -> None:
    """Become a rank: never returns."""
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        endpoints = [f"127.0.0.1:{port}" for port in ports]
        os.environ.update(
            PADDLE_MASTER=endpoints[-1],
            PADDLE_TRAINER_ID=str(rank),
            PADDLE_TRAINERS_NUM=str(len(ports) - 1),
            PADDLE_TRAINER_ENDPOINTS=",".join(endpoints[:-1]),
            PADDLE_CURRENT_ENDPOINT=endpoints[rank],
            PADDLE_DISTRI_BACKEND="gloo",
        )
        exec(compile(script, "script", "exec"), {"__name__": "__main__", "rank": rank})
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


def main() -> None:
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    import ppdet.engine.trainer  # noqa: F401

    folder = Path(sys.argv[1])
    jobs = json.loads((folder / "jobs.json").read_text())
    ended = []
    for job, script in enumerate(jobs["scripts"]):
        ports = free_ports(jobs["ranks"] + 1)
        processes = []
        for rank in range(jobs["ranks"]):
            process = os.fork()
            if process == 0:
                run_as_rank(script, rank, ports, folder / f"{job}_{rank}.log")
            processes.append(process)
        ended.append([(process, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])) for process in processes])
    (folder / "ended.json").write_text(json.dumps(ended))


if __name__ == "__main__":
    signal.alarm(600)  # nothing is left behind of a job that hangs
    main()
