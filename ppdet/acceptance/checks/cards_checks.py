"""Checks of training on two cards: losses as on one card, memory of card 0, and recovery from a killed process."""

import json
import os
import re
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.device_facts import GPU, Need, cards
from ppdet.acceptance.launched_jobs import RANKS, launched
from ppdet.acceptance.outcomes import Failed, Outcome, Skipped, outcome_if
from ppdet.acceptance.small_detector import run_config

TRAIN: list[str | Path] = [ROOT / "ppdet" / "__main__.py", "train"]
STEPS = 10
ALLOWED = 1e-3  # relative difference of a loss, because ranks add up sums in another order
EXTRA_MIB = 150  # allowed memory of card 0 above that of card 1, in MiB; a context of CUDA needs more
START = 120.0  # seconds in which a job has to make its first steps: each process loads Paddle
END = 30.0  # seconds in which a job has to end after one of its processes was killed
PAIR = Need(
    f"{RANKS} cards, or a CPU",
    lambda facts: None if facts.device == "cpu" else cards(RANKS).missing(facts),
)
# AdamW divides by small numbers at the start, which would amplify rounding, so all runs use Momentum.
SETTINGS = {
    "OptimizerBuilder.optimizer": None,
    "OptimizerBuilder.optimizer.type": "Momentum",
    "OptimizerBuilder.optimizer.momentum": 0.9,
    "LearningRate.base_lr": 0.002,
    "auto_lr": None,
    "epoch": None,
    "max_iters": STEPS,
    "log_iter": 5,
    "TrainReader.shuffle": False,
}
LOSS_ADVICE = """
    Two cards with 2 images each do not train like one card with 4. If the job does not start, NCCL is missing or cannot
    reach the other card: NCCL_DEBUG=INFO in front of the command shows the reason, and NCCL_P2P_DISABLE=1 avoids broken
    peer access. If the losses differ, results of several cards are not reliable. Please send the report.
"""


def config_file(context: Context, name: str, overrides: Mapping[str, Any]) -> Path:
    """Write the configuration of a run called `name`, with SETTINGS and then `overrides` by dotted key."""
    import ppdet.acceptance.rank_recorder  # noqa: F401  registers the hook

    path = context.work / f"{name}.yml"
    run_config(context, name, {**SETTINGS, **overrides}).dump(path)
    return path


