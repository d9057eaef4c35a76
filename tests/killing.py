"""Training runs that are killed, resumed, and compared with a run that nothing happened to."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from patience import PATIENCE
from processes import alive, descendants, rank_of, wait_for_end
from tiny import TINY_YAML, write_tiny_coco

from ppdet.engine.checkpoints.weights import read_arrays

ROOT = Path(__file__).resolve().parents[1]
READY = "training: "  # the log's line before the first step
SUFFIXES = (".pdparams", ".pdema", ".pdopt")


def write_config(folder: Path, *, images: int, epochs: int) -> Path:
    """A tiny detector with trained batch norms, averaged weights, random flips, a worker, and many checkpoints."""
    write_tiny_coco(folder / "data", images=images)
    text = TINY_YAML.format(output=folder / "output", data=folder / "data")
    text = text.replace("worker_num: 0", "worker_num: 1").replace("epoch: 2", f"epoch: {epochs}")
    path = folder / "tiny.yml"
    path.write_text(f"{text}\nuse_ema: true\nema_decay: 0.9\nsnapshot_iters: 3\n")
    return path


class TrainingRun:
    """The command `tools/train.py --eval -r auto` on a folder of its own, as one process or as several."""

    def __init__(self, config: Path, output: Path, *, processes: int = 1) -> None:
        launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(processes), "--backend", "gloo"]
        launcher += ["--log_dir", str(output / "log")]
        tool = ["tools/train.py", "-c", str(config), "--eval", "-r", "auto", "-o", f"save_dir={output}"]
        # Each rank takes its share of the batch.
        tool += [f"TrainReader.batch_size={2 // processes}"]
        self.command = [sys.executable, *(launcher if processes > 1 else []), *tool]
        self.folder = output / config.stem
        self.output = output
        self.processes = processes
        self.logs: list[str] = []

    def start(self) -> subprocess.Popen:
        self.output.mkdir(parents=True, exist_ok=True)
        self.log = self.output / f"life_{len(self.logs)}.log"
        with open(self.log, "w") as stream:
            return subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def finish(self) -> str:
        """Run to the end; return the log."""
        process = self.start()
        code = process.wait()
        self.logs.append(self.log.read_text())
        assert code == 0, f"{self.log}: {self.logs[-1][-3000:]}"
        return self.logs[-1]

    def kill(self, seconds: float, *, victim: str, since: str = READY) -> bool:
        """Start, kill after that many seconds, and see that nothing is left of it; false if it had ended before.

        Args:
            seconds: counted from the moment when the log matches `since`; if that is empty, from the start.
            victim: "trainer" (one process; its workers are left to themselves), "all" (every process at once), or
                "0", "1": that rank, without its workers.
        """
        process = self.start()
        while process.poll() is None and not re.search(since, self.log.read_text()):
            time.sleep(0.02)
        time.sleep(seconds)
        family = descendants(process.pid)
        ended = process.poll() is not None
        if not ended:
            if victim == "trainer":
                victims = [process.pid]
            elif victim == "all":
                victims = [process.pid, *family]
            else:
                victims = [pid for pid in family if rank_of(pid) == victim][:1]
            for pid in victims:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
        code = process.wait(PATIENCE)
        self.logs.append(self.log.read_text())
        wait_for_end(family)
        assert ended or code != 0, f"{self.log}: killed, and yet exit code 0"
        return not ended

    def checkpoints(self) -> list[tuple[int, Path, dict]]:
        """Steps done, prefix, and state of complete checkpoints, newest first."""
        found = []
        for path in self.folder.glob("*.json"):
            state = json.loads(path.read_text()).get("state")
            found += [(state["iteration"], path.with_suffix(""), state)] if state else []
        return sorted(found, key=lambda row: row[0], reverse=True)

    def progress(self) -> int:
        """Steps in the newest checkpoint."""
        return next((iteration for iteration, *_ in self.checkpoints()), 0)

    def interrupted(self) -> str:
        """What the last kill interrupted, as far as the files tell."""
        if READY not in self.logs[-1]:
            return "the start"
        if list(self.folder.glob(".*.tmp")):
            return "writing a file"
        complete = {"best_model", *(prefix.name for _, prefix, _ in self.checkpoints())}
        if any(path.name[: -len(".pdparams")] not in complete for path in self.folder.glob("*.pdparams")):
            return "writing a checkpoint"
        if any(not state["evaluated"] for _, _, state in self.checkpoints()):
            return "an evaluation"
        return "training"


def first_step(log: str) -> int:
    """Number of steps that were done when a run was resumed."""
    found = re.search(r"resumed from .*: \d+ epochs?, (\d+) steps? done", log)
    return int(found[1]) if found else 0


def damage(path: Path, how: str, rng: random.Random) -> str:
    """Truncate a file, or flip one bit of one of its bytes; tell where."""
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if how == "truncated":
        path.write_bytes(content[:place])
        return f"at byte {place} of {len(content)}"
    content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return f"byte {place} of {len(content)}"


def differences(one: TrainingRun, other: TrainingRun) -> list[str]:
    """Names of what is not identical, bit for bit, in the results of two runs."""
    found = []
    for name in [*(f"model_final{suffix}" for suffix in SUFFIXES), "best_model.pdparams"]:
        found += [f"{name}: {key}" for key in unequal(read_arrays(one.folder / name), read_arrays(other.folder / name))]
    states = [json.loads((run.folder / "model_final.json").read_text())["state"] for run in (one, other)]
    assert len(states[0]["history"]) > 0
    found += [f"state: {key}" for key, value in states[0].items() if states[1].get(key) != value]
    return found


def unequal(one: dict, other: dict) -> list[str]:
    if list(one) != list(other):
        return ["names"]
    found = []
    for key, value in one.items():
        if isinstance(value, dict):
            found += [f"{key}.{name}" for name in unequal(value, other[key])]
        elif isinstance(value, np.ndarray):
            same = value.dtype == other[key].dtype and value.shape == other[key].shape
            found += [] if same and value.tobytes() == other[key].tobytes() else [key]
        elif value != other[key]:
            found.append(key)
    return found
