"""Serve an exported model over HTTP: POST /predict, a web page to try the model, health checks and metrics.

If requests must carry a token, it comes from the environment variable PPDET_TOKEN or from --token_file. It cannot be
given on the command line, because every user of a machine can see the command lines of all processes.

examples:
  {program} --model_dir output_inference/fcos_r18_fpn_shapes
  {program} --model_dir DIR --backend onnxruntime --cpu_threads 4 --max_batch 8 --max_delay_ms 10
  PPDET_TOKEN=$(cat token) {program} --model_dir DIR --host 0.0.0.0
  curl -F image=@IMAGE http://127.0.0.1:8080/predict
"""

import argparse
import ipaddress
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from ppdet.core.command_line import make_parser, one_line_errors, run
from ppdet.deploy.engine_options import (
    add_engine_arguments,
    add_slice_arguments,
    add_tta_arguments,
    number_between,
    whole_number_between,
)
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import DeployError
from ppdet.utils.extras import require_extras

TOKEN_VARIABLE = "PPDET_TOKEN"  # nosec B105  # its name


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_engine_arguments(parser)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all (default: 127.0.0.1)")
    add(
        "--port",
        type=whole_number_between(0, 65535),
        default=8080,
        metavar="N",
        help="port to listen on; 0: a free one, which the log names (default: 8080)",
    )
    add(
        "--max_batch",
        type=whole_number_between(1, 256),
        metavar="N",
        help="most images, or windows of them, per batch (default: 4 on a CPU, 8 elsewhere)",
    )
    add(
        "--max_delay_ms",
        type=number_between(0, 60_000),
        default=5,
        metavar="MS",
        help="wait for a batch to fill (default: 5)",
    )
    add(
        "--max_queue",
        type=whole_number_between(1, 10_000),
        default=64,
        metavar="N",
        help="most requests at once, then 503 (default: 64)",
    )
    add(
        "--max_body_mb",
        type=number_between(0.001, 2047),
        default=20,
        metavar="MB",
        help="most MiB in a request (default: 20)",
    )
    add(
        "--max_pixels",
        type=whole_number_between(1, 2**31 - 1),
        default=50_000_000,
        help="of an image, width x height (default: 50 million)",
    )
    add(
        "--max_windows",
        type=whole_number_between(1, 10_000),
        metavar="N",
        help="of an image, with --slice_infer (default: 256)",
    )
    add(
        "--timeout_s",
        type=number_between(0.001, 86_400),
        default=30,
        metavar="S",
        help="longest time to an answer (default: 30)",
    )
    add(
        "--trusted_hosts",
        type=names,
        default=(),
        metavar="NAME,...",
        help="names by which clients call this server, besides localhost, this machine's name, --host and addresses",
    )
    add(
        "--max_connections",
        type=whole_number_between(1, 100_000),
        metavar="N",
        help="most connections in all (default: 512)",
    )
    add(
        "--max_connections_per_address",
        type=whole_number_between(1, 100_000),
        metavar="N",
        help="most connections from one address (default: 128)",
    )
    add("--token_file", metavar="FILE", help=f"file with the token (default: the variable {TOKEN_VARIABLE}, or none)")
    group = parser.add_argument_group("several replicas of the server on a Ray cluster (docs/SCALING.md)")
    group.add_argument(
        "--ray",
        action="store_true",
        help="Ray Serve accepts the requests, and replicas answer them as this server does",
    )
    group.add_argument(
        "--replicas",
        type=whole_number_between(1, 10_000),
        metavar="N",
        help="replicas, each with --cpu_threads processors, which is 1 then unless it is given (default: 1)",
    )
    group.add_argument(
        "--ray_address", metavar="ADDRESS", help="of a Ray cluster, or auto (default: start Ray on this machine)"
    )
    add_slice_arguments(parser)
    add_tta_arguments(parser)
    return parser.parse_args(argv)


