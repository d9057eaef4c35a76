"""Two cards as one: the same losses, what becomes of a killed process, and whose memory is on card 0."""

import json
import os
import re
import signal
import socket
from pathlib import Path

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import ROOT, Context
from ppdet.acceptance.facts import GPU, Need, cards
from ppdet.acceptance.jobs import RANKS, Job, job
from ppdet.acceptance.made import config
from ppdet.acceptance.outcomes import Failed, Outcome, Skipped

STEPS = 10
APART = 1e-3  # of a loss, that two cards may be from one: sums are added up in another order
EXTRA_MIB = 150  # on card 0 beside card 1; a context of CUDA takes more
START = 120.0  # seconds in which a job has to make its first steps: each process loads Paddle
END = 30.0  # seconds in which it has to end after a process was killed
PAIR = Need(
    f"{RANKS} cards, or a CPU",
    lambda facts: None if facts.device == "cpu" else cards(RANKS).missing(facts),
)
# Rates and decays of AdamW would make much of small differences.
PLAIN = {
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
    Two cards with 2 images each do not train as one with 4 does. If the job does not even start: NCCL is missing or
    cannot reach the other card (NCCL_DEBUG=INFO in front shows why; NCCL_P2P_DISABLE=1 goes around broken peer access).
    If losses differ, results of several cards are not to be trusted: please send the report.
"""


def train(context: Context, name: str, ranks: int, more: dict) -> dict:
    """What `rank.py` finds out, of a run of STEPS steps over four images."""
    path = config_file(context, name, {**PLAIN, "TrainReader.batch_size": 4 // ranks, **more})
    result = context.work / f"{name}.json"
    context.progress(f"{ranks} process{'es' if ranks > 1 else ''}, {name}")
    with job(context, [ROOT / "ppdet" / "acceptance" / "rank.py", path, result], name, ranks=ranks) as running:
        code = running.wait(START)
        if code or not result.exists():
            raise Failed(f"{name}: {ranks} processes end with exit code {code}", output=tail(running))
    return json.loads(result.read_text())


def config_file(context: Context, name: str, more: dict) -> Path:
    """A configuration of a run on shapes, for other processes."""
    path = context.work / f"{name}.yml"
    config(context, name, more).dump(path)
    return path


def tail(running: Job) -> str:
    """The ends of what the launcher and its ranks have printed."""
    parts = [running.output(), *(running.output(rank) for rank in range(running.ranks))]
    return "\n---\n".join(part[-3000:] for part in parts if part)


def judge_losses(one: list[float], two: list[float]) -> Outcome:
    """Raises Failed where the losses of one process and the means of two are apart."""
    import numpy as np

    numbers = {"losses_of_one": one, "losses_of_two": two}
    if len(one) != len(two):
        raise Failed(f"one process made {len(one)} steps, two made {len(two)}", **numbers)
    # NumPy's largest, unlike Python's, is what is not a number where there is one.
    apart = float(np.max(np.abs(np.subtract(two, one)) / np.abs(one)))
    detail = f"2 x 2 images against 1 x 4: losses of {len(one)} steps within {apart:.1e} (limit {APART:.0e})"
    if not apart <= APART:
        raise Failed(detail, **numbers)
    return Outcome(detail, numbers)


@check(
    "cards/losses",
    title="losses of two processes with 2 images each beside one with 4, with group norm",
    advice=LOSS_ADVICE,
    needs=[PAIR],
    limit=250,
    seconds=50,
)
def losses(context: Context) -> Outcome:
    norm = {"ResNet.norm_type": "gn"}
    one = train(context, "one_gn", 1, norm)
    return judge_losses(one["losses"], two_ranks(context)["losses"])


def two_ranks(context: Context) -> dict:
    """The run of two processes with group norm, which two checks look at; and memory of the cards before it."""

    def run() -> dict:
        from ppdet.acceptance.rank import memory_of_cards

        before = memory_of_cards()
        return {"before": before, **train(context, "two_gn", RANKS, {"ResNet.norm_type": "gn"})}

    return context.shared_numbers("two_ranks", run)


@check(
    "cards/sync_bn",
    title="losses of two cards with sync_bn beside one card with batch norm over all 4 images",
    advice=LOSS_ADVICE,
    needs=[GPU, PAIR],
    limit=250,
    seconds=45,
)
def sync_bn(context: Context) -> Outcome:
    one = train(context, "one_bn", 1, {"ResNet.norm_type": "bn"})
    two = train(context, "two_bn", RANKS, {"ResNet.norm_type": "sync_bn"})
    return judge_losses(one["losses"], two["losses"])


@check(
    "cards/memory",
    title="memory of card 0: that of its own process alone",
    advice="""
    The process of another card has a context on card 0 as well, which takes some hundred MiB there: with 8 cards
    several GB, and card 0 is out of memory first. Please send the report. Until it is mended, a smaller batch size goes
    around it. CUDA_VISIBLE_DEVICES of its own for each process does not: all have to see the launcher's cards.
    """,
    needs=[GPU, PAIR],
    limit=200,
    seconds=5,
)
def memory(context: Context) -> Outcome:
    found = two_ranks(context)
    if not found["before"] or not found["memory"]:
        raise Skipped("nvidia-smi, which tells how much memory of each card is in use, is not here")
    return judge_memory(found["before"], found["memory"])


def judge_memory(before: dict[str, int], during: dict[str, int]) -> Outcome:
    """Both in MiB by card. Raises Failed where card 0 has got more than card 1."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1").split(",")
    first, second = (number.strip() if number.strip() in during else str(i) for i, number in enumerate(visible[:2]))
    taken = {number: during[number] - before[number] for number in (first, second)}
    extra = taken[first] - taken[second]
    detail = (
        f"card {first} {taken[first]} MiB more than before, card {second} {taken[second]}: {extra} MiB beside it "
        f"(limit {EXTRA_MIB})"
    )
    numbers = {"before": before, "during": during}
    if extra > EXTRA_MIB:
        raise Failed(detail, **numbers)
    return Outcome(detail, numbers)


