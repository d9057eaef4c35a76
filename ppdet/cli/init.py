"""Write a configuration for your data and this machine, in which every value has its reason as a comment.

DATA is a folder as `ppdet data convert` writes it: train.json, val.json (COCO annotations, in the folder annotations,
in DATA itself, or in its subfolders, as Roboflow has them) and the images. It may also be one COCO file. The command
reads the classes and the sizes of images and boxes, looks at the machine, times training steps, and writes a YAML file
of some 30 lines. On a CPU it proposes a run that ends within an hour.

examples:
  {program} my_data                              # writes my_data.yml
  {program} my_data --to cells.yml --minutes 20
  {program} my_data --from_scratch               # do not look for pretrained weights on the network
  {program} my_data/annotations/all.json --image_dir photos --estimate
"""

import argparse
import functools
import json
import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.core.command_line import make_parser, one_line_errors, positive
from ppdet.utils.errors import UserError
from ppdet.utils.printable import counted, printable

if TYPE_CHECKING:
    from ppdet.engine.proposal.fitting import Proposal
    from ppdet.engine.proposal.found_data import FoundData
    from ppdet.engine.proposal.machine import Machine

CPU_MINUTES = 60


class FileExists(UserError, ValueError):
    """The file to write exists already."""


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of the data set, or one COCO file")
    parser.add_argument("--image_dir", type=Path, metavar="DIR", help="folder of the images (default: found in DATA)")
    parser.add_argument("--to", type=Path, metavar="YML", help="file to write (default: the name of DATA, with .yml)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    parser.add_argument(
        "--minutes",
        type=positive,
        help=f"time that training and its evaluations may take (default: {CPU_MINUTES} on a CPU, any on other devices)",
    )
    parser.add_argument("--device", default="auto", help="device to train on, such as cpu or gpu:1 (default: auto)")
    parser.add_argument("--from_scratch", action="store_true", help="do not use pretrained weights of the backbone")
    parser.add_argument("--estimate", action="store_true", help="estimate the time of a training step; run none")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        from ppdet.utils.process.paddle_setup import load_paddle

        load_paddle(announce=False)
        from ppdet.core.workspace import load_config
        from ppdet.engine.device_choice import set_device
        from ppdet.engine.proposal.fitting import propose
        from ppdet.engine.proposal.found_data import read_data
        from ppdet.engine.proposal.machine import look_at_machine
        from ppdet.engine.proposal.recipe import BASE
        from ppdet.utils.disk.files import atomic_path

        data = read_data(arguments.data, arguments.image_dir)
        name = re.sub(r"[^\w.-]+", "_", data.name).strip("._") or "mine"
        path = arguments.to or Path(f"{name}.yml")
        if path.exists() and not arguments.overwrite:
            raise FileExists(f"{path}: this file exists already: give --overwrite, or another name with --to")
        set_device(load_config(BASE, [f"device={json.dumps(arguments.device)}"]))
        machine = look_at_machine()
        weights, why_weights = choose_weights(machine, from_scratch=arguments.from_scratch)
        print(printable(f"data: {describe(data)}"))
        print(f"machine: {machine.text()}")
        proposal = propose(
            data,
            machine,
            name=path.stem,
            weights=weights,
            why_weights=why_weights,
            minutes=arguments.minutes or (CPU_MINUTES if machine.is_cpu else None),
            measured=not arguments.estimate,
            tell=functools.partial(print, flush=True),
        )
        with atomic_path(path) as temporary:
            temporary.write_text(proposal.text, encoding="utf-8")
        report(path, data, machine, proposal)