def names(text: str) -> tuple[str, ...]:
    """Names of hosts, without ports, separated by commas."""
    found = tuple(name.strip() for name in text.split(","))
    if not all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in found):
        raise argparse.ArgumentTypeError(
            f"expected names of hosts without ports, as in a.example,b.example, not {text!r}"
        )
    return found


def read_token(path: str | None) -> str | None:
    """The token in a file, or in the environment if `path` is None; None if neither has a token.

    Raises:
        DeployError: the token is empty, or has characters that a header cannot carry.
    """
    if path is None and TOKEN_VARIABLE not in os.environ:
        return None
    # Bytes that are not UTF-8 become characters that are not ASCII, and are refused below.
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


def check_options(arguments: argparse.Namespace) -> None:
    """Raise DeployError for options that have no effect, or no meaning, with others."""
    needs = {"max_windows": "slice_infer", "replicas": "ray", "ray_address": "ray"}
    for name, switch in needs.items():
        if getattr(arguments, name) is not None and not getattr(arguments, switch):
            raise DeployError(f"--{name} has no effect without --{switch}: add that, or leave it out")
    if arguments.ray:
        for name in ("max_connections", "max_connections_per_address"):
            if getattr(arguments, name) is not None:
                raise DeployError(
                    f"--{name} has no effect with --ray, whose proxies accept the connections: leave it out"
                )
        if arguments.device not in ("cpu", "gpu"):
            raise DeployError(f"--ray takes --device cpu, or gpu (one per replica), not {arguments.device}")


def serve(arguments: argparse.Namespace) -> None:
    from ppdet.deploy.slicing import slicing_of

    check_options(arguments)
    token = read_token(arguments.token_file)
    slicing = slicing_of(arguments)
    for ending in (signal.SIGTERM, signal.SIGINT):
        # Before the server listens there is no request to finish.
        signal.signal(ending, lambda *_: sys.exit(0))
    # The limit of OpenCV and of `image_files.most_pixels`, in all processes of the server. OpenCV reads it when it is
    # imported, as the modules below do.
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(arguments.max_pixels))
    require_extras(DeployError, "serve")
    from ppdet.core.extensions import import_extensions
    from ppdet.deploy.serving.hosts import normal_names, own_names
    from ppdet.deploy.serving.jobs import ServedModel
    from ppdet.deploy.serving.limits import Settings
    from ppdet.deploy.tta import tta_of
    from ppdet.utils.logger import get_logger

    logger = get_logger("ppdet.deploy.serve")
    if token is None and not is_loopback(arguments.host):
        logger.warning("anybody who reaches %s may use this server: there is no token (--token_file)", arguments.host)
    import_extensions(arguments.imports)
    model = ServedModel(
        Path(arguments.model_dir),
        arguments.backend,
        arguments.device,
        arguments.precision,
        arguments.cpu_threads,
        tta_of(arguments),
        slicing,
    )
    if model.tta:
        logger.info("test-time augmentation: %s", model.tta)
    if slicing:
        logger.info("slicing: %s", slicing)
    settings = Settings(
        max_batch=arguments.max_batch or (4 if arguments.device == "cpu" else 8),
        max_delay_ms=arguments.max_delay_ms,
        max_queue=arguments.max_queue,
        max_body_mb=arguments.max_body_mb,
        max_pixels=arguments.max_pixels,
        max_windows=arguments.max_windows or Settings.max_windows,
        timeout_s=arguments.timeout_s,
        token=token,
        own_names=own_names(arguments.host),
        trusted_hosts=normal_names(arguments.trusted_hosts),
        max_connections=arguments.max_connections or Settings.max_connections,
        max_connections_per_address=arguments.max_connections_per_address or Settings.max_connections_per_address,
    )
    if arguments.ray:
        from ppdet.deploy.serving.replicas import Replicas, serve_on_ray

        replicas = Replicas(arguments.replicas or 1, arguments.host, arguments.port, arguments.ray_address)
        serve_on_ray(model, settings, replicas)
    else:
        from ppdet.deploy.serving.server import serve_here

        serve_here(model, settings, arguments.host, arguments.port)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        serve(arguments)


if __name__ == "__main__":
    run(main)
