"""Time and memory of the training step, compared with the same network in PyTorch.

Both sides take turns, and each measurement is a process of its own, so that neither library is affected by the other's
threads and memory. PyTorch uses channels last, the faster of its two layouts. Ratios are ppdet's value divided by
PyTorch's: below 1, ppdet is faster or smaller. The column "spread" is the slowest turn divided by the fastest, of the
side where it is larger. If it is far above 1, something else used the machine, and the row means nothing.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from common import make_parser, report

EXAMPLES = """examples:
  make benchmark-peer
  python benchmarks/peer/run.py --model r50 --dtype float32 --turns 1 --json peer.json
"""
SIZES = {"r50": (1, 896, 1152), "r18vd": (4, 320, 448)}  # images, height, width
DTYPES = ("float32", "bfloat16")
FIGURES = ("ours s", "peer s", "ratio s", "ours MiB", "peer MiB", "ratio MiB", "spread")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--turns", type=int, default=3, help="number of processes of each side (default: 3)")
    parser.add_argument("--model", choices=sorted(SIZES), help="only this network (default: all)")
    parser.add_argument("--dtype", choices=DTYPES, help="only this type (default: both)")
    parser.add_argument(
        "--peer_python",
        default=str(ROOT / ".venv-peer/bin/python"),
        help="a Python with PyTorch (default: the one in .venv-peer)",
    )
    return parser.parse_args()


def run(command: list[str]) -> str:
    """Run a command; return its standard output."""
    result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)  # nosec B603  # our own scripts
    if result.returncode:
        sys.exit(f"{' '.join(command)}\nended with {result.returncode}; its output:\n{result.stdout}")
    return result.stdout


def measure_ours(step: list[str], repeat: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "step.json"
        run([sys.executable, "benchmarks/train_step.py", *step, "--repeat", str(repeat), "--json", str(path)])
        return json.loads(path.read_text())["rows"][0]


def measure_peer(step: list[str], repeat: int, python: str) -> dict:
    output = run([python, "benchmarks/peer/fcos_torch.py", *step, "--steps", str(repeat), "--channels_last"])
    return json.loads(output.splitlines()[-1])


def compare(model: str, dtype: str, arguments: argparse.Namespace) -> list:
    """Measure both sides in turns; return a row of the table."""
    images, height, width = SIZES[model]
    step = f"--model {model} --batch {images} --height {height} --width {width} --dtype {dtype}".split()
    ours, peer = [], []
    for _ in range(arguments.turns):
        ours.append(measure_ours(step, arguments.repeat))
        peer.append(measure_peer(step, arguments.repeat, arguments.peer_python))
    row = [model, f"{images}x{height}x{width}", dtype, peer[0]["gflop_step"]]
    for key in ("seconds", "peak_rss_mib"):
        our, their = (median(side[key] for side in sides) for sides in (ours, peer))
        row += [our, their, our / their]
    spread = max(max(turns) / min(turns) for turns in ([t["seconds"] for t in side] for side in (ours, peer)))
    return [*row, spread, f"torch {peer[0]['versions']['torch']}"]


def main() -> None:
    arguments = parse_arguments()
    if not Path(arguments.peer_python).exists():
        sys.exit(f"{arguments.peer_python} does not exist: `make benchmark-peer` creates this environment")
    models = [arguments.model] if arguments.model else list(SIZES)
    dtypes = [arguments.dtype] if arguments.dtype else DTYPES
    rows = []
    for model in models:
        for dtype in dtypes:
            print(f"{model} {dtype} ...", file=sys.stderr, flush=True)
            rows.append(compare(model, dtype, arguments))
    title = "Training step beside PyTorch (GFLOP: convolutions of a step; seconds of a step; peak resident memory)"
    report(title, ["model", "images", "dtype", "GFLOP", *FIGURES, "peer"], rows, arguments.json)


if __name__ == "__main__":
    main()
