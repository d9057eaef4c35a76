"""Memory and speed of a long training run whose image size changes in every step, compared with one fixed size.

Compiled operations and converted weights are cached by shape. This benchmark shows that the cache stays bounded, and
how long it takes that most sizes must be compiled again. Each run is a process of its own. The network is FCOS R18-vd
with trained batch norms on random images, small so that thousands of steps take minutes.
"""

import json
import random
import resource
import statistics
import subprocess
import sys
import time

from common import make_parser, report
from train_step import build, random_batch

EXAMPLES = """examples:
  python benchmarks/multi_scale.py
  python benchmarks/multi_scale.py --steps 2000 --json multi_scale.json
"""
LARGEST = 160  # longest side in pixels; changing sides are multiples of 32 from 64 to this
KINDS = ("single", "multi")


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--steps", type=int, default=2000, help="number of steps in each run (default: 2000)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="(default: float32)")
    parser.add_argument("--run", choices=KINDS, help="do only this run, in this process, and print JSON")
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(train(arguments.run, arguments.steps, arguments.dtype)))
        return
    rows, single = [], None
    for kind in KINDS:
        command = [sys.executable, __file__, "--run", kind, "--steps", str(arguments.steps)]
        command += ["--dtype", arguments.dtype]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # nosec B603
        memory, speed = json.loads(printed.splitlines()[-1])
        single = single or (memory, speed)
        added, added_single = memory[-1] - memory[0], single[0][-1] - single[0][0]
        ratios = [memory[-1] / single[0][-1], added / added_single, speed / single[1]]
        rows.append([kind, arguments.steps, *memory, speed, *ratios])
    header = ["image sizes", "steps", "before", "after 100", "half way", "end", "ms per megapixel"]
    header += ["end, ratio", "added by steps, ratio", "ms, ratio"]
    report(f"Training with changing image sizes, {arguments.dtype}: peak memory in MiB", header, rows, arguments.json)


def train(kind: str, steps: int, dtype: str) -> tuple[list[int], float]:
    """Train; return peak memory and speed.

    Returns:
        Peak memory in MiB before the first step, after 100 steps, after half of them and after all; and the median
        milliseconds per megapixel.
    """
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    from tqdm import tqdm

    from ppdet.modeling import cpu

    model, optimizer, cfg = build("r18vd", ["pretrain_weights=null"])
    cpu.ready()  # the check of oneDNN needs memory, which is not part of the training step
    sides = range(64, LARGEST + 1, 32)
    moments = (min(100, steps), max(1, steps // 2), steps)
    random.seed(0)
    peaks, speeds = [peak()], []
    for step in tqdm(range(steps), desc=kind, unit="step", leave=False, disable=not sys.stderr.isatty()):
        height, width = (LARGEST, LARGEST) if kind == "single" else (random.choice(sides), random.choice(sides))  # nosec B311
        batch = random_batch(cfg, 1, height, width, 4)
        start = time.perf_counter()
        with cpu.compute_in(dtype):
            model.loss(model.predict_maps(batch["image"]), batch)["loss"].backward()
        optimizer.step()
        optimizer.clear_grad()
        speeds.append((time.perf_counter() - start) * 1e9 / (height * width))
        peaks += [peak()] * moments.count(step + 1)
    return peaks, statistics.median(speeds)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


if __name__ == "__main__":
    main()
