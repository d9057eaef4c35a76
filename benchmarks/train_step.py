"""Time of one training step of FCOS on a CPU (forward, loss, backward, optimizer) on a random batch.

It prints the median time, how the time is divided, the share of the convolutions, and the peak memory.
"""

import collections
import resource
import time
from collections.abc import Callable

from common import ROOT, make_parser, medians, report

EXAMPLES = """examples:
  python benchmarks/train_step.py                                   # R50, 1 image of 896x1152, float32
  python benchmarks/train_step.py --dtype bfloat16
  python benchmarks/train_step.py --model r18vd --batch 4 --height 320 --width 448
  python benchmarks/train_step.py --paddle                          # Paddle's own layers instead of oneDNN's
"""
CONFIGS = {"r50": "fcos_r50_fpn_1x_coco.yml", "r18vd": "fcos_r18vd_fpn_bccd.yml"}


def build(model: str, options: list[str]) -> tuple:
    """Return a network with random weights in training mode, its optimizer, and the configuration."""
    from ppdet.core.workspace import load_config
    from ppdet.engine.build import build_model

    cfg = load_config(ROOT / "configs" / "fcos" / CONFIGS[model], options)
    network = build_model(cfg)
    network.train()
    return network, cfg.create("OptimizerBuilder")(cfg.create("LearningRate").scheduler(100), network), cfg


def random_batch(
    cfg: object, batch: int, height: int, width: int, boxes: int, make_targets: Callable | None = None
) -> dict:
    """Return a batch in the format of TrainReader, with random pixels.

    Args:
        batch: number of images.
        boxes: number of boxes in each image.
        make_targets: a Gt2FCOSTarget; None for the default one with five levels.
    """
    import numpy as np
    import paddle

    from ppdet.data.transforms.batches.targets import Gt2FCOSTarget

    rng = np.random.default_rng(0)
    images = rng.standard_normal((batch, 3, height, width)).astype("float32")
    samples = []
    for image in images:
        center, size = rng.uniform(0, [width, height], (boxes, 2)), rng.uniform(16, 300, (boxes, 2))
        corners = np.concatenate([center - size / 2, center + size / 2], axis=1)
        corners = corners.clip(0, [width, height, width, height]).astype("float32")
        samples.append(
            {"image": image, "gt_bbox": corners, "gt_class": rng.integers(0, cfg["num_classes"], (boxes, 1))}
        )
    samples = (make_targets or Gt2FCOSTarget())(samples)
    keys = ("image", "target_labels", "target_distances", "target_centerness")
    return {key: paddle.to_tensor(np.stack([sample[key] for sample in samples])) for key in keys}


class Clock:
    """A context manager that measures the seconds and calls of oneDNN's primitives by kind."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = collections.Counter()
        self.calls: dict[str, int] = collections.Counter()

    def __enter__(self) -> "Clock":
        from ppdet.modeling.cpu.onednn import Primitive

        self.original = original = Primitive.__call__

        def timed(primitive: object, pointers: dict) -> None:
            start = time.perf_counter()
            original(primitive, pointers)
            self.seconds[primitive.plan.kind] += time.perf_counter() - start
            self.calls[primitive.plan.kind] += 1

        Primitive.__call__ = timed
        return self

    def __exit__(self, *error: object) -> None:
        from ppdet.modeling.cpu.onednn import Primitive

        Primitive.__call__ = self.original


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--model", choices=CONFIGS, default="r50", help="backbone of the network (default: r50)")
    parser.add_argument("--batch", type=int, default=1, help="images per step (default: 1)")
    parser.add_argument("--height", type=int, default=896, help="height of the images in pixels (default: 896)")
    parser.add_argument("--width", type=int, default=1152, help="width of the images in pixels (default: 1152)")
    parser.add_argument("--boxes", type=int, default=18, help="boxes per image (default: 18)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="type in which layers compute"
    )
    parser.add_argument("--paddle", action="store_true", help="use Paddle's own layers instead of oneDNN's")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    import paddle

    from ppdet.modeling import cpu

    cpu.set_enabled(not arguments.paddle)
    network, optimizer, cfg = build(arguments.model, ["pretrain_weights=null", *arguments.opt])
    batch = random_batch(cfg, arguments.batch, arguments.height, arguments.width, arguments.boxes)
    parts: dict[str, float] = collections.Counter()

    def timed(name: str, run: object) -> object:
        start = time.perf_counter()
        result = run()
        parts[name] += time.perf_counter() - start
        return result

    def step() -> None:
        with cpu.compute_in(arguments.dtype):
            maps = timed("forward: network", lambda: network.predict_maps(batch["image"]))
            loss = timed("forward: loss", lambda: network.loss(maps, batch)["loss"])
            timed("backward", loss.backward)
        timed("optimizer", lambda: (optimizer.step(), optimizer.clear_grad()))

    seconds = medians({"step": step}, arguments.repeat)["step"]
    parts.clear()
    with Clock() as clock:
        start = time.perf_counter()
        step()
        profiled = time.perf_counter() - start
    convolution = sum(value for kind, value in clock.seconds.items() if kind.startswith("convolution"))
    title = f"Training step, {arguments.model}, {arguments.batch} x {arguments.height}x{arguments.width}"
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    row = [
        arguments.model,
        "oneDNN" if not arguments.paddle and cpu.ready() else "Paddle",
        arguments.dtype,
        seconds,
        arguments.batch / seconds,
        1 - convolution / profiled if convolution else float("nan"),
        size,
        paddle.version.full_version,
    ]
    header = ["model", "layers", "dtype", "seconds", "images/s", "not convolution", "peak_rss_mib", "paddle"]
    report(title, header, [row], arguments.json)
    shares = [[name, value * 1e3, value / profiled, ""] for name, value in parts.items()]
    shares += [[f"oneDNN {k}", v * 1e3, v / profiled, clock.calls[k]] for k, v in clock.seconds.most_common()]
    report("Where one step's time goes", ["part", "ms", "share", "calls"], shares)


if __name__ == "__main__":
    main()
