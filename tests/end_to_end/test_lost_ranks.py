"""Ranks that are killed during training, and how the other ranks end."""

import random
import signal
import socket
from pathlib import Path
from typing import NamedTuple

import pytest
from forked_ranks import Rank, run_jobs
from tiny import TINY_YAML, write_tiny_coco

# Trains, and kills one rank within one of its steps.
KILLED = """
import os, random, runpy, signal, sys, threading, time
from ppdet.engine.trainer import Trainer

make_step = Trainer.train_step

def train_step(trainer):
    if rank == {victim} and trainer.iteration == {step}:
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        threading.Timer({delay}, kill).start()
    make_step(trainer)

Trainer.train_step = train_step
sys.argv = ["tools/train.py", "-c", {config!r}, "-o", "epoch=100", "snapshot_epoch=100", "run_name={name}"]
runpy.run_path("tools/train.py", run_name="__main__")
"""

# Writes down what every rank has after the statistics were averaged.
AVERAGED = """
import paddle
from ppdet.engine.distributed import collectives

with collectives.joined():
    state = {
        "norm._mean": paddle.to_tensor([1.0, -4.0]) * (rank + 1),
        "norm._variance": paddle.to_tensor([[2.0, 0.5], [6.0, 0.25]][rank]),
        "norm.weight": paddle.to_tensor([float(rank)]),
    }
    collectives.average_statistics(state)
    print({name: value.tolist() for name, value in state.items()})
"""


class Jobs(NamedTuple):
    """Folder of the jobs' runs, named job0 and so on, and how each rank of every job ended."""

    runs: Path
    ranks: list[list[Rank]]


VICTIMS = [0, 1, 0, 1]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """How the ranks of all jobs ended: one job for each killed rank, then one killed while averaging."""
    folder = tmp_path_factory.mktemp("ranks")
    data = write_tiny_coco(folder / "data")
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=data))
    draw = random.Random(20261128)
    moments = [{"step": draw.randint(3, 12), "delay": draw.uniform(0, 0.2)} for _ in VICTIMS]
    config = str(folder / "tiny.yml")
    killed = [
        KILLED.format(victim=victim, config=config, name=f"job{job}", **when)
        for job, (victim, when) in enumerate(zip(VICTIMS, moments))
    ]
    return Jobs(folder / "output", run_jobs(folder, [*killed, AVERAGED]))


@pytest.mark.parametrize("job", range(len(VICTIMS)))
def test_a_rank_killed_in_a_later_step_is_named(jobs, job):
    """A step's averaging of gradients fails at once, deep in C++, when another rank is gone."""
    victim, survivor = jobs.ranks[job][VICTIMS[job]], jobs.ranks[job][1 - VICTIMS[job]]
    assert victim.code == -signal.SIGKILL
    line = f"error: rank {VICTIMS[job]} (process {victim.process} on {socket.gethostname()}) is gone: it was killed"
    assert survivor.output.count(line) == survivor.output.count("error: ") == 1, survivor.output
    assert survivor.code == 2
    assert "Traceback" not in survivor.output and "terminate called" not in survivor.output
    if VICTIMS[job] == 1:  # rank 0 keeps the log of the run
        log = (jobs.runs / f"job{job}" / "train.log").read_text()
        assert log.endswith(f"\n==== {line}, or its machine went down\n") and log.count("====") == 2, log


def test_statistics_of_two_ranks_are_averaged(jobs):
    for rank, ended in enumerate(jobs.ranks[-1]):
        expected = {"norm._mean": [1.5, -6.0], "norm._variance": [4.0, 0.375], "norm.weight": [float(rank)]}
        assert ended.code == 0 and ended.output.splitlines()[-1] == str(expected)
