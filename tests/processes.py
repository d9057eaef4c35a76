"""Other processes, as Linux tells of them."""

import sys
from pathlib import Path

from patience import wait_until

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

from common import processes_from


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    return processes_from(pid)[1:]


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_for_end(pids: list[int]) -> None:
    """Wait until all of them have ended."""
    wait_until(lambda: not any(map(alive, pids)), f"the end of {pids}")


def rank_of(pid: int) -> str:
    environment = (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0")
    return next((e.partition(b"=")[2].decode() for e in environment if e.startswith(b"PADDLE_TRAINER_ID=")), "")


def command_of(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
