"""Prepare a data set of your own: convert what labelling tools export, check it, look at it, choose what to label.

commands:
{table}

examples:
{examples}
"""

import argparse
import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple

from ppdet.core.command_line import called_as, make_parser
from ppdet.utils.errors import nearest


class Subcommand(NamedTuple):
    """A command below `ppdet data`, whose module ppdet/cli/data_NAME.py has `parse_arguments` and `main`.

    summary: one line for `ppdet data --help`. example: its arguments, for the same help.
    """

    summary: str
    example: str


SUBCOMMANDS = {
    "convert": Subcommand(
        "convert Pascal VOC, YOLO, LabelMe, CVAT, Label Studio, CSV and others' COCO to COCO, and split it",
        "my_export dataset/mine --split 0.8/0.2",
    ),
    "check": Subcommand(
        "find broken images, wrong boxes, duplicates and starving feature levels, and write a page and a cleaned copy",
        "dataset/mine",
    ),
    "show": Subcommand(
        "show training batches after augmentation, with boxes and positive locations", "-c fcos_r18_fpn_shapes"
    ),
    "pick": Subcommand(
        "pick the images of a folder that are worth labelling next",
        "IMAGES output/NAME --labelled train.json --number 50",
    ),
}


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    """Parse the arguments of a subcommand, the first of which is its name."""
    name, rest, program = _chosen(argv, program)
    return load(name).parse_arguments(rest, program)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    name, rest, program = _chosen(argv, program)
    load(name).main(rest, program)


def load(name: str) -> ModuleType:
    """Return the module of a subcommand."""
    return importlib.import_module(f"ppdet.cli.data_{name}")


def _chosen(argv: Sequence[str] | None, program: str | None) -> tuple[str, list[str], str]:
    """The subcommand's name, its arguments, and how it was called, such as "ppdet data convert"."""
    program = program or called_as()
    width = max(map(len, SUBCOMMANDS))
    table = "\n".join(f"  {name:{width}}  {command.summary}" for name, command in SUBCOMMANDS.items())
    examples = "\n".join(f"  {program} {name} {command.example}" for name, command in SUBCOMMANDS.items())
    text = (__doc__ or "").replace("{table}", table).replace("{examples}", examples)
    parser = make_parser(f"{text}\n{program} NAME --help shows the options of a command.", program)
    parser.add_argument("command", metavar="NAME", help="one of those below, followed by its own arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    words = parser.parse_args(argv if argv is None else list(argv))
    if words.command not in SUBCOMMANDS:
        name = words.command
        parser.error(f"there is no command {name!r}{nearest(name, SUBCOMMANDS)} ({program} --help lists them)")
    return words.command, words.arguments, f"{program} {words.command}"
