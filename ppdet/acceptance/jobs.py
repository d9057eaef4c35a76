"""Jobs of several processes, as `paddle.distributed.launch` starts them: one for each card, or two on a CPU."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.outcomes import Failed

RANKS = 2
POLL = 0.1


class Job:
    """A running job. Its processes are in the session of the check, and end with that at the latest.

    Args:
        command: a Python file and its arguments. folder: of the logs. ranks: 1 starts the file itself.
    """

    def __init__(self, context: Context, command: Sequence[object], folder: Path, *, ranks: int = RANKS) -> None:
        self.folder, self.ranks = folder, ranks
        folder.mkdir(parents=True, exist_ok=True)
        launcher: list[object] = []
        if ranks > 1:
            numbers = ",".join(map(str, range(ranks)))
            place = ["--nproc_per_node", ranks] if context.device == "cpu" else ["--devices", numbers]
            launcher = ["-m", "paddle.distributed.launch", "--log_dir", folder, *place]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", **environment_of(context)}
        with open(self.console, "wb") as stream:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, [*launcher, *command])],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
            )

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def wait(self, seconds: float) -> int:
        """Its exit code.

        Raises:
            Failed: it is still there after so many seconds.
        """
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.ranks} processes do not end: waited {seconds:.0f} s", output=self.output()) from None

    def until(self, condition: Callable[[], object], what: str, seconds: float) -> object:
        """Wait until the condition holds, and give what it gives.

        Raises:
            Failed: the job has ended before, or it takes longer.
        """
        end = time.monotonic() + seconds
        while not (found := condition()):
            if self.process.poll() is not None:
                raise Failed(f"ended with {self.process.returncode} before {what}", output=self.output())
            if time.monotonic() > end:
                raise Failed(f"waited {seconds:.0f} s for {what}", output=self.output())
            time.sleep(POLL)
        return found

    def output(self, rank: int | None = None) -> str:
        """What it, or one rank of it, has printed."""
        path = self.console if rank is None else self.folder / f"workerlog.{rank}"
        try:
            return path.read_text(errors="replace")
        except OSError:
            return ""

    def process_of(self, rank: int) -> int | None:
        """Number of the process that is this rank, None while there is none. Linux tells it."""
        wanted = {f"PADDLE_TRAINER_ID={rank}", f"PADDLE_LOG_DIR={self.folder.resolve()}"}
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (place / "environ").read_bytes().decode(errors="replace").split("\0")
                if wanted <= set(variables):
                    return int(place.name)
        return None


@contextlib.contextmanager
def job(context: Context, command: Sequence[object], name: str, *, ranks: int = RANKS) -> Iterator[Job]:
    """A job that is ended when the block is."""
    one = Job(context, command, context.folder(f"jobs/{name}"), ranks=ranks)
    try:
        yield one
    finally:
        if one.process.poll() is None:
            one.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.process.wait(40)
            one.process.kill()


def environment_of(context: Context) -> dict[str, str]:
    """What processes of a job start with."""
    python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if context.device != "cpu":
        # Paddle 2.6 asks for the library by which plugins' devices talk; the others' it knows.
        plugin = {} if context.device in ("gpu", "xpu") else {"PADDLE_XCCL_BACKEND": context.device}
        # Convolutions of 2 and of 4 images may be other kernels: what TF32 rounds in them would be compared.
        return {"PYTHONPATH": python_path, "NVIDIA_TF32_OVERRIDE": "0", **plugin}
    # With a GPU build the processes would talk by NCCL, which needs GPUs.
    return {"PYTHONPATH": python_path, "PADDLE_DISTRI_BACKEND": "gloo", "OMP_NUM_THREADS": "1"}
