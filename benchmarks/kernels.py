"""Kernels that Paddle starts in one training step, by part of the step. Needs no GPU: counts are no times.

The trainer's own step, with the branches of a device that works behind the host (a GPU), and Paddle's own layers
instead of oneDNN's. What is counted are the calls of phi kernels that Paddle's profiler sees, and the gradients that
`clear_grad` fills with zeros, which it does not see. Each is at least one launch on a GPU; SEVERAL names the kernels of
the guard, the loss scale and the average that are more, from their sources.
"""

import collections
import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from common import ROOT, make_parser, report

EXAMPLES = """examples:
  python benchmarks/kernels.py                                       # FCOS R50, 1 image of 128x160
  python benchmarks/kernels.py --of "forward: network"               # kernel by kernel
  python benchmarks/kernels.py --loss-scale                          # with the scale that float16 needs
  python benchmarks/kernels.py -o OptimizerBuilder.clip_grad_by_norm=35.0
  python benchmarks/kernels.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml \\
    -o OptimizerBuilder.optimizer.type=AdamW OptimizerBuilder.optimizer.momentum=null
"""
# Launches of a kernel on a GPU, where it is not one, from paddle/phi/kernels/gpu: amp_kernel.cu inverts the scale in a
# kernel of its own (and copies addresses and sizes to the device), and fills gradients before it changes the scale;
# adam_kernel.cu and adamw_kernel.cu multiply powers of beta that are on the device in a kernel of its own; a sum of
# squares is CUB's reduction, which is one for small tensors.
SEVERAL = {"check_finite_and_unscale": 2, "update_loss_scaling": 2, "adam": 2, "adamw": 2, "squared_l2_norm": 2}
# Parts of the guard's update, which has the optimizer's step in it.
UPDATE = ("unscale and finite check", "loss scale", "guard: keep and roll back", "optimizer")
PREFIX = "part: "
BACKWARD = "Gradient Backward"  # Paddle's own name
ENDS = (" kernel launch", " compute")  # of the profiler's events, in Paddle 3 and in 2.6


class Kernels:
    """Counts kernels while it is entered.

    counts: calls by name, for each part; those outside of any part are in "".
    """

    def __init__(self) -> None:
        self.counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)

    def __enter__(self) -> "Kernels":
        from paddle import profiler

        self.profiler = profiler.Profiler(targets=[profiler.ProfilerTarget.CPU], on_trace_ready=lambda finished: None)
        self.profiler.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.profiler.stop()
        for root in self.profiler.profiler_result.get_data().values():
            self.collect(root, "", "")
        del self.profiler  # Paddle has one at a time

    def collect(self, event: object, part: str, operator: str) -> None:
        """Add an event of the profiler's tree, within that operator, and those within it."""
        if event.name.startswith(PREFIX):
            part = event.name[len(PREFIX) :]
        elif event.name == BACKWARD:
            part = "backward"
        if event.name == "compute":  # of an operator of the old kind
            self.counts[part][operator] += 1
        for end in ENDS:
            if event.name.endswith(end):
                self.counts[part][event.name[: -len(end)].rstrip("_")] += 1  # 2.6 writes that it is in place
        for child in event.children_node:
            self.collect(child, part, event.name)

    def total(self, *parts: str) -> int:
        """Calls in some parts; without any, in all."""
        return sum(sum(self.counts[part].values()) for part in parts or list(self.counts))


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """What is called within is of that part; a part within another one is not of the outer."""
    from paddle import profiler

    with profiler.RecordEvent(PREFIX + name):
        yield


def named(name: str, function: Callable) -> Callable:
    """The function, as a part."""

    @functools.wraps(function)
    def run(*values: object, **options: object) -> object:
        with part(name):
            return function(*values, **options)

    return run


