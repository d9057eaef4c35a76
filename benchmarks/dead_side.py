"""Compare two starts of the box head: distances of 0, and distances of 2 strides, as a new head has here.

Each run trains the quick start's detector from scratch for a few dozen steps. A side of the boxes is dead if its
distance is predicted as zero at more than 95 % of the positive locations of the last steps. Such a distance gets no
gradient. The table that is printed has a row for each seed and start.
"""

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

EXAMPLES = """examples:
  python dataset/shapes/generate.py && python benchmarks/dead_side.py
  python benchmarks/dead_side.py --seeds 3 --steps 40 --json dead_side.json
"""
LAST = 20  # number of steps at the end of a run in which zeros are counted


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of runs with each starting value (default: 10)")
    parser.add_argument("--steps", type=int, default=60, help="number of steps in a run (default: 60)")
    parser.add_argument("--json", metavar="FILE", help="also write the numbers to this file")
    return parser.parse_args()


def run(seed: int, bias: float, steps: int) -> dict:
    """Train; return the box loss and the share of zeros of each side (left, top, right, bottom) in the last steps."""
    import numpy as np
    import paddle

    from ppdet.core.workspace import load_config
    from ppdet.engine.hooks import Hook
    from ppdet.engine.trainer import Trainer

    class Watch(Hook):
        def __init__(self) -> None:
            self.rows = []

        def after_step(self, trainer: Trainer) -> None:
            losses = trainer.losses
            zeros = losses["zero_sides"].sum(axis=0).numpy() / max(1.0, float(losses["positives"].sum()))
            self.rows.append([float(losses["loss_box"]), *zeros])

    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        options = [
            f"seed={seed}",
            f"save_dir={folder}",
            "epoch=1",
            "OptimizerBuilder.optimizer.type=Momentum",
            "OptimizerBuilder.optimizer.momentum=0.9",
            "OptimizerBuilder.optimizer.weight_decay=null",
            "LearningRate.base_lr=0.01",
            f"TrainDataset.sample_num={4 * steps}",
        ]
        cfg = load_config(str(ROOT / "configs/fcos/fcos_r18_fpn_shapes.yml"), options)
        trainer = Trainer(cfg, hooks=[watch])
        trainer.model.fcos_head.fcos_head_reg.bias.set_value(paddle.full([4], bias))
        trainer.train()
    last = np.mean(watch.rows[-LAST:], axis=0)
    return {"seed": seed, "bias": bias, "loss_box": float(last[0]), "zeros": [float(v) for v in last[1:]]}


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle()
    from ppdet.engine.hooks.location_warnings import SIDES
    from ppdet.modeling.heads.fcos_head import DISTANCE_START

    logging.getLogger("ppdet").setLevel(logging.ERROR)
    results = []
    sides = " | ".join(f"{side} is zero" for side in SIDES)
    print(f"| seed | start, strides | box loss | {sides} | dead sides |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in range(arguments.seeds):
        for bias in (0.0, DISTANCE_START):
            result = run(seed, bias, arguments.steps)
            results.append(result)
            zeros = " | ".join(f"{100 * share:.0f} %" for share in result["zeros"])
            dead = sum(share > 0.95 for share in result["zeros"])
            print(f"| {seed} | {bias:g} | {result['loss_box']:.3f} | {zeros} | {dead} |", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
