"""Check that training, evaluation, export and engines work on this machine's device, and give the CPU's numbers.

Prints a table of checks, and writes report.html, report.md and report.json to the output folder: attach the first to an
issue. Takes 10 minutes on one GPU. The exit code is 0 when nothing failed, 1 when a check did, and 2 when the kit
cannot be run as asked. docs/GPU.md says what each failure means.
"""

import argparse
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import make_parser, one_line_errors, run

EXAMPLES = """examples:
  python tools/check_device.py
  python tools/check_device.py --list
  python tools/check_device.py --only nms operators guard/nan_image_*
  python tools/check_device.py --device xpu
  python tools/check_device.py --device cpu --output output/cpu-check   # smaller, for a look at the kit itself
"""


def minutes(text: str) -> float:
    """Type of --minutes."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"expected a number of minutes above 0, not {text!r}")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--device",
        default="auto",
        metavar="TYPE",
        help="gpu, xpu, npu, … as Paddle names it, or cpu (default: auto, the first that is no CPU)",
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="CHECK", help="groups or checks, such as nms or training/o1_*"
    )
    parser.add_argument("--list", action="store_true", help="print the checks and what they need, and end")
    parser.add_argument(
        "--quick", action="store_true", help="fewer steps and smaller inputs, as always on a CPU; speed is not judged"
    )
    parser.add_argument(
        "--minutes",
        type=minutes,
        help="after which the checks that are left count as failed (default: half more than they should take, at least "
        "10)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/gpu-check"), metavar="DIR", help="default: output/gpu-check"
    )
    parser.add_argument(
        "--import",
        dest="imports",
        nargs="+",
        default=[],
        metavar="FILE",
        help="Python files that every process of the kit runs first: for what a device needs, or checks of your own",
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.acceptance.check_registry import select
        from ppdet.core.extensions import import_extensions

        if arguments.list:
            import_extensions(arguments.imports)
            for check in select(arguments.only):
                needs = f" (needs {', '.join(need.text for need in check.needs)})" if check.needs else ""
                print(f"{check.name:32} {check.title}{needs}")
            return
        from ppdet.acceptance.kit import run_kit

        code = run_kit(
            arguments.device,
            arguments.only,
            arguments.output,
            quick=arguments.quick,
            minutes=arguments.minutes,
            imports=arguments.imports,
            command=shlex.join(["python", *sys.argv]),
        )
        if code:
            sys.exit(code)


if __name__ == "__main__":
    run(main, "; the report has what was done by then")
