"""Helpers for tests that kill batch jobs and start them again."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from patience import PATIENCE, wait_until
from processes import alive, command_of, descendants, wait_for_end
from pyarrow import parquet

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "ppdet.deploy.batch"]


def corners(row: dict) -> np.ndarray:
    """x1, y1, x2, y2 of the boxes in a row of a table: an array (N, 4)."""
    return np.array([[box[name] for name in ("x1", "y1", "x2", "y2")] for box in row["boxes"]]).reshape(-1, 4)


class BatchRun:
    """The batch command on one output folder, started several times. Its logs are beside the folder."""

    def __init__(self, output: Path, arguments: list[str]) -> None:
        self.output = output
        self.arguments = [*arguments, "--output", str(output)]
        self.lives = 0

    def start(self) -> None:
        self.lives += 1
        self.log = self.output.with_name(f"{self.output.name}_life_{self.lives}.log")
        with open(self.log, "w") as stream:
            self.process = subprocess.Popen([*COMMAND, *self.arguments], cwd=ROOT, stdout=stream, stderr=stream)

    def finished(self) -> dict[str, int]:
        """Names of the existing tables, and when they were written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.output / "detections").glob("part*")}

    def workers(self) -> list[int]:
        """Worker processes, including those that still load their Detector."""
        return [pid for pid in descendants(self.process.pid) if "DetectorWorker" in command_of(pid) and alive(pid)]

    def wait_for(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        def there() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
            return bool(condition())

        wait_until(there, str(self.log), patience)

    def kill_worker(self, number: int = 0) -> None:
        os.kill(self.workers()[number], signal.SIGKILL)

    def kill(self, *, driver_alone: bool = False) -> None:
        """Kill the whole job, or only the process that the user started; check that no process of it is left."""
        family = descendants(self.process.pid)
        for pid in [self.process.pid, *([] if driver_alone else family)]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_for_end(family)

    def finish(self, patience: float = PATIENCE) -> str:
        """Wait for the end; return the log."""
        code = self.process.wait(patience)
        assert code == 0, self.log.read_text()
        return self.log.read_text()

    def rows(self) -> list[dict]:
        """All rows of all tables, in the order of the files."""
        folder = self.output / "detections"
        return [row for name in sorted(self.finished()) for row in parquet.read_table(folder / name).to_pylist()]
