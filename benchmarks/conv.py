"""Speed of the convolutions of FCOS R50 at 896x1152, forward and backward: oneDNN's layer compared with Paddle's.

The limit is the speed of a matrix product of two 4096x4096 arrays in float32 by NumPy's BLAS, in the same run.
"""

import sys

from common import make_parser, medians, report

EXAMPLES = """examples:
  python benchmarks/conv.py
  python benchmarks/conv.py --repeat 9 --json conv.json
"""
# Input channels, output channels, kernel, stride, height and width of layers of the head's towers and the backbone.
LAYERS = {
    "tower, P3": (256, 256, 3, 1, 112, 144),
    "tower, P5": (256, 256, 3, 1, 28, 36),
    "res3 3x3": (128, 128, 3, 1, 112, 144),
    "res3 1x1": (512, 128, 1, 1, 112, 144),
    "res4 3x3, stride 2": (256, 256, 3, 2, 112, 144),
    "res5 3x3": (512, 512, 3, 1, 28, 36),
    "res5 1x1": (2048, 512, 1, 1, 28, 36),
}


def main() -> None:
    arguments = make_parser(__doc__, EXAMPLES).parse_args()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    import numpy as np
    import paddle
    from paddle import nn

    from ppdet.modeling import cpu
    from ppdet.modeling.cpu.convolution import convolve

    if not cpu.ready():
        sys.exit("oneDNN cannot be used on this machine")
    types = ["float32", "bfloat16"] if cpu.has_bfloat16() else ["float32"]
    square = np.random.default_rng(0).standard_normal((4096, 4096), dtype="float32")
    rows = []
    for name, (inputs, outputs, kernel, stride, height, width) in LAYERS.items():
        conv = nn.Conv2D(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
        # Each gets its input in the layout that its previous layer would produce: channels last for oneDNN.
        plain = paddle.randn([1, inputs, height, width])
        given = {"Paddle": plain, "float32": channels_last(plain)}
        given["bfloat16"] = channels_last(plain.astype("bfloat16"))
        y = conv(plain)
        upstream = {"Paddle": paddle.randn(y.shape), "float32": channels_last(paddle.randn(y.shape))}
        upstream["bfloat16"] = channels_last(paddle.randn(y.shape).astype("bfloat16"))

        def run(kind: str, conv: nn.Layer = conv, given: dict = given, upstream: dict = upstream) -> None:
            x = given[kind].detach()
            x.stop_gradient = False
            with cpu.compute_in("bfloat16" if kind == "bfloat16" else "float32"):
                y = conv(x) if kind == "Paddle" else convolve(conv, x)
                y.backward(upstream[kind])
            conv.clear_gradients()

        stages = {kind: lambda kind=kind, run=run: run(kind) for kind in ("Paddle", *types)}
        seconds = medians({**stages, "limit": lambda: square @ square}, arguments.repeat, in_a_row=2)
        limit = 2e-9 * 4096**3 / seconds.pop("limit")
        work = 3 * 2e-9 * y.size * inputs * kernel * kernel
        speeds = {kind: work / value for kind, value in seconds.items()}
        ours = speeds["float32"]
        rows.append([name, *speeds.values(), ours / speeds["Paddle"], limit, ours / limit])
    header = [
        "layer",
        "Paddle float32",
        *[f"oneDNN {kind}" for kind in types],
        "oneDNN / Paddle",
        "limit",
        "of the limit",
    ]
    report("Convolution, forward and backward: GFLOP/s", header, rows, arguments.json)


def channels_last(x: object) -> object:
    """Return a copy with the same shape and values whose memory layout is channels last."""
    return x.transpose([0, 2, 3, 1]).contiguous().transpose([0, 3, 1, 2])


if __name__ == "__main__":
    main()
