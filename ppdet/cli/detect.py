"""Detect objects with an exported detector, in images, a video, a stream or a camera, or measure how fast it is.

The model is a folder that `ppdet export` or PaddleDetection wrote.

examples:
  {program} --model_dir output_inference/fcos_r18_fpn_shapes --image_file IMAGE
  {program} --model_dir DIR --image_dir IMAGES --batch_size 4 --save_results
  {program} --model_dir DIR --video_file VIDEO --threshold 0.4
  {program} --model_dir DIR --video_file rtsp://USER:PASSWORD@HOST/PATH --save_results
  {program} --model_dir DIR --camera_id 0
  {program} --model_dir DIR --image_dir IMAGES --run_benchmark --backend openvino --precision bf16
  {program} --model_dir DIR --image_dir IMAGES --slice_infer --slice_size 640 640
  {program} --model_dir DIR --image_dir IMAGES --tta
"""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ppdet.core.command_line import add_import_argument, flag, make_parser, one_line_errors, positive
from ppdet.deploy.engine_options import add_slice_arguments, add_tta_arguments, number_between
from ppdet.deploy.precisions import PRECISIONS

if TYPE_CHECKING:
    from ppdet.deploy.slicing import Slicing


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    # As in PaddleDetection: --save_results, or --save_results True.
    boolean: dict[str, Any] = {"type": flag, "nargs": "?", "const": True}
    parser.add_argument("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--image_file", metavar="FILE", help="one image")
    images.add_argument(
        "--image_dir", metavar="DIR", help="all images in a folder and its subfolders, also in those that are links"
    )
    images.add_argument("--image_list", metavar="FILE", help="a text file with the path of one image per line")
    images.add_argument("--video_file", metavar="FILE", help="a video, or the address of one (rtsp, rtmp, http)")
    images.add_argument("--camera_id", type=camera, metavar="N", help="a camera: 0 is the first one")
    parser.add_argument(
        "--output_dir", default="output", metavar="DIR", help="folder for the results (default: output)"
    )
    parser.add_argument(
        "--threshold",
        type=number_between(0, 1),
        help="draw boxes with at least this score (default: what infer_cfg.yml says, by class or 0.5)",
    )
    parser.add_argument("--batch_size", type=positive, default=1, help="images per run of the model (default: 1)")
    parser.add_argument(
        "--save_results", **boolean, default=False, help="write all detections to bbox.json, or to .jsonl for a video"
    )
    parser.add_argument("--save_images", **boolean, default=True, help="draw pictures or a video (default: true)")
    parser.add_argument("--coco_json", metavar="FILE", help="COCO annotations with the image ids for bbox.json")
    add_import_argument(parser)

    engine = parser.add_argument_group("engine")
    engine.add_argument("--device", type=str.lower, default="cpu", help="cpu, gpu, gpu:1, xpu, npu, ... (default: cpu)")
    engine.add_argument(
        "--backend",
        choices=("auto", "paddle", "onnxruntime", "openvino"),
        help="engine that runs the model; auto: the fastest one (default: auto, or paddle when an option is given that "
        "only Paddle has)",
    )
    engine.add_argument("--precision", choices=PRECISIONS, help="default: the one chosen when the model was exported")
    engine.add_argument("--cpu_threads", type=positive, help="threads of the engine (default: all processors)")
    engine.add_argument(
        "--run_mode", choices=("paddle", "trt_fp32", "trt_fp16"), help="trt_*: compute with TensorRT on a GPU"
    )
    engine.add_argument("--enable_mkldnn", **boolean, help="Paddle: compute with oneDNN on a CPU (default: true)")
    engine.add_argument("--enable_mkldnn_bfloat16", **boolean, default=False, help="the same as --precision bf16")

    benchmark = parser.add_argument_group("benchmark")
    benchmark.add_argument(
        "--run_benchmark", **boolean, default=False, help="measure the time of each stage and write benchmark.json"
    )
    benchmark.add_argument(
        "--benchmark_runs", type=positive, default=50, help="least number of batches to measure (default: 50)"
    )
    add_slice_arguments(parser)
    add_tta_arguments(parser)
    return parser.parse_args(argv)


def camera(text: str) -> int:
    """Type of --camera_id."""
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected the number of a camera, from 0 to 999999999, not {text[:40]!r}")
    return int(text)


def detector_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Translate the options of the engine to the arguments of `Detector`.

    Raises:
        DeployError: options contradict each other.
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
    asked = {
        "--precision": arguments.precision,
        "--run_mode": run_mode.split("_")[1] if tensorrt else None,
        "--enable_mkldnn_bfloat16": "bf16" if bfloat16 else None,
    }
    precisions = {name: value for name, value in asked.items() if value}
    if len(set(precisions.values())) > 1:
        conflict = " and ".join(f"{name} asks for {value}" for name, value in precisions.items())
        raise DeployError(f"{conflict}: give one of them")
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
        "precision": next(iter(precisions.values()), None),
        "threads": arguments.cpu_threads,
        "tensorrt": tensorrt,
        "onednn": onednn is not False,
        "max_batch": arguments.batch_size,
    }


def check_modes(arguments: argparse.Namespace) -> None:
    """Raise DeployError for options that have no effect on the kind of input."""
    from ppdet.utils.errors import DeployError

    is_video = arguments.video_file is not None or arguments.camera_id is not None
    if is_video and arguments.run_benchmark:
        raise DeployError("--run_benchmark needs --image_file, --image_dir or --image_list")
    if arguments.slice_infer and (is_video or arguments.run_benchmark):
        raise DeployError("--slice_infer needs --image_file, --image_dir or --image_list, and no --run_benchmark")
    if arguments.tta and arguments.run_benchmark:
        raise DeployError("--run_benchmark measures the model on images as they are: leave --tta out")
    if arguments.coco_json and (is_video or arguments.run_benchmark or not arguments.save_results):
        raise DeployError("--coco_json is for --save_results of images")


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.core.extensions import import_extensions
        from ppdet.deploy.slicing import slicing_of
        from ppdet.deploy.tta import tta_of

        check_modes(arguments)
        slicing = slicing_of(arguments)
        options = {**detector_options(arguments), "tta": tta_of(arguments)}
        import_extensions(arguments.imports)
        if arguments.video_file is not None or arguments.camera_id is not None:
            detect_in_video(arguments, options)
        else:
            detect_in_images(arguments, options, slicing)


def detect_in_images(arguments: argparse.Namespace, options: dict[str, Any], slicing: "Slicing | None") -> None:
    from ppdet.deploy.results import coco_image_ids, write_results
    from ppdet.utils.disk.images import list_images

    paths = list_images(arguments.image_file, arguments.image_dir, arguments.image_list)
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
        draw_threshold=detector.thresholds if arguments.threshold is None else arguments.threshold,
        visualize=arguments.save_images,
        save_results=arguments.save_results,
        image_ids=image_ids,
    )


def detect_in_video(arguments: argparse.Namespace, options: dict[str, Any]) -> None:
    from ppdet.deploy import Detector
    from ppdet.deploy.video.detection import check_output, detect_video
    from ppdet.deploy.video.source import VideoSource

    source = VideoSource(arguments.video_file if arguments.camera_id is None else arguments.camera_id)
    check_output(source, arguments.output_dir, arguments.save_images)  # finding the fastest engine takes long
    detector = Detector(arguments.model_dir, **options)
    detect_video(
        detector,
        source,
        arguments.output_dir,
        batch_size=arguments.batch_size,
        threshold=detector.thresholds if arguments.threshold is None else arguments.threshold,
        visualize=arguments.save_images,
        save_results=arguments.save_results,
    )
