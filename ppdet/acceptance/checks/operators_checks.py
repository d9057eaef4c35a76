"""Checks of operators and layers, forward and backward, against the CPU in float32. TF32 is off in this group."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.cpu_comparison import (
    Arrays,
    compare_with_cpu,
    fill_weights,
    judge_arrays,
    on_device_and_cpu,
    outputs_and_gradients,
    relative_difference,
)
from ppdet.acceptance.outcomes import Outcome, outcome_if
from ppdet.acceptance.small_detector import CONFIG

if TYPE_CHECKING:
    from paddle import Tensor, nn

    from ppdet.modeling.architectures.base import DenseMaps

TOLERANCE = 1e-4
SIZES = ((16, 16), (8, 8), (4, 4))  # height and width of the maps of each level
IMAGES, CLASSES = 2, 20
SHAPE = (IMAGES, 32, 15, 20)  # of the input of a layer
# Limits of the relative errors of a whole network's gradients, the median over weights and the largest. In a deep
# network, rounding flips a ReLU here and there on one side. Between two implementations on a CPU (eight seeds), this
# changes the gradients of some weights by up to 4e-3 and the median by less than 1e-3.
NETWORK_MEDIAN, NETWORK_LARGEST = 3e-3, 2e-2
ADVICE = """The device computes this operator differently than the CPU, by more than the rounding of float32. Training
or detections would be wrong, perhaps only a little. The result names the array that differs most, the report has the
difference of each. A difference of about 1e-3 means that TF32 is on although NVIDIA_TF32_OVERRIDE=0 is set. A larger
one is a defect of a kernel or of this code's use of it. Please send the report; it has the versions of Paddle, CUDA and
cuDNN."""
Compute = Callable[[np.random.Generator], Arrays]


def operator(name: str, title: str) -> Callable[[Compute], Compute]:
    """Return a decorator that registers a check: the arrays of a function of a random generator equal the CPU's."""

    def register(compute: Compute) -> Compute:
        @check(f"operators/{name}", title=title, advice=ADVICE, seconds=1)
        def compare(context: Context) -> Outcome:
            return compare_with_cpu(context, lambda: compute(np.random.default_rng(context.seed)), tolerance=TOLERANCE)

        return compute

    return register


def random_tensor(rng: np.random.Generator, *shape: int, low: float = -2.0, high: float = 2.0) -> "Tensor":
    """Return a tensor with a gradient, of random numbers between low and high."""
    import paddle

    return paddle.to_tensor(rng.uniform(low, high, shape).astype(np.float32), stop_gradient=False)


def random_maps(rng: np.random.Generator) -> "tuple[DenseMaps, dict[str, Tensor]]":
    """Return random maps of a head, with distances above 0, and all their tensors by name, such as "logits 0"."""
    from ppdet.modeling.architectures.base import DenseMaps

    def levels(channels: int, low: float, high: float) -> "list[Tensor]":
        return [random_tensor(rng, IMAGES, channels, *size, low=low, high=high) for size in SIZES]

    maps = DenseMaps(levels(CLASSES, -6, 4), levels(4, 0.1, 6), levels(1, -3, 3))
    return maps, {f"{name} {level}": x for name in maps._fields for level, x in enumerate(getattr(maps, name))}


def random_targets(rng: np.random.Generator) -> "dict[str, Tensor]":
    """Return targets as Gt2FCOSTarget computes them; one location in eight is positive."""
    import paddle

    count = sum(height * width for height, width in SIZES)
    labels = rng.integers(1, CLASSES + 1, (IMAGES, count)) * (rng.random((IMAGES, count)) < 0.125)
    return {
        "target_labels": paddle.to_tensor(labels.astype(np.int32)),
        "target_distances": paddle.to_tensor(rng.uniform(0.1, 6, (IMAGES, count, 4)).astype(np.float32)),
        "target_centerness": paddle.to_tensor(rng.uniform(0.1, 1, (IMAGES, count)).astype(np.float32)),
    }


@operator("focal_loss", "Focal loss of three levels")
def focal_loss(rng: np.random.Generator) -> Arrays:
    from ppdet.modeling.losses.fcos_loss import FocalLossSum

    maps, _ = random_maps(rng)
    loss = FocalLossSum.apply(random_targets(rng)["target_labels"], 0.25, 2.0, *maps.logits)
    logits = {f"logits {level}": x for level, x in enumerate(maps.logits)}
    return outputs_and_gradients({"loss": loss}, logits, rng)


