"""Serve an exported model over HTTP: POST /predict, a page to try it on, health and metrics.

A token, which requests then have to carry, comes from the environment variable PPDET_TOKEN or from --token_file, and
never from the command line, which every user of a machine can see.
"""

import argparse
import ipaddress
import math
import os
import signal
import sys
from collections.abc import Sequence

from ppdet.core.command_line import make_parser, one_line_errors, positive, run
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import DeployError

EXAMPLES = """examples:
  {program} --model_dir output_inference/fcos_r18vd_fpn_bccd
  {program} --model_dir DIR --backend onnxruntime --cpu_threads 4 --max_batch 8 --max_delay_ms 10
  PPDET_TOKEN=$(cat token) {program} --model_dir DIR --host 0.0.0.0
  curl -F image=@cells.jpg http://127.0.0.1:8080/predict
"""
TOKEN_VARIABLE = "PPDET_TOKEN"


def at_least_zero(text: str) -> float:
    """Type of an option that takes a number of at least 0."""
    return number_of(text, least=0.0, wanted="a number of at least 0")


def above_zero(text: str) -> float:
    """Type of an option that takes a number above 0."""
    return number_of(text, least=1e-6, wanted="a number above 0")


def number_of(text: str, least: float, wanted: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"expected {wanted}, not {text!r}")
    return value


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES, program)
    add = parser.add_argument
    add("--model_dir", required=True, metavar="DIR", help="folder of the exported model")
    add("--backend", default="auto", help="paddle, onnxruntime or openvino; auto: the fastest of them (default)")
    add("--device", type=str.lower, default="cpu", help="cpu, gpu, gpu:1, xpu, npu, ... (default: cpu)")
    add("--precision", choices=("fp32", "bf16", "fp16"), help="default: the export's")
    add("--cpu_threads", type=positive, help="of the model (default: all processors)")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all (default: 127.0.0.1)")
    add("--port", type=int, default=8080, help="0: one that is free, which the log names (default: 8080)")
    add("--max_batch", type=positive, help="images in one run of the model (default: 4 on a CPU, 8 elsewhere)")
    add("--max_delay_ms", type=at_least_zero, default=5, help="wait for a batch to fill (default: 5)")
    add("--max_queue", type=positive, default=64, help="requests at once; more get a 503 (default: 64)")
    add("--max_body_mb", type=above_zero, default=20, help="size of a request in MiB (default: 20)")
    add("--max_pixels", type=positive, default=50_000_000, help="of an image (default: 50 million)")
    add("--timeout_s", type=above_zero, default=30, help="from request to answer (default: 30)")
    add("--token_file", metavar="FILE", help=f"file with the token (default: the variable {TOKEN_VARIABLE}, or none)")
    arguments = parser.parse_args(argv)
    if not 0 <= arguments.port < 65536:
        parser.error(f"argument --port: expected 0 to 65535, not {arguments.port}")
    return arguments


def read_token(path: str | None) -> str | None:
    """The token of a file or of the environment, None where there is none.

    Raises:
        DeployError: it is empty, or of other than visible ASCII characters, which a header cannot carry.
    """
    if path is None and TOKEN_VARIABLE not in os.environ:
        return None
    # errors: what is not UTF-8 is not ASCII either, and refused below.
    text = os.environ[TOKEN_VARIABLE] if path is None else read_text(path, errors="replace")
    token = text.strip()
    if not token or any(not "!" <= character <= "~" for character in token):
        raise DeployError(f"{path or TOKEN_VARIABLE}: expected a token of visible ASCII characters, without spaces")
    return token


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def import_form_parser() -> None:
    """python-multipart, which Starlette imports by the name that it has, and does without until a form comes."""
    from starlette import formparsers

    if formparsers.multipart is None:
        raise ModuleNotFoundError(name="python-multipart")


def serve(arguments: argparse.Namespace) -> None:
    token = read_token(arguments.token_file)
    for number in (signal.SIGTERM, signal.SIGINT):
        # Nothing is to be finished while the model loads. The first process of a container dies of no signal by itself.
        signal.signal(number, lambda *_: sys.exit(0))
    # A second limit, in OpenCV itself, for files whose header says one size to one reader and another to the next.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(arguments.max_pixels))
    try:
        from ppdet.deploy.serving.limits import Settings
        from ppdet.deploy.serving.server import Server, bind
        from ppdet.deploy.serving.service import Service

        import_form_parser()
    except ModuleNotFoundError as error:
        raise DeployError(f"{error.name} is not installed: pip install 'ppdet-fcos[serve]'") from None
    from ppdet.deploy import Detector
    from ppdet.utils.logger import get_logger

    logger = get_logger("ppdet.deploy.serve")
    listener = bind(arguments.host, arguments.port)
    if token is None and not is_loopback(arguments.host):
        logger.warning("anybody who reaches %s may use this server: there is no token (--token_file)", arguments.host)
    detector = Detector(
        arguments.model_dir,
        arguments.backend,
        device=arguments.device,
        precision=arguments.precision,
        threads=arguments.cpu_threads,
    )
    settings = Settings(
        max_batch=arguments.max_batch or (4 if arguments.device == "cpu" else 8),
        max_delay_ms=arguments.max_delay_ms,
        max_queue=arguments.max_queue,
        max_body_mb=arguments.max_body_mb,
        max_pixels=arguments.max_pixels,
        timeout_s=arguments.timeout_s,
        token=token,
    )
    Server(Service(detector, settings)).run_on(listener)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        serve(arguments)


if __name__ == "__main__":
    run(main)
