"""Check an exported detector in every engine and precision on this machine.

Each engine that is installed runs the two images of the export's self-check, in a process of its own. A table says
whether it has the detections of the trained model, how much they differ, and how long an image takes. The lines below
it say what is fastest, what differs, fails or is missing, and which files no engine here runs.

The exit code is 1 if an engine has other detections, one that is installed and has its file fails in fp32, in the
precision of the export or in all that it reads the file for, or none can run the folder. OpenVINO may fail with an ONNX
file that ONNX Runtime runs. The exit code is 2 if the folder is no exported model, an option is wrong, or no engine
computes on the device, and otherwise 0.

examples:
  {program} output_inference/fcos_r18_fpn_shapes
  {program} DIR --device gpu
  {program} DIR --cpu_threads 4 --json engines.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.core.command_line import add_import_argument, make_parser, one_line_errors, positive
from ppdet.utils.printable import printable

if TYPE_CHECKING:
    from ppdet.deploy.engine_check import Export, Row

# Title and width of the columns; the last one, the file, has no width.
COLUMNS = (("engine", 12), ("precision", 10), ("result", 12), ("score", 9), ("box, px", 9), ("ms/image", 9))


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the exported model")
    parser.add_argument("--device", type=str.lower, default="cpu", help="cpu, gpu, gpu:1, xpu, npu, ... (default: cpu)")
    parser.add_argument("--cpu_threads", type=positive, help="threads of an engine (default: all processors)")
    parser.add_argument("--json", metavar="FILE", help="also write the table to this file")
    add_import_argument(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from dataclasses import asdict

        from ppdet.core.extensions import import_extensions
        from ppdet.deploy.backends.base import Options
        from ppdet.deploy.engine_check import Export, is_good, require_device, run_engines, summary
        from ppdet.utils.disk.files import write_json

        import_extensions(arguments.imports)
        options = Options(device=arguments.device, threads=arguments.cpu_threads)
        export = Export.read(arguments.folder)
        require_device(options)
        exporter = f", exported by {export.versions}" if export.versions else ""
        print(printable(f"{arguments.folder} on {options.device}, {options.cpu_threads} threads{exporter}"))
        print(
            f"{check_line(export)}\n\n" + "".join(f"{title:<{width}}" for title, width in COLUMNS) + "file", flush=True
        )
        rows = []
        for row in run_engines(export, device=arguments.device, threads=arguments.cpu_threads):
            rows.append(row)
            print(row_line(row), flush=True)
        print("\n" + "\n".join(printable(line) for line in summary(export, rows)))
        good = is_good(export, rows)
        if arguments.json:
            content = {"folder": str(arguments.folder), "device": options.device, "threads": options.cpu_threads}
            write_json(arguments.json, {**content, "is_good": good, "engines": [asdict(row) for row in rows]})
        if not good:
            sys.exit(1)


def check_line(export: "Export") -> str:
    """Say what the self-check of a folder has, or why it has none."""
    if export.check is not None:
        detections = sum(map(len, export.check.rows))
        return f"self-check: {len(export.check.rows)} images, {detections} detections of the trained model"
    if export.output != "detections":
        return printable(
            f"no self-check, because the graphs end with {export.output:.40} and not with detections: they are only "
            "loaded. `ppdet detect`, the server and batch jobs refuse this folder: it is for programs that decode the "
            "outputs themselves (docs/INPUTS_OUTPUTS.md); for detections, export with export.post_process and "
            "export.nms true, export.benchmark false"
        )
    return "no self-check (selfcheck.npz), as in exports of PaddleDetection: the graphs are only loaded"


def row_line(row: "Row") -> str:
    """A row as a line of the table; differences and times are only there if they were measured."""
    difference = [f"{row.score:.1e}", f"{row.pixels:.2g}"] if row.compared > row.unmatched else ["-", "-"]
    time = "-" if row.milliseconds is None else f"{row.milliseconds:.1f}"
    cells = [row.engine, row.precision, row.outcome, *difference, time]
    text = "".join(f"{cell:<{width}}" for cell, (_, width) in zip(cells, COLUMNS))
    return printable(f"{text}{row.file or '-'}")