def add_fcos_loss(name: str, title: str, **options: Any) -> None:
    """Register a check of `FCOSLoss` with these options."""

    @operator(name, title)
    def fcos_loss(rng: np.random.Generator) -> Arrays:
        from ppdet.modeling.losses import FCOSLoss

        maps, inputs = random_maps(rng)
        losses = FCOSLoss(**options)(maps, random_targets(rng))
        return outputs_and_gradients(losses, inputs, rng, names=["loss_cls", "loss_box", "loss_quality"])


add_fcos_loss("fcos_loss_centerness", "Loss of FCOS with centerness and 1 - GIoU", quality="centerness")
add_fcos_loss("fcos_loss_iou", "Loss of FCOS with quality IoU and 1 - IoU", quality="iou", iou_loss_type="linear_iou")
add_fcos_loss(
    "fcos_loss_log",
    "Loss of FCOS as in MMDetection, with -ln IoU",
    iou_loss_type="iou",
    iou_smoothing=0.0,
    count_images=True,
)


@operator("dense_teacher_loss", "Loss of DenseTeacher: selection of locations, losses inside and outside of it")
def dense_teacher_loss(rng: np.random.Generator) -> Arrays:
    from ppdet.modeling.losses import SSODFCOSLoss

    student, inputs = random_maps(rng)
    teacher, _ = random_maps(rng)
    losses = SSODFCOSLoss(ratio=0.05)(student, teacher)
    return outputs_and_gradients(losses, inputs, rng, names=[name for name in losses if name.startswith("distill")])


def layer_arrays(rng: np.random.Generator, layer: "nn.Layer") -> Arrays:
    """Return the result of a layer for a random input, its gradients, and buffers such as running statistics."""
    x = random_tensor(rng, *SHAPE)
    y = layer(x)
    parameters = {name: p for name, p in layer.named_parameters() if not p.stop_gradient}
    arrays = outputs_and_gradients({"result": y}, {"x": x, **parameters}, rng)
    return {**arrays, **{name: value.numpy() for name, value in layer.state_dict().items() if name not in parameters}}


def add_layer(name: str, title: str, *, kernel_size: int = 3, **options: Any) -> None:
    """Register a check of a `ConvNorm` layer with these options."""

    @operator(name, title)
    def convolution(rng: np.random.Generator) -> Arrays:
        from ppdet.modeling.layers import ConvNorm

        layer = ConvNorm(SHAPE[1], 64, kernel_size, **options)
        fill_weights(layer, rng)
        return layer_arrays(rng, layer)


@check("operators/batch_norm_trained", advice=ADVICE, seconds=1)
def batch_norm_trained(context: Context) -> Outcome:
    """Convolution and batch norm in training, with running statistics"""
    # Accepts both definitions of the running variance: with n pixels, CPUs use n as divisor, cuDNN uses n - 1.
    actual, expected = on_device_and_cpu(context, lambda: trained_norm(np.random.default_rng(context.seed)))
    old = expected.pop("old share of the running variance")
    pixels = SHAPE[0] * SHAPE[2] * SHAPE[3]
    biased = expected["norm._variance"]
    unbiased = old + (biased - old) * pixels / (pixels - 1)
    if relative_difference(actual["norm._variance"], unbiased) < relative_difference(actual["norm._variance"], biased):
        expected["norm._variance"] = unbiased
    return judge_arrays(actual, expected, tolerance=TOLERANCE)


def trained_norm(rng: np.random.Generator) -> Arrays:
    """Return `layer_arrays` of a convolution with batch norm, and the old variance's share of the running variance."""
    from ppdet.modeling.layers import ConvNorm

    layer = ConvNorm(SHAPE[1], 64, 3)
    fill_weights(layer, rng)
    old = layer.norm._variance.numpy() * layer.norm._momentum
    return {**layer_arrays(rng, layer), "old share of the running variance": old}


