"""Batch jobs that are killed and started again, and what they must have left behind in the end."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from patience import PATIENCE, wait_until
from processes import alive, command_of, descendants, wait_for_end
from pyarrow import parquet

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "ppdet.deploy.batch"]


class BatchRun:
    """The command on one output folder, in several lives. Logs lie beside the folder."""

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
        """Names of the tables that are there, and when they were written."""
        return {path.name: path.stat().st_mtime_ns for path in (self.output / "detections").glob("part*")}

    def workers(self) -> list[int]:
        """Processes with a Detector, those that still load included."""
        return [pid for pid in descendants(self.process.pid) if "DetectorWorker" in command_of(pid) and alive(pid)]

    def wait_for(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        def there() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
            return bool(condition())

        wait_until(there, str(self.log), patience)

    def kill_worker(self, number: int = 0) -> None:
        os.kill(self.workers()[number], signal.SIGKILL)

    def kill(self, *, driver_alone: bool = False) -> None:
        """Kill the job as a whole, or the process that the user started alone; see that nothing of it is left."""
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
