"""Detect objects with an exported model (a folder that tools/export_model.py or PaddleDetection wrote): in images, in a
video, or before a camera; or measure how fast it is."""

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.core.cli import add_slice_arguments, flag, make_parser, one_line_errors, positive, run

EXAMPLES = """examples:
  python deploy/python/infer.py --model_dir output_inference/fcos_r18vd_fpn_bccd --image_file cells.jpg
  python deploy/python/infer.py --model_dir DIR --image_dir photos --batch_size 4 --save_results
  python deploy/python/infer.py --model_dir DIR --video_file street.mp4 --threshold 0.4
  python deploy/python/infer.py --model_dir DIR --camera_id 0
  python deploy/python/infer.py --model_dir DIR --image_dir photos --run_benchmark --backend openvino --precision bf16
  python deploy/python/infer.py --model_dir DIR --image_dir aerial --slice_infer --slice_size 640 640
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    yes = {"type": flag, "nargs": "?", "const": True}  # as PaddleDetection: --save_results, or --save_results True
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--image_file", metavar="FILE", help="one image")
    images.add_argument("--image_dir", metavar="DIR", help="all images in a folder and below it")
    images.add_argument("--video_file", metavar="FILE", help="a video")
    images.add_argument("--camera_id", type=camera, metavar="N", help="a camera: 0 is the first one")
    parser.add_argument("--output_dir", default="output", help="folder of the results (default: output)")
    parser.add_argument("--threshold", type=score, default=0.5, help="least score of a drawn box (default: 0.5)")
    parser.add_argument("--batch_size", type=positive, default=1, help="images per run of the model (default: 1)")
    parser.add_argument("--save_results", **yes, default=False, help="write all detections: bbox.json, or NAME.jsonl")
    parser.add_argument("--save_images", **yes, default=True, help="draw pictures or a video (default: true)")
    parser.add_argument("--coco_json", metavar="FILE", help="COCO annotations, to take bbox.json's image ids from")

    engine = parser.add_argument_group("what computes")
    engine.add_argument("--device", type=str.lower, default="cpu", help="cpu, gpu, gpu:1, xpu, npu, ... (default: cpu)")
    engine.add_argument(
        "--backend",
        choices=("auto", "paddle", "onnxruntime", "openvino"),
        help="auto: the fastest one (default: paddle with an option that only Paddle has, otherwise auto)",
    )
    engine.add_argument("--precision", choices=("fp32", "bf16", "fp16"), help="default: the export's")
    engine.add_argument("--cpu_threads", type=positive, help="default: all processors")
    engine.add_argument("--run_mode", choices=("paddle", "trt_fp32", "trt_fp16"), help="trt: by TensorRT, on a GPU")
    engine.add_argument("--enable_mkldnn", **yes, help="Paddle: compute with oneDNN on a CPU (default: true)")
    engine.add_argument("--enable_mkldnn_bfloat16", **yes, default=False, help="the same as --precision bf16")

    benchmark = parser.add_argument_group("benchmark")
    benchmark.add_argument("--run_benchmark", **yes, default=False, help="time the stages, write benchmark.json")
    benchmark.add_argument("--benchmark_runs", type=positive, default=50, help="least batches to time (default: 50)")
    add_slice_arguments(parser)
    return parser.parse_args()


def camera(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected the number of a camera, 0 or more, not {text!r}")
    return int(text)


def score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a score from 0 to 1, not {text!r}")
    return value


def detector_options(arguments: argparse.Namespace) -> dict:
    """What the options mean for Detector.

    Raises:
        DeployError: they contradict each other.
    """
    from ppdet.utils.errors import DeployError

    run_mode, onednn, bfloat16 = arguments.run_mode, arguments.enable_mkldnn, arguments.enable_mkldnn_bfloat16
    tensorrt = run_mode is not None and run_mode.startswith("trt_")
    on_cpu, on_gpu = arguments.device == "cpu", arguments.device.partition(":")[0] == "gpu"
    only_paddle = {
        "--run_mode paddle": run_mode == "paddle",
        "--enable_mkldnn": onednn is not None,
        "--enable_mkldnn_bfloat16": bfloat16,
    }
    given = [name for name, is_given in only_paddle.items() if is_given]
    precisions = {
        "--precision": arguments.precision,
        "--run_mode": run_mode.split("_")[1] if tensorrt else None,
        "--enable_mkldnn_bfloat16": "bf16" if bfloat16 else None,
    }
    wanted = {name: value for name, value in precisions.items() if value}
    if len(set(wanted.values())) > 1:
        raise DeployError(" and ".join(f"{name} asks for {value}" for name, value in wanted.items()) + ": give one")
    if given and arguments.backend not in (None, "paddle"):
        raise DeployError(f"{given[0]} is for --backend paddle, not {arguments.backend}")
    if tensorrt and arguments.backend == "openvino":
        raise DeployError(f"--run_mode {run_mode} is TensorRT, which --backend openvino does not have")
    if tensorrt and not on_gpu:
        raise DeployError(f"--run_mode {run_mode} is TensorRT, which needs --device gpu")
    if onednn and not on_cpu:
        raise DeployError("--enable_mkldnn is for --device cpu")
    if bfloat16 and (onednn is False or not on_cpu):
        raise DeployError("--enable_mkldnn_bfloat16 needs --enable_mkldnn true and --device cpu")
    return {
        "backend": arguments.backend or ("paddle" if given or tensorrt else "auto"),
        "device": arguments.device,
        "precision": next(iter(wanted.values()), None),
        "threads": arguments.cpu_threads,
        "tensorrt": tensorrt,
        "onednn": onednn is not False,
        "max_batch": arguments.batch_size,
    }


def check_modes(arguments: argparse.Namespace) -> None:
    """Raises DeployError for options that say nothing about what is to be done."""
    from ppdet.utils.errors import DeployError

    is_video = arguments.video_file is not None or arguments.camera_id is not None
    if is_video and arguments.run_benchmark:
        raise DeployError("--run_benchmark takes --image_file or --image_dir")
    if arguments.slice_infer and (is_video or arguments.run_benchmark):
        raise DeployError("--slice_infer takes --image_file or --image_dir, and no --run_benchmark")
    if arguments.coco_json and (is_video or arguments.run_benchmark or not arguments.save_results):
        raise DeployError("--coco_json is for --save_results of images")


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.deploy.slicing import slicing_of

        check_modes(arguments)
        slicing = slicing_of(arguments)
        options = detector_options(arguments)
        if arguments.video_file is not None or arguments.camera_id is not None:
            run_video(arguments, options)
        else:
            run_images(arguments, options, slicing)


def run_images(arguments: argparse.Namespace, options: dict, slicing: object) -> None:
    from ppdet.deploy.results import coco_image_ids, list_images, write_results

    paths = list_images(arguments.image_file, arguments.image_dir)
    image_ids = coco_image_ids(arguments.coco_json, paths) if arguments.coco_json else None
    from ppdet.deploy import Detector

    detector = Detector(arguments.model_dir, **options)
    if arguments.run_benchmark:
        from ppdet.deploy.benchmark import run_benchmark

        run_benchmark(
            detector, paths, arguments.output_dir, batch_size=arguments.batch_size, runs=arguments.benchmark_runs
        )
        return
    write_results(
        detector.detect(paths, arguments.batch_size, slicing),
        paths,
        arguments.output_dir,
        class_names=detector.class_names,
        category_ids=detector.category_ids,
        draw_threshold=arguments.threshold,
        visualize=arguments.save_images,
        save_results=arguments.save_results,
        image_ids=image_ids,
    )


def run_video(arguments: argparse.Namespace, options: dict) -> None:
    from ppdet.deploy import Detector
    from ppdet.deploy.video import VideoSource
    from ppdet.deploy.video_results import detect_video

    is_camera = arguments.camera_id is not None
    source = VideoSource(arguments.camera_id if is_camera else arguments.video_file)
    detector = Detector(arguments.model_dir, **options)
    to_the_end = detect_video(
        detector,
        source,
        arguments.output_dir,
        batch_size=arguments.batch_size,
        threshold=arguments.threshold,
        visualize=arguments.save_images,
        save_results=arguments.save_results,
        stop=stop_signal(),
    )
    if not to_the_end and not is_camera:  # a camera has no other end
        sys.exit(130)


def stop_signal() -> Callable[[], bool]:
    """Whether Ctrl-C was pressed or SIGTERM has come: what is being written is finished first. The second time, they
    interrupt at once.

    To be called when Paddle has been loaded, which sets its own handler of SIGTERM.
    """
    stopped = threading.Event()

    def handle(number: int, frame: object) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
    return stopped.is_set


if __name__ == "__main__":
    run(main)