add_layer("batch_norm_frozen", "Convolution with a frozen batch norm folded into it", freeze_norm=True)
add_layer("batch_norm_statistics", "Batch norm with frozen statistics and trained scale", freeze_norm="statistics")
add_layer("group_norm", "Convolution and group norm", norm_type="gn")
add_layer("convolution_1x1", "1x1 convolution with stride 2", kernel_size=1, stride=2, freeze_norm=True)
add_layer("convolution_groups", "Grouped convolution with stride 2", groups=8, stride=2, freeze_norm=True)
add_layer("deformable", "Modulated deformable convolution and group norm", deformable=True, norm_type="gn")


@operator("pooling", "Max pooling, average pooling and upsampling by 2")
def pooling(rng: np.random.Generator) -> Arrays:
    from ppdet.modeling.layers import avg_pool_2x2, max_pool, upsample_twice

    x = random_tensor(rng, IMAGES, 32, 16, 20)
    outputs = {
        "max_pool": max_pool(x, 3, stride=2, padding=1),
        "avg_pool_2x2": avg_pool_2x2(x),
        "upsample_twice": upsample_twice(x),
    }
    return outputs_and_gradients(outputs, {"x": x}, rng)


@check("operators/network", advice=ADVICE, limit=120)
def network(context: Context) -> Outcome:
    """Gradients of all weights of an FCOS with ResNet-18"""
    with context.on(context.device):
        actual = network_gradients(context.seed, use_onednn=True)
    with context.on_reference():
        expected = network_gradients(context.seed, use_onednn=False)
    errors = {
        name: float(np.linalg.norm(actual[name] - expected[name]) / np.linalg.norm(expected[name]).clip(1e-9))
        for name in expected
    }
    worst, median = max(errors, key=lambda name: errors[name]), float(np.median(list(errors.values())))
    text = (
        f"median difference {median:.1e} (limit {NETWORK_MEDIAN:.0e}); {worst} differs by {errors[worst]:.1e} "
        f"(limit {NETWORK_LARGEST:.0e})"
    )
    return outcome_if(median <= NETWORK_MEDIAN and errors[worst] <= NETWORK_LARGEST, text, {"differences": errors})


def network_gradients(seed: int, *, use_onednn: bool) -> Arrays:
    """Return the losses of an FCOS for a random batch, and the gradients of all weights."""
    from ppdet.core.workspace import load_config
    from ppdet.engine.build import build_model

    rng = np.random.default_rng(seed)
    model = build_model(load_config(CONFIG, {"num_classes": CLASSES, "use_onednn": use_onednn}))
    fill_weights(model, rng)
    model.train()
    losses = model({"image": random_tensor(rng, IMAGES, 3, 128, 128), **random_targets(rng)})
    weights = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    return outputs_and_gradients(losses, weights, rng, names=["loss"])


@operator("optimizers", "Three updates with Momentum and AdamW, clipped gradients, and the average of weights")
def optimizers(rng: np.random.Generator) -> Arrays:
    import paddle

    from ppdet.modeling.layers import ConvNorm
    from ppdet.optimizer import ModelEMA, OptimizerBuilder
    from ppdet.utils import device

    builders = {
        "Momentum": OptimizerBuilder(clip_grad_by_norm=10.0),
        "AdamW": OptimizerBuilder(
            optimizer={"type": "AdamW", "weight_decay": 0.05}, regularizer=None, clip_grad_by_norm=1.0
        ),
    }
    arrays = {}
    for name, builder in builders.items():
        layer = ConvNorm(8, 16, 3)
        fill_weights(layer, rng)
        optimizer = builder(0.01, layer)
        average = ModelEMA(layer, decay=0.9, decay_type="normal")
        if device.runs_behind_host():  # as in training; on the CPU, tensors are averaged one by one
            average.join()
        for _ in range(3):
            upstream = [paddle.to_tensor(rng.normal(size=p.shape).astype(np.float32)) for p in layer.parameters()]
            paddle.add_n([(p * factor).sum() for p, factor in zip(layer.parameters(), upstream)]).backward()
            optimizer.step()
            optimizer.clear_grad()
            average.update()
        arrays.update({f"{name}: {key}": value.numpy() for key, value in layer.state_dict().items()})
        arrays.update({f"{name}: average {key}": value.numpy() for key, value in average.state_dict().items()})
    return arrays
