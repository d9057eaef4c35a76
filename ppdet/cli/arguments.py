"""Options that several commands share.

Those of commands that also exist below this package (`python -m ppdet.deploy.serve`) are in ppdet/core/command_line.py
and ppdet/deploy/engine_options.py.
"""

import argparse
import json

from ppdet.core.command_line import add_import_argument
from ppdet.deploy.engine_options import add_slice_arguments, add_tta_arguments

TRAINED_RUN = (
    "folder of a training run, such as output/NAME, whose best_model is used (or else model_final, or else the newest "
    "checkpoint), or one of its checkpoints, such as output/NAME/3; replaces -c and -o weights="
)
ONE_OF_BOTH = "name either a RUN, such as output/NAME, or a YAML file with -c"


def add_config_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add -c/--config, -o/--opt (any number of KEY=VALUE; it may be repeated) and --import."""
    parser.add_argument(
        "-c",
        "--config",
        required=required,
        metavar="FILE|NAME",
        help="YAML file of the experiment, or the name of a shipped one (ppdet config --configs lists them)",
    )
    parser.add_argument(
        "-o",
        "--opt",
        action="extend",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="override values of the file, for example: -o epoch=1 ResNet.depth=18 TrainReader.batch_size=4",
    )
    add_import_argument(parser)


def config_words(arguments: argparse.Namespace) -> list[str]:
    """Return RUN or -c, -o and --import again, as they were given, for the line that names the next command."""
    run = getattr(arguments, "run", None)
    words = [run] if run else ["-c", arguments.config]
    words += ["-o", *arguments.opt] if arguments.opt else []
    return words + [word for name in arguments.imports for word in ("--import", name)]


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """Add --device, which does the same as -o device=; call it after `add_config_arguments`."""
    parser.add_argument(
        "--device",
        dest="opt",
        action="append",
        type=lambda text: f"device={json.dumps(text)}",
        default=argparse.SUPPRESS,
        help="device to compute on: auto, cpu, gpu, xpu, npu, ... or a certain one, such as gpu:1 (the same as "
        "-o device=DEVICE; default: auto)",
        metavar="DEVICE",
    )


def add_amp_argument(parser: argparse.ArgumentParser, setting: str) -> None:
    """Add --amp, which does the same as -o SETTING=true; call it after `add_config_arguments`.

    Args:
        setting: the global setting that asks for mixed precision: "amp" for training, "eval_amp" for evaluation.
    """
    parser.add_argument(
        "--amp",
        dest="opt",
        action="append_const",
        const=f"{setting}=true",
        default=argparse.SUPPRESS,
        help=f"compute in mixed precision (the same as -o {setting}=true); on a CPU in bfloat16, if the processor "
        "supports it",
    )


def add_detection_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of commands that detect with a trained model: `add_run_arguments`, --device and more."""
    add_run_arguments(parser)
    add_device_argument(parser)
    add_slice_arguments(parser)
    add_tta_arguments(parser)
    add_amp_argument(parser, "eval_amp")


def add_run_arguments(parser: argparse.ArgumentParser, meaning: str = TRAINED_RUN) -> None:
    """Add RUN, -c and -o for a command that uses a run; `require_run` checks them.

    Args:
        meaning: the help of RUN.
    """
    parser.add_argument("run", nargs="?", metavar="RUN", help=meaning)
    add_config_arguments(parser, required=False)


def require_run(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error unless exactly one of RUN and -c is given."""
    refuse_both(parser, arguments)
    if arguments.run is None and arguments.config is None:
        stray = next((text for text in arguments.opt if "=" not in text), None)
        hint = f"; {stray} was taken for a KEY=VALUE of -o: RUN stands before -o" if stray else ""
        parser.error(f"{ONE_OF_BOTH}{hint}")


def refuse_both(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a usage error if RUN and -c are given, where RUN may also be a setting for which -o was forgotten."""
    if arguments.run is not None and arguments.config is not None:
        is_setting = "=" in arguments.run
        parser.error(f"unrecognized arguments: {arguments.run}" if is_setting else f"{arguments.run}: {ONE_OF_BOTH}")


def add_format_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --format, --image_root and --image_url, which write detections as pre-annotations for labelling tools."""
    from ppdet.utils.formats.label_formats import FORMATS, LOCAL_FILES

    group = parser.add_argument_group("pre-annotations for labelling tools (docs/LABELLING.md)")
    group.add_argument(
        "--format",
        choices=FORMATS,
        help="write the boxes that are drawn as labels of this format too, with their scores, to OUTPUT_DIR/FORMAT",
    )
    group.add_argument(
        "--image_root",
        metavar="DIR",
        help="folder that the names of images in the labels begin from (default: --infer_dir, or the folder that all "
        "images are in)",
    )
    group.add_argument(
        "--image_url",
        default=LOCAL_FILES,
        metavar="PREFIX",
        help="what stands in front of an image's name in the tasks of Label Studio, such as https://HOST/images/ "
        f"(default: {LOCAL_FILES}, the local files of Label Studio)",
    )


def load_libraries(arguments: argparse.Namespace, *, announce: bool = True) -> None:
    """Import paddle with its settings, then the modules of --import, so that components exist before a file names them.

    Args:
        announce: log the version of paddle and its threads.
    """
    from ppdet.core.extensions import import_extensions
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=announce)
    import_extensions(arguments.imports)
