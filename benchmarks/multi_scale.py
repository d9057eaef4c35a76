"""Memory of a long training run whose images change size in every step, beside one of the largest size alone.

Compiled operations and blocked weights are kept by shape; this shows that what is kept stays bounded. Each run is a
process of its own. The network is FCOS R18-vd with random images, so that thousands of steps take minutes.
"""

import json
import random
import resource
import subprocess
import sys

from common import make_parser, report
from train_step import build, random_batch

EXAMPLES = """examples:
  python benchmarks/multi_scale.py
  python benchmarks/multi_scale.py --steps 2000 --json multi_scale.json
"""
LARGEST = 256  # pixels of a side; multi-scale sides are all multiples of 32 from 64 to it


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--steps", type=int, default=2000, help="steps of each run (default: 2000)")
    parser.add_argument("--run", choices=("single", "multi"), help="one of the two runs, here in this process")
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(train(arguments.run, arguments.steps)))
        return
    rows = []
    for kind in ("single", "multi"):
        command = [sys.executable, __file__, "--run", kind, "--steps", str(arguments.steps)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append([kind, arguments.steps, *json.loads(printed.splitlines()[-1])])
    for row in rows:
        row.append(row[-1] / rows[0][4])
    header = ["image sizes", "steps", "MiB after 100 steps", "half way", "peak", "ratio to single"]
    report("Memory of training with changing image sizes", header, rows, arguments.json)


def train(kind: str, steps: int) -> list[int]:
    """Peak memory in MiB after 100 steps, half way and at the end."""
    from ppdet.engine.runtime import load_paddle

    load_paddle(announce=False)
    model, optimizer, cfg = build("r18vd", ["pretrain_weights=null", "ResNet.freeze_norm=true"])
    sides = range(64, LARGEST + 1, 32)
    random.seed(0)
    peaks = []
    for step in range(steps):
        height, width = (LARGEST, LARGEST) if kind == "single" else (random.choice(sides), random.choice(sides))
        batch = random_batch(cfg, 1, height, width, 4)
        model.loss(model.predict_maps(batch["image"]), batch)["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
        if step + 1 in (min(100, steps), max(1, steps // 2), steps):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
    return peaks


if __name__ == "__main__":
    main()