@check(
    "cards/killed",
    title="one of two processes is killed: the other ends with a line, and the run goes on with -r auto",
    advice="""
    A process that is killed must not leave the others waiting for ever, and what they had saved must be found again.
    docs/DISTRIBUTED.md says what should happen and after how long. If the other process does not end, it waits in a
    call of NCCL that nothing breaks off; until that is mended, a limit of time of the batch system ends such jobs.
    Please send the report.
    """,
    needs=[PAIR],
    limit=300,
    seconds=60,
)
def killed(context: Context) -> Outcome:
    """The command `ppdet train` on two ranks, saving every 10 steps; rank 1 is killed after the first of them."""
    if not Path("/proc/self/environ").exists():
        raise Skipped("processes are found in /proc, which this system does not have")
    steps = context.pick(400, 60)
    more = {**PLAIN, "max_iters": steps, "snapshot_iters": 10, "TrainReader.batch_size": 2, "ResNet.norm_type": "gn"}
    path = config_file(context, "killed", more)
    output = context.work / "runs" / "killed"
    command = [ROOT / "ppdet" / "__main__.py", "train", "-c", path, "-r", "auto"]
    with job(context, command, "killed") as running:
        context.progress("waiting for a checkpoint")
        running.until(lambda: list(output.glob("snapshot_*.json")), "its first checkpoint", START)
        victim = running.process_of(1)
        if victim is None:
            raise Failed("no process of rank 1 is found", output=tail(running))
        os.kill(victim, signal.SIGKILL)
        code = running.wait(END)
        line = f"error: rank 1 (process {victim} on {socket.gethostname()}) is gone"
        if code != 2 or line not in running.output() + running.output(0):
            raise Failed(f"exit code {code}, expected 2 and the line “{line}”", output=tail(running))
    with job(context, command, "again") as running:
        context.progress("going on from the checkpoint")
        code = running.wait(START)
        done = re.search(r"trained (\d+) steps in", running.output() + running.output(0))
        if code or not done or not (output / "model_final.pdparams").exists():
            raise Failed(f"the run does not go on: exit code {code}", output=tail(running))
    left = int(done[1])
    if not 0 < left <= steps - 10:
        raise Failed(f"the run went on for {left} of {steps} steps: it did not begin where it was saved")
    return Outcome(f"exit code 2 and its line; -r auto made the last {left} of {steps} steps")
