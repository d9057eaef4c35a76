"""A process that trains for a check, alone or as one of several that `paddle.distributed.launch` started.

    rank.py CONFIG RESULT

Rank 0 writes to RESULT, as JSON: "losses" (of every step, the mean over ranks), "AP", "processes" (of all ranks), and
"memory" (MiB in use on every card by its number, where nvidia-smi tells), read while all ranks are there.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def main(config: str, result: str) -> None:
    from ppdet.core.command_line import one_line_errors

    with one_line_errors():
        from ppdet.engine.device_choice import set_device
        from ppdet.utils.process.paddle_setup import load_paddle

        load_paddle()
        from ppdet.core.workspace import load_config
        from ppdet.engine.distributed import collectives
        from ppdet.engine.hooks import Hook
        from ppdet.engine.trainer import Trainer

        class Record(Hook):
            def __init__(self) -> None:
                self.losses: list[float] = []
                self.found: dict = {}

            def after_step(self, trainer: object) -> None:
                ranks = collectives.gather(float(trainer.losses["loss"]))
                self.losses.append(sum(ranks) / len(ranks))

            def after_evaluation(self, trainer: object, numbers: dict[str, float]) -> None:
                self.found["AP"] = numbers["AP"]

            def after_train(self, trainer: object) -> None:
                # After evaluation: the threads that take part in it may have been on another card.
                processes = collectives.gather(os.getpid())
                self.found.update(processes=processes, memory=memory_of_cards() if collectives.rank() == 0 else None)
                collectives.wait_for_all()

        cfg = load_config(config)
        set_device(cfg)
        record = Record()
        with collectives.joined():
            Trainer(cfg, evaluate=True, overwrite=True, hooks=[record]).train()
            if collectives.rank() == 0:
                Path(result).write_text(json.dumps({"losses": record.losses, **record.found}))


def memory_of_cards() -> dict[str, int] | None:
    """MiB in use on every card, by its number; None where there is no nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=index,memory.used", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    return {number.strip(): int(used) for number, _, used in (line.partition(",") for line in lines)}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from ppdet.core.command_line import run

    run(lambda: main(*sys.argv[1:]))
