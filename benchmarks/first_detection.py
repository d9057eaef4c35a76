"""Time from the first import to the first detection in every engine, each in a new Python process.

The files are in the system's memory already, because each process runs once before the first measurement. The limit is
the engine alone, in a process that imports NumPy and the engine, loads the graph, and runs it once on the prepared
image. `auto` is the detector's default: it loads all engines, and takes the fastest.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from common import ROOT, make_parser, report

EXAMPLES = """examples (after `ppdet export output/fcos_r18_fpn_shapes --format onnx openvino`):
  python benchmarks/first_detection.py                       # the quick start's detector and an image of it
  python benchmarks/first_detection.py --model_dir output_inference/NAME --image IMAGE --repeat 10
"""
ENGINES = ("paddle", "onnxruntime", "openvino")
PARTS = ("import ppdet.deploy", "import the engine", "load the model", "first image")
HEADER = ("engine", *PARTS, "import to first detection", "second image", "engine alone", "ratio to the engine alone")

# Programs of the processes; each prints its times in seconds. The detector's prints PARTS, the second image and the
# number of detections.
DETECTOR = """
import json, sys, time
times = [time.perf_counter()]
def done():
    times.append(time.perf_counter())
engine, folder, image = sys.argv[1:4]
from ppdet.deploy import Detector
done()
if engine == "paddle":
    from ppdet.utils.process.paddle_setup import load_paddle
    load_paddle(announce=False)
elif engine != "auto":
    __import__(engine)
done()
detector = Detector(folder, engine)
done()
detections = detector.predict(image)
done()
detector.predict(image)
done()
print(json.dumps([*(after - before for before, after in zip(times, times[1:])), len(detections)]))
"""
ALONE = """
import glob, sys, time
start = time.perf_counter()
import numpy
folder, arrays, threads = sys.argv[2], dict(numpy.load(sys.argv[3])), int(sys.argv[4])
{}
print([time.perf_counter() - start])
"""
RUNS = {
    "paddle": """
from paddle import inference
graph = (glob.glob(folder + "/model.json") + glob.glob(folder + "/model.pdmodel"))[0]
config = inference.Config(graph, folder + "/model.pdiparams")
config.disable_glog_info()
config.enable_mkldnn()
config.set_cpu_math_library_num_threads(threads)
predictor = inference.create_predictor(config)
for name in predictor.get_input_names():
    predictor.get_input_handle(name).copy_from_cpu(arrays[name])
predictor.run()
outputs = [predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()]
""",
    "onnxruntime": """
import onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = threads
session = onnxruntime.InferenceSession(folder + "/model.onnx", options, providers=["CPUExecutionProvider"])
outputs = session.run(None, {value.name: arrays[value.name] for value in session.get_inputs()})
""",
    "openvino": """
import openvino
settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
compiled = openvino.Core().compile_model(folder + "/model.xml", "CPU", settings)
outputs = compiled({value.get_any_name(): arrays[value.get_any_name()] for value in compiled.inputs})
""",
}


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--model_dir",
        type=Path,
        default=Path("output_inference/fcos_r18_fpn_shapes"),
        metavar="DIR",
        help="an export in the formats of the engines (default: %(default)s)",
    )
    parser.add_argument(
        "--image",
        type=Path,
        default=Path("dataset/shapes/data/images/val/000041.jpg"),
        metavar="FILE",
        help="an image (default: %(default)s)",
    )
    parser.add_argument(
        "--engine", nargs="+", choices=ENGINES, default=ENGINES, help="engines to measure (default: all)"
    )
    return parser.parse_args()


def programs(folder: Path, image: Path, prepared: Path, engines: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Return the arguments of Python for each (engine, "detector" or "alone").

    Args:
        prepared: file with the inputs of the graph for this image.
    """
    from ppdet.utils.process.cpu import cpu_count

    commands = {}
    for engine in engines:
        commands[engine, "detector"] = [DETECTOR, engine, str(folder), str(image)]
        commands[engine, "alone"] = [ALONE.format(RUNS[engine]), engine, str(folder), str(prepared), str(cpu_count())]
    if len(engines) > 1:
        commands["auto", "detector"] = [DETECTOR, "auto", str(folder), str(image)]
    return commands


def run(arguments: Sequence[str]) -> list[float]:
    """Run a program in a new Python process, and return the times that it prints last.

    Raises:
        SystemExit: the program failed; the message is its own.
    """
    done = subprocess.run([sys.executable, "-c", *arguments], cwd=ROOT, capture_output=True, text=True)  # nosec B603
    if done.returncode:
        sys.exit(f"{arguments[1]}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(commands: Mapping[tuple[str, str], list[str]], repeat: int) -> dict[tuple[str, str], list[float]]:
    """Return the medians of what each program prints. Programs take turns; their first turn is not counted."""
    turns = [{key: run(command) for key, command in commands.items()} for _ in range(1 + repeat)][1:]
    return {key: [statistics.median(values) for values in zip(*(turn[key] for turn in turns))] for key in commands}


def table(medians: Mapping[tuple[str, str], list[float]]) -> list[list[object]]:
    """Return a row of HEADER for each engine."""
    rows = []
    for engine in dict.fromkeys(engine for engine, _ in medians):
        *parts, second, _ = medians[engine, "detector"]
        (alone,) = medians.get((engine, "alone"), [None])
        shown = [*parts, sum(parts), second]
        if alone is None:  # auto imports the engines itself
            shown[1] = ""
        rows.append([engine, *shown, *(["", ""] if alone is None else [alone, sum(parts) / alone])])
    return rows


def main() -> None:
    arguments = parse_arguments()
    import numpy as np

    from ppdet.deploy.preprocess import Preprocess, read_infer_cfg

    folder, image = arguments.model_dir.resolve(), arguments.image.resolve()
    preprocess = Preprocess(read_infer_cfg(folder))
    with tempfile.TemporaryDirectory() as temporary:
        prepared = Path(temporary) / "prepared.npz"
        np.savez(prepared, **preprocess.join([preprocess.prepare(str(image))]))
        medians = measure(programs(folder, image, prepared, arguments.engine), arguments.repeat)
    count = int(medians[arguments.engine[0], "detector"][-1])
    report(f"Seconds to {count} detections in {image.name}, by {folder.name}", HEADER, table(medians), arguments.json)


if __name__ == "__main__":
    main()
