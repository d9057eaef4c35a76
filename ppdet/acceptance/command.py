"""Check that training, evaluation, export and inference work on this machine's device and agree with the CPU.

The command prints a table of checks and writes report.md and report.json to the output folder; attach both to an
issue. A full run takes 10 minutes on one GPU. The exit code is 0 if no check failed, 1 if a check failed, and 2 if the
checks cannot run as requested. docs/GPU.md explains what each failure means.

examples:
  {program}
  {program} --list
  {program} --only nms operators guard/nan_image_*
  {program} --device xpu
  {program} --device cpu --output output/cpu-check   # a quick run on the CPU
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ppdet.core.command_line import add_import_argument, make_parser, one_line_errors, positive


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument(
        "--device",
        default="auto",
        metavar="TYPE",
        help="type of device as Paddle names it: gpu, xpu, npu, … or cpu (default: auto, the first device that is not "
        "the CPU)",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="CHECK",
        help="run only these groups or checks, such as nms or training/o1_*",
    )
    parser.add_argument("--list", action="store_true", help="print the checks and their needs, and run nothing")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="run fewer steps on smaller inputs, as runs on the CPU always do; speed is measured but not judged",
    )
    parser.add_argument(
        "--minutes",
        type=positive,
        help="end the run after this time; the remaining checks count as failed (default: 1.5 times the expected time, "
        "at least 10)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("output/gpu-check"),
        metavar="DIR",
        help="folder of the report (default: output/gpu-check)",
    )
    add_import_argument(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
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