def choose_weights(machine: "Machine", *, from_scratch: bool) -> tuple[str | None, str]:
    """Download the backbone's weights, and return their URL, or None where they cannot be had; and the reason.

    Raises:
        CheckpointError: what was downloaded, perhaps long ago, is no file of weights, but a page that asks for a login,
            for example. With such a configuration no run could start.
    """
    from ppdet.engine.checkpoints.weights import read_arrays
    from ppdet.engine.proposal.recipe import WEIGHTS_OF_DEPTH, depth_for
    from ppdet.utils.disk.download import DownloadError, fetch

    if from_scratch:
        return None, "from scratch, as --from_scratch asks for"
    url = WEIGHTS_OF_DEPTH[depth_for(machine, has_weights=True)]
    print("looking for pretrained weights (--from_scratch does without them) …", flush=True)
    try:
        read_arrays(fetch(url))
    except DownloadError as error:
        print(printable(f"no pretrained weights, training will start from scratch: {' '.join(str(error).split())}"))
        return None, "from scratch: the pretrained weights could not be downloaded; with them, fewer images suffice"
    return url, "the backbone was trained on ImageNet: fewer images of your own suffice"


def describe(data: "FoundData") -> str:
    """The data set in one line."""
    val = counted(data.val.images, "validation image") if data.val else "no validation images"
    return (
        f"{counted(data.train.images, 'training image')}, {val}, {counted(len(data.classes), 'class')}, "
        f"{counted(len(data.sides), 'box')}, half of them above {data.sides[len(data.sides) // 2]:.0f} pixels; "
        f"images of {data.pixels(data.short, data.long)}"
    )


def in_words(seconds: float) -> str:
    """A duration, such as "25 minutes" or "3 h 10 min"."""
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minute{'s' * (minutes != 1)}" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def report(path: Path, data: "FoundData", machine: "Machine", proposal: "Proposal") -> None:
    """Print what was written, the time to expect, and the next commands."""
    from ppdet.data.data_checks import FEW_TO_TRAIN
    from ppdet.engine.proposal.fitting import wanted_epochs

    speed, recipe, length = proposal.speed, proposal.recipe, proposal.length
    steps = min(length.epochs * speed.steps_per_epoch, length.max_iters or length.epochs * speed.steps_per_epoch)
    how = "measured" if speed.is_measured else "estimated from the network's size, not measured: leave out --estimate"
    lines = [
        f"wrote {path}: ResNet-{recipe.depth} {'with' if recipe.weights else 'without'} pretrained weights, input "
        f"{data.pixels(*recipe.input_size)}, {counted(length.epochs, 'epoch')}, {counted(steps, 'step')} of "
        f"{counted(recipe.batch, 'image')}",
        f"expected: {in_words(proposal.seconds)} with evaluation, by {recipe.batch / speed.step:.2g} images/s ({how})",
    ]
    if speed.is_measured and machine.is_busy:
        lines.append(
            f"note: other programs keep the processors busy (load {machine.load:.1f} on {machine.cores} cores): "
            "training beside them takes longer than expected; the same command may choose a larger detector when they "
            "have ended"
        )
    if not proposal.is_enough:
        lines.append(
            f"note: in this time, this machine trains {counted(length.epochs, 'epoch')} with "
            f"{counted(steps * recipe.batch, 'image')}, repeated ones counted; {wanted_epochs(recipe, speed):,} epochs "
            "would be better: expect a weak detector, raise --minutes, or train on a GPU"
        )
    if data.val is None:
        lines.append(
            "note: there are no images to evaluate on, so the training images are used, whose AP means nothing: "
            + ("label more images: " if data.train.images < FEW_TO_TRAIN else "")
            + "`ppdet data convert SOURCE FOLDER --split 0.8/0.2` sets some aside"
        )
    config, run = shlex.quote(str(path)), shlex.quote(path.stem)
    many = f"python -m paddle.distributed.launch --gpus {','.join(map(str, range(machine.launched)))} "
    launcher = many if machine.launched > 1 else ""
    lines += [
        "next:",
        f"  ppdet data show -c {config}      # pictures of training batches, with what is to be found in them",
        f"  {launcher}ppdet train -c {config} --eval",
        f"  ppdet eval output/{run} --report output/{run}/report      # a page that shows the errors",
        f"  ppdet export output/{run} --thresholds output/{run}/report/thresholds.json",
        f"  ppdet serve --model_dir output_inference/{run}",
    ]
    print("\n".join(map(printable, lines)))
