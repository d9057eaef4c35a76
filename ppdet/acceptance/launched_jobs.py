"""Training jobs with several processes, as `paddle.distributed.launch` starts them: one per card, or two on a CPU."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.outcomes import Failed

T = TypeVar("T")
RANKS = 2
POLL = 0.1  # seconds between two looks at a running job


class Job:
    """A running job. Its processes belong to the session of the check's process, so they end with it.

    Args:
        command: a Python file and its arguments.
        folder: folder of the logs.
        ranks: number of processes; 1 starts the file without a launcher.
    """

    def __init__(self, context: Context, command: Sequence[str | Path], folder: Path, *, ranks: int = RANKS) -> None:
        self.folder, self.ranks = folder, ranks
        launcher: list[str | Path] = []
        if ranks > 1:
            cards = ["--devices", ",".join(map(str, range(ranks)))]
            processes = ["--nproc_per_node", str(ranks)] if context.device == "cpu" else cards
            launcher = ["-m", "paddle.distributed.launch", "--log_dir", folder, *processes]
        with open(folder / "console.log", "wb") as stream:
            self.process = subprocess.Popen(  # nosec B603  # this Python, with our own modules and files of the kit
                [sys.executable, *map(str, [*launcher, *command])],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env={**os.environ, **job_environment(context)},
            )

    def wait(self, seconds: float) -> int:
        """Wait for the end of the job, and return its exit code.

        Raises:
            Failed: the job has not ended after so many seconds.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.ranks} processes did not end within {seconds:.0f} s", output=self.output()) from None

    def wait_for(self, condition: Callable[[], T], what: str, seconds: float) -> T:
        """Wait until `condition` returns a true value, and return this value.

        Args:
            what: what is waited for, in words.

        Raises:
            Failed: the job ended before, or it took longer than so many seconds.
        """
        end = time.monotonic() + seconds
        while not (value := condition()):
            if self.process.poll() is not None:
                raise Failed(f"ended with exit code {self.process.returncode} before {what}", output=self.output())
            if time.monotonic() > end:
                raise Failed(f"waited {seconds:.0f} s for {what}", output=self.output())
            time.sleep(POLL)
        return value

    def output(self) -> str:
        """Return the last 3000 characters that the launcher and each rank have printed."""
        names = ["console.log", *(f"workerlog.{rank}" for rank in range(self.ranks))]
        texts = [(self.folder / name).read_text(errors="replace") for name in names if (self.folder / name).exists()]
        return "\n---\n".join(text[-3000:] for text in texts if text)

    def process_of(self, rank: int) -> int | None:
        """Return the id of the process with this rank, None if there is no such process. Works on Linux only."""
        variables = {f"PADDLE_TRAINER_ID={rank}", f"PADDLE_LOG_DIR={self.folder.resolve()}"}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if variables <= set((place / "environ").read_bytes().decode(errors="replace").split("\0")):
                    return int(place.name)
        return None


@contextlib.contextmanager
def launched(context: Context, command: Sequence[str | Path], name: str, *, ranks: int = RANKS) -> Iterator[Job]:
    """Start a job, see `Job`, and end it when the block ends. `name` is the name of its folder."""
    job = Job(context, command, context.folder(f"jobs/{name}"), ranks=ranks)
    try:
        yield job
    finally:
        if job.process.poll() is None:
            job.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.process.wait(40)
            job.process.kill()


def job_environment(context: Context) -> dict[str, str]:
    """Return the environment variables that processes of a job need besides those of this process."""
    python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables = {"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
    if context.device == "cpu":
        # A GPU build would otherwise communicate with NCCL, which needs GPUs.
        return {**variables, "PADDLE_DISTRI_BACKEND": "gloo", "OMP_NUM_THREADS": "1"}
    # For custom devices, Paddle 2.6 has to be told the name of the communication library.
    plugin = {} if context.device in ("gpu", "xpu") else {"PADDLE_XCCL_BACKEND": context.device}
    # Convolutions of 2 and of 4 images may use different kernels, whose TF32 rounding would differ.
    return {**variables, "NVIDIA_TF32_OVERRIDE": "0", **plugin}
