"""The table of commands, and the program `ppdet` that calls one of them."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, NoReturn

import ppdet
from ppdet.core.command_line import called_as, make_parser, run
from ppdet.utils.errors import nearest


class Command(NamedTuple):
    """A command.

    summary: one line for `ppdet --help`. after_stop: what a user who stopped it should know, as the end of a line.
    module: its file, which has `main(argv, program)`; "" for the one in ppdet/cli with the command's name.
    """

    summary: str
    after_stop: str = ""
    module: str = ""


COMMANDS = {
    "quickstart": Command(
        "train, export, run and evaluate a small detector on generated images (6 minutes)",
        "; the same command continues the training",
    ),
    "init": Command("write a configuration for your data and this machine"),
    "train": Command("train a detector", "; -r auto continues the training run from its last checkpoint"),
    "eval": Command("evaluate a trained detector: the twelve AP and AR numbers of COCO", module="ppdet.cli.evaluate"),
    "infer": Command("detect objects in images with a trained detector"),
    "export": Command("export a trained detector for Paddle Inference, ONNX Runtime, OpenVINO"),
    "detect": Command("detect objects in images or videos with an exported detector"),
    "verify": Command("check an exported detector in every engine on this machine, and measure them"),
    "serve": Command("serve an exported detector over HTTP", module="ppdet.deploy.serve"),
    "batch": Command(
        "detect objects in millions of images with an exported detector",
        "; the same command continues with the images that are missing",
        "ppdet.deploy.batch.__main__",
    ),
    "config": Command("show every value of a configuration and where it comes from"),
    "analyze": Command("compare training runs: AP by epoch, curves of loss and learning rate"),
    "model-info": Command("count parameters, FLOPs and memory of a detector, part by part"),
    "zoo": Command("list the published detectors"),
    "convert": Command("convert weights of MMDetection, torchvision, FCOS_PLUS or detectron2"),
    "from-json": Command('convert a train.json of "FCOS in Pytorch" to a configuration'),
    "data": Command("prepare a data set of your own: convert what labelling tools export to COCO"),
    "semi-split": Command("split annotations for semi-supervised training"),
    "doctor": Command("check this machine and installation, and say what is slow or missing"),
    "check-device": Command(
        "test training and inference on a GPU, or another device, beside the CPU (10 minutes)",
        "; the report has the checks that were finished",
        "ppdet.acceptance.command",
    ),
}


def main() -> NoReturn:
    """Run the command that the process's arguments name, and end the process with its exit code."""
    words = sys.argv[1:]
    width = max(map(len, COMMANDS))
    overview = "\n".join(f"  {name:{width}}  {command.summary}" for name, command in COMMANDS.items())
    parser = make_parser(
        "FCOS object detection on PaddlePaddle, from a YAML file to a deployed detector.\n\n"
        f"commands:\n{overview}\n\n{{program}} COMMAND --help shows the options and examples of a command.",
    )
    parser.add_argument("--version", action="version", version=f"ppdet {ppdet.__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below, followed by its own arguments")
    name = parser.parse_args(words[:1]).command
    if name not in COMMANDS:
        parser.error(f"there is no command {name!r}{nearest(name, COMMANDS)} ({called_as()} --help lists them)")
    run_command(name, words[1:], f"{called_as()} {name}")


def run_command(name: str, argv: Sequence[str] | None = None, program: str | None = None) -> NoReturn:
    """Run a command, and end the process with its exit code.

    Args:
        name: a key of COMMANDS.
        argv: its arguments; None for the process's arguments.
        program: how it was called, for its help, such as "ppdet train"; None looks at the process.
    """
    run(lambda: load(name).main(argv, program), COMMANDS[name].after_stop)


def load(name: str) -> ModuleType:
    """Return the module of a command."""
    return importlib.import_module(COMMANDS[name].module or f"ppdet.cli.{name.replace('-', '_')}")
