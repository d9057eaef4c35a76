"""A hook that records losses of all ranks and memory of all cards, for checks that train on several cards.

`ppdet train --import ppdet.acceptance.rank_recorder` with `hooks: [{name: RankRecorder, result: FILE}]`.
"""

import json
import subprocess
from pathlib import Path

from ppdet.core.workspace import register
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer


@register
class RankRecorder(Hook):
    """Writes a JSON file at the end of training: "losses", the mean over ranks at every step, and "memory".

    Args:
        result: path of the file. "memory" is what `memory_of_cards` returns while the processes of all ranks exist.
    """

    def __init__(self, result: str) -> None:
        self.result = result
        self.losses: list[float] = []

    def after_step(self, trainer: Trainer) -> None:
        ranks = collectives.gather(float(trainer.losses["loss"]))
        self.losses.append(sum(ranks) / len(ranks))

    def after_train(self, trainer: Trainer) -> None:
        # The evaluation is over now, whose threads might have used a card of another rank.
        collectives.wait_for_all()
        if collectives.rank() == 0:
            content = {"losses": self.losses, "memory": memory_of_cards()}
            Path(self.result).write_text(json.dumps(content), encoding="utf-8")
        collectives.wait_for_all()


def memory_of_cards() -> dict[str, int] | None:
    """Return the memory in use on every NVIDIA GPU, in MiB by its number; None without a working nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)  # nosec B603  # constants
        lines = done.stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    return {number.strip(): int(used) for number, _, used in (line.partition(",") for line in lines)}