def make_data(folder: Path, classes: int) -> list[str]:
    """A data set of two images; gives the options that name it. The step's batch is not read from it."""
    import cv2
    import numpy as np

    images = [{"id": n, "file_name": f"{n}.jpg", "width": 160, "height": 128} for n in (1, 2)]
    for image in images:
        cv2.imwrite(str(folder / image["file_name"]), np.full((128, 160, 3), 90, dtype="uint8"))
    boxes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [10, 10, 60, 60], "area": 3600, "iscrowd": 0} for n in (1, 2)
    ]
    categories = [{"id": n, "name": f"class {n}"} for n in range(1, classes + 1)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    return [f"TrainDataset.dataset_dir={folder}", "TrainDataset.image_dir=.", "TrainDataset.anno_path=truth.json"]


def count_step(config: str, options: list[str], shape: tuple[int, int, int], *, scaled: bool = False) -> Kernels:
    """Kernels of the third step of a run: the first makes the optimizer's state, the second what else is made once.

    Args:
        shape: images, height, width. scaled: the loss has a scale, as float16's.
    """
    import paddle
    from train_step import random_batch

    from ppdet.core.workspace import load_config
    from ppdet.engine import trainer as module
    from ppdet.engine.training.loss_scale import LossScale

    with tempfile.TemporaryDirectory() as folder, behind_host():
        data = make_data(Path(folder), load_config(config, options)["num_classes"])
        own = ["pretrain_weights=null", "worker_num=0", f"save_dir={folder}/output"]
        cfg = load_config(config, [*own, "TrainReader.batch_size=1", "use_onednn=false", *data, *options])
        trainer = module.Trainer(cfg)
        trainer.model.train()
        if scaled:
            trainer.precision.loss_scale = LossScale()
        (make_targets,) = (t for t in trainer.reader.batch_transforms if hasattr(t, "distances_in_strides"))
        batch = random_batch(cfg, *shape, boxes=8, make_targets=make_targets)
        trainer.batches = [{**batch, "im_id": paddle.to_tensor([[1]] * shape[0])}]
        take_apart(trainer)
        for _ in range(2):
            trainer.train_step()
            trainer.iteration += 1
        with Kernels() as kernels:
            trainer.train_step()
        trainer.guard.judge()
        if trainer.guard.total:
            raise SystemExit("the gradients of this step are not finite")
        filled = [p for p in trainer.model.parameters() if p.trainable and p.grad is not None]
        kernels.counts["clear_grad"]["fill with zeros"] += len(filled)
    return kernels


def behind_host() -> contextlib.AbstractContextManager:
    """The branches of a device whose work goes on after the call that asks for it returned."""
    from ppdet.utils import device

    return mock.patch.object(device, "runs_behind_host", lambda: True)


def take_apart(trainer: object) -> None:
    """Make the parts of a step those of the count."""
    trainer.model.predict_maps = named("forward: network", trainer.model.predict_maps)
    trainer.model.loss = named("forward: loss", trainer.model.loss)
    trainer.guard.before_forward = named("guard: before the forward pass", trainer.guard.before_forward)
    for name in ("check", "update"):
        setattr(trainer.guard, name, named("guard: keep and roll back", getattr(trainer.guard, name)))
    trainer.precision.unscale = named("unscale and finite check", trainer.precision.unscale)
    trainer.precision.adjust = named("loss scale", trainer.precision.adjust)
    trainer.optimizer.step = named("optimizer", trainer.optimizer.step)
    trainer.optimizer.clear_grad = named("clear_grad", trainer.optimizer.clear_grad)
    if trainer.ema:
        trainer.ema.update = named("average of weights", trainer.ema.update)


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("-c", "--config", default=str(ROOT / "configs" / "fcos" / "fcos_r50_fpn_1x_coco.yml"))
    parser.add_argument("--batch", type=int, default=1, help="images per step (default: 1)")
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=160)
    parser.add_argument("--of", metavar="PART", help="the kernels of one part, by name")
    parser.add_argument("--loss-scale", action="store_true", help="scale the loss, as float16 needs it")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    options, shape = ["use_ema=true", *arguments.opt], (arguments.batch, arguments.height, arguments.width)
    kernels = count_step(arguments.config, options, shape, scaled=arguments.loss_scale)
    name = Path(arguments.config).name
    if arguments.of:
        rows = kernels.counts[arguments.of].most_common()
        report(f"Kernels of {arguments.of}, {name}", ["kernel", "calls"], rows, arguments.json)
        return
    rows = [row(part, counter) for part, counter in kernels.counts.items()]
    update = sum((kernels.counts[part] for part in UPDATE), collections.Counter())
    total = sum(kernels.counts.values(), collections.Counter())
    rows += [row("all of the guard's update", update), row("the step", total)]
    report(f"Kernels of a step, {name}", ["part", "kernels", "launches", "most"], rows, arguments.json)


def row(name: str, counter: collections.Counter) -> list:
    """Of the table: kernels, launches, and the commonest ones."""
    most = ", ".join(f"{number} {kernel}" for kernel, number in counter.most_common(4))
    return [name or "between these", sum(counter.values()), launches(counter), most]


def launches(counter: collections.Counter) -> int:
    """Launches of these calls on a GPU, at most."""
    return sum(number * SEVERAL.get(kernel, 1) for kernel, number in counter.items())


if __name__ == "__main__":
    main()