def train(context: Context, name: str, ranks: int, norm: str) -> dict[str, Any]:
    """Train for STEPS steps with four images per step in total.

    Args:
        name: name of the run.
        ranks: number of processes.
        norm: type of the backbone's norm layers: "gn", "bn" or "sync_bn".

    Returns:
        What `RankRecorder` writes.
    """
    result = context.work / f"{name}.json"
    hooks = [{"name": "RankRecorder", "result": str(result)}]
    path = config_file(context, name, {"TrainReader.batch_size": 4 // ranks, "ResNet.norm_type": norm, "hooks": hooks})
    command = [*TRAIN, "-c", path, "--eval", "--overwrite", "--import", "ppdet.acceptance.rank_recorder"]
    with launched(context, command, name, ranks=ranks) as job:
        code = job.wait(START)
        if code or not result.exists():
            raise Failed(f"{name}: {ranks} processes ended with exit code {code}", output=job.output())
    return json.loads(result.read_text())


def two_ranks(context: Context) -> dict[str, Any]:
    """Return the result of two processes with group norm, which two checks use, and the cards' memory "before"."""

    def run() -> dict[str, Any]:
        from ppdet.acceptance.rank_recorder import memory_of_cards

        before = memory_of_cards()
        return {"before": before, **train(context, "two_gn", RANKS, "gn")}

    return context.shared_value("two_ranks", run)


def judge_rank_losses(one: list[float], two: list[float]) -> Outcome:
    """Compare the losses of one process with the means of two.

    Raises:
        Failed: they differ by more than ALLOWED.
    """
    numbers = {"losses_of_one": one, "losses_of_two": two}
    if len(one) != len(two):
        raise Failed(f"one process made {len(one)} steps, two made {len(two)}", **numbers)
    # Unlike Python's max, NumPy's is NaN if any value is.
    difference = float(np.max(np.abs(np.subtract(two, one)) / np.abs(one)))
    detail = (
        f"2 x 2 images and 1 x 4 images: losses of {len(one)} steps differ by at most {difference:.1e} "
        f"(limit {ALLOWED:.0e})"
    )
    return outcome_if(difference <= ALLOWED, detail, numbers)


@check("cards/losses", advice=LOSS_ADVICE, needs=[PAIR], seconds=50)
def losses(context: Context) -> Outcome:
    """Losses of two processes with 2 images each, compared with one process with 4, with group norm"""
    one = train(context, "one_gn", 1, "gn")
    return judge_rank_losses(one["losses"], two_ranks(context)["losses"])


@check("cards/sync_bn", advice=LOSS_ADVICE, needs=[GPU, PAIR], seconds=45)
def sync_bn(context: Context) -> Outcome:
    """Losses of two cards with sync_bn, compared with one card with batch norm over all 4 images"""
    one = train(context, "one_bn", 1, "bn")
    two = train(context, "two_bn", RANKS, "sync_bn")
    return judge_rank_losses(one["losses"], two["losses"])


@check("cards/memory", needs=[GPU, PAIR], seconds=5, limit=200)
def memory(context: Context) -> Outcome:
    """Memory of card 0, which only its own process may use

    The process of another card has a context on card 0 as well, which needs some hundred MiB there. With 8 cards,
    this is several GB, and card 0 runs out of memory first. Please send the report. Until this is fixed, a smaller
    batch size helps. Setting CUDA_VISIBLE_DEVICES for each process does not help: all processes have to see all
    cards of the launcher.
    """
    result = two_ranks(context)
    if not result["before"] or not result["memory"]:
        raise Skipped("nvidia-smi, which tells the memory of each card, is not installed")
    return judge_memory(result["before"], result["memory"])


def judge_memory(before: dict[str, int], during: dict[str, int]) -> Outcome:
    """Compare the memory in use before and during the run, in MiB by card.

    Raises:
        Failed: on card 0, it has grown by EXTRA_MIB more than on card 1.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    # If CUDA_VISIBLE_DEVICES has names such as GPU-4b1, the first two cards are taken.
    first, second = (number.strip() if number.strip() in during else str(i) for i, number in enumerate(visible[:2]))
    growth = {number: during[number] - before[number] for number in (first, second)}
    extra = growth[first] - growth[second]
    detail = (
        f"card {first} uses {growth[first]} MiB more than before, card {second} {growth[second]} MiB: a difference of "
        f"{extra} MiB (limit {EXTRA_MIB})"
    )
    numbers = {"before": before, "during": during}
    return outcome_if(extra <= EXTRA_MIB, detail, numbers)


@check("cards/killed", needs=[PAIR], seconds=60)
def killed(context: Context) -> Outcome:
    """One of two processes is killed: the other ends with an error, and the run continues with -r auto

    If a process is killed, the others must not wait forever, and the checkpoints must be found again.
    docs/DISTRIBUTED.md says what should happen, and after how many seconds. If the other process does not end, it
    waits in a call of NCCL that nothing interrupts. Until this is fixed, set a time limit in your batch system.
    Please send the report.
    """
    # Trains on two ranks, saves every 10 steps, and kills rank 1 after the first checkpoint.
    if not Path("/proc/self/environ").exists():
        raise Skipped("the process of a rank is found in /proc, which this system does not have")
    steps = context.pick(400, 60)
    overrides = {"max_iters": steps, "snapshot_iters": 10, "TrainReader.batch_size": 2, "ResNet.norm_type": "gn"}
    command = [*TRAIN, "-c", config_file(context, "killed", overrides), "-r", "auto"]
    folder = context.work / "runs" / "killed"
    with launched(context, command, "killed") as job:
        job.wait_for(lambda: list(folder.glob("snapshot_*.json")), "its first checkpoint", START)
        process = job.process_of(1)
        if process is None:
            raise Failed("the process of rank 1 was not found", output=job.output())
        os.kill(process, signal.SIGKILL)
        code = job.wait(END)
        line = f"error: rank 1 (process {process} on {socket.gethostname()}) is gone"
        if code != 2 or line not in job.output():
            raise Failed(f"exit code {code}, expected 2 and the line “{line}”", output=job.output())
    with launched(context, command, "resumed") as job:
        code = job.wait(START)
        done = re.search(r"trained (\d+) steps? in", job.output())
        if code or not done or not (folder / "model_final.pdparams").exists():
            raise Failed(f"the run did not continue to its end: exit code {code}", output=job.output())
    left = int(done[1])
    if not 0 < left <= steps - 10:
        raise Failed(f"the resumed run made {left} of {steps} steps, so it did not start from the checkpoint")
    return Outcome(f"exit code 2 and the error in the log; -r auto made the last {left} of {steps} steps")
