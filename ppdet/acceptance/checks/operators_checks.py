"""Operators and layers, forward and backward, beside the same on the CPU in float32; TF32 is off in this group."""

from collections.abc import Callable, Sequence

import numpy as np

from ppdet.acceptance.beside import Arrays, both_sides, compare, difference, fill, judge, with_gradients
from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome

TOLERANCE = 1e-4
SIZES = ((16, 16), (8, 8), (4, 4))  # of the levels' maps
IMAGES, CLASSES = 2, 20
ADVICE = """The device computes this operator differently than the CPU does, by more than float32 rounds: training or
detections would be wrong, perhaps only a little. The line says which result differs, the report by how much each does.
A difference of about 1e-3 means that TF32 is on although NVIDIA_TF32_OVERRIDE=0 is set; a larger one is a defect of a
kernel or of how we call it. Report it, with the versions of Paddle, CUDA and cuDNN."""


def operator(name: str, title: str, *, tolerance: float = TOLERANCE, seconds: float = 1.0) -> Callable:
    """Register a function of a random generator, whose arrays are compared."""

    def register(compute: Callable[[np.random.Generator], Arrays]) -> Callable:
        @check(f"operators/{name}", title=title, advice=ADVICE, limit=90, seconds=seconds)
        def beside_cpu(context: Context) -> Outcome:
            return compare(context, lambda: compute(np.random.default_rng(context.seed)), tolerance=tolerance)

        return compute

    return register


def tensor(rng: np.random.Generator, *shape: int, low: float = -2.0, high: float = 2.0) -> object:
    """Of numbers between low and high, with a gradient."""
    import paddle

    return paddle.to_tensor(rng.uniform(low, high, shape).astype(np.float32), stop_gradient=False)


def dense_maps(rng: np.random.Generator) -> tuple[object, dict]:
    """Maps as the head gives them, distances above 0, and all of their tensors by name."""
    from ppdet.modeling.architectures.base import DenseMaps

    def levels(channels: int, low: float, high: float) -> list:
        return [tensor(rng, IMAGES, channels, *size, low=low, high=high) for size in SIZES]

    maps = DenseMaps(levels(CLASSES, -6, 4), levels(4, 0.1, 6), levels(1, -3, 3))
    return maps, {f"{name} {level}": x for name in maps._fields for level, x in enumerate(getattr(maps, name))}


def targets(rng: np.random.Generator) -> dict:
    """As Gt2FCOSTarget makes them; a location in eight is positive."""
    import paddle

    count = sum(height * width for height, width in SIZES)
    labels = rng.integers(1, CLASSES + 1, (IMAGES, count)) * (rng.random((IMAGES, count)) < 0.125)
    return {
        "target_labels": paddle.to_tensor(labels.astype(np.int32)),
        "target_distances": paddle.to_tensor(rng.uniform(0.1, 6, (IMAGES, count, 4)).astype(np.float32)),
        "target_centerness": paddle.to_tensor(rng.uniform(0.1, 1, (IMAGES, count)).astype(np.float32)),
    }


@operator("focal_loss", "focal loss of three levels")
def focal(rng: np.random.Generator) -> Arrays:
    from ppdet.modeling.losses.fcos_loss import FocalLossSum

    maps, _ = dense_maps(rng)
    loss = FocalLossSum.apply(targets(rng)["target_labels"], 0.25, 2.0, *maps.logits)
    logits = {f"logits {level}": x for level, x in enumerate(maps.logits)}
    return with_gradients({"loss": loss}, logits, rng)


def add_fcos_loss(name: str, title: str, **options: object) -> None:
    @operator(name, title)
    def fcos_loss(rng: np.random.Generator) -> Arrays:
        from ppdet.modeling.losses import FCOSLoss

        maps, inputs = dense_maps(rng)
        losses = FCOSLoss(**options)(maps, targets(rng))
        return with_gradients(losses, inputs, rng, names=["loss_cls", "loss_box", "loss_quality"])


add_fcos_loss("fcos_loss_centerness", "FCOS's loss with centerness and GIoU", quality="centerness")
add_fcos_loss("fcos_loss_iou", "FCOS's loss with IoU as quality and 1 - IoU", quality="iou", iou_loss_type="linear_iou")
add_fcos_loss(
    "fcos_loss_log", "FCOS's loss as MMDetection's, -ln IoU", iou_loss_type="iou", iou_smoothing=0.0, count_images=True
)


@operator("dense_teacher_loss", "DenseTeacher's loss: selection, and what is learned there and elsewhere")
def dense_teacher(rng: np.random.Generator) -> Arrays:
    from ppdet.modeling.losses import SSODFCOSLoss

    student, inputs = dense_maps(rng)
    teacher, _ = dense_maps(rng)
    losses = SSODFCOSLoss(ratio=0.05)(student, teacher)
    names = [name for name in losses if name.startswith("distill")]
    return with_gradients(losses, inputs, rng, names=names)


def layer_beside(rng: np.random.Generator, layer: object, *shape: int, **options: object) -> Arrays:
    """Of layer(x), its gradients, and what it changes in its own state, such as running statistics."""
    fill(layer, rng)
    return filled_layer(rng, layer, *shape, **options)


def filled_layer(rng: np.random.Generator, layer: object, *shape: int, **options: object) -> Arrays:
    """As `layer_beside`, of a layer that has its weights."""
    x = tensor(rng, *shape)
    y = layer(x, **options)
    inputs = {name: p for name, p in layer.named_parameters() if not p.stop_gradient}
    arrays = with_gradients({"result": y}, {"x": x, **inputs}, rng)
    return {**arrays, **{name: value.numpy() for name, value in layer.state_dict().items() if name not in inputs}}


def add_layer(name: str, title: str, **options: object) -> None:
    """A convolution of 32 channels with its norm."""

    @operator(name, title)
    def convolution(rng: np.random.Generator) -> Arrays:
        from ppdet.modeling.layers import ConvNorm

        layer = ConvNorm(32, 64, **{"kernel_size": 3, **options})
        return layer_beside(rng, layer, IMAGES, 32, 15, 20)


@check(
    "operators/batch_norm_trained",
    title="convolution and batch norm that trains, its running statistics too",
    advice=ADVICE,
    limit=90,
    seconds=1,
)
def batch_norm_trained(context: Context) -> Outcome:
    """Into the running variance a CPU takes that of the batch's n pixels, cuDNN's kernel n / (n - 1) of it."""
    shape = (IMAGES, 32, 15, 20)
    pixels = IMAGES * 15 * 20
    found, expected = both_sides(context, lambda: trained_norm(np.random.default_rng(context.seed), shape))
    kept = expected.pop("variance that is kept")
    unbiased = kept + (expected["norm._variance"] - kept) * pixels / (pixels - 1)
    if difference(found["norm._variance"], unbiased) < difference(found["norm._variance"], expected["norm._variance"]):
        expected["norm._variance"] = unbiased
    return judge(found, expected, tolerance=TOLERANCE)


def trained_norm(rng: np.random.Generator, shape: Sequence[int]) -> Arrays:
    """Besides what `layer_beside` gives, what stays in the running variance of the one before."""
    from ppdet.modeling.layers import ConvNorm

    layer = ConvNorm(shape[1], 64, 3)
    fill(layer, rng)
    kept = layer.norm._variance.numpy() * layer.norm._momentum
    return {**filled_layer(rng, layer, *shape), "variance that is kept": kept}


add_layer("batch_norm_frozen", "convolution with a constant batch norm folded into it", freeze_norm=True)
add_layer("batch_norm_statistics", "batch norm that trains on stored statistics", freeze_norm="statistics")
add_layer("group_norm", "convolution and group norm", norm_type="gn")
add_layer("convolution_1x1", "convolution of one location, of stride 2", kernel_size=1, stride=2, freeze_norm=True)
add_layer("convolution_groups", "convolution in groups, of stride 2", groups=8, stride=2, freeze_norm=True)
add_layer("deformable", "modulated deformable convolution and group norm", deformable=True, norm_type="gn")


@operator("pooling", "max pooling, mean pooling and twofold upsampling")
def pooling(rng: np.random.Generator) -> Arrays:
    from ppdet.modeling.layers import avg_pool_2x2, max_pool, upsample_twice

    x = tensor(rng, IMAGES, 32, 16, 20)
    outputs = {
        "max_pool": max_pool(x, 3, stride=2, padding=1),
        "halve": avg_pool_2x2(x),
        "upsample_twice": upsample_twice(x),
    }
    return with_gradients(outputs, {"x": x}, rng)


@check(
    "operators/network",
    title="gradients of all weights of an FCOS with ResNet-18",
    advice=ADVICE,
    limit=120,
    seconds=5,
)
def network(context: Context) -> Outcome:
    """In a network of many layers rounding opens a ReLU here and there on one side only, which changes the gradients of
    some weights by up to 4e-3 of their size (between two implementations on a CPU, eight seeds) and their median by
    less than 1e-3.
    """
    with context.on(context.device):
        found = network_gradients(context.seed, use_onednn=True)
    with context.on_reference():
        expected = network_gradients(context.seed, use_onednn=False)
    errors = {name: float(np.linalg.norm(found[name] - expected[name])) for name in expected}
    errors = {name: error / float(np.linalg.norm(expected[name]).clip(1e-9)) for name, error in errors.items()}
    worst, median = max(errors, key=errors.get), float(np.median(list(errors.values())))
    text = f"median {median:.1e}, 3e-03 is allowed; {worst} differs by {errors[worst]:.1e}, 2e-02 is allowed"
    if not (median <= 3e-3 and errors[worst] <= 2e-2):
        raise Failed(text, differences=errors)
    return Outcome(text, {"differences": errors})


def network_gradients(seed: int, *, use_onednn: bool) -> Arrays:
    from ppdet.acceptance.made import CONFIG
    from ppdet.core.workspace import load_config
    from ppdet.engine.build import build_model

    rng = np.random.default_rng(seed)
    model = build_model(load_config(CONFIG, {"num_classes": CLASSES, "use_onednn": use_onednn}))
    fill(model, rng)
    model.train()
    losses = model({"image": tensor(rng, IMAGES, 3, 128, 128), **targets(rng)})
    inputs = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    return with_gradients(losses, inputs, rng, names=["loss"])


@operator("optimizers", "three updates by Momentum and by AdamW, gradients clipped, and the average of weights")
def optimizers(rng: np.random.Generator) -> Arrays:
    import paddle

    from ppdet.modeling.layers import ConvNorm
    from ppdet.optimizer import ModelEMA, OptimizerBuilder
    from ppdet.utils import device

    arrays = {}
    adamw = {"optimizer": {"type": "AdamW", "weight_decay": 0.05}, "regularizer": None, "clip_grad_by_norm": 1.0}
    for name, options in (("Momentum", {"clip_grad_by_norm": 10.0}), ("AdamW", adamw)):
        layer = ConvNorm(8, 16, 3)
        fill(layer, rng)
        optimizer = OptimizerBuilder(**options)(0.01, layer)
        average = ModelEMA(layer, decay=0.9, decay_type="normal")
        if device.runs_behind_host():  # as in training; the CPU that this is compared with does it one by one
            average.join()
        for _ in range(3):
            weights = [rng.normal(size=p.shape).astype(np.float32) for p in layer.parameters()]
            sum((p * paddle.to_tensor(weight)).sum() for p, weight in zip(layer.parameters(), weights)).backward()
            optimizer.step()
            optimizer.clear_grad()
            average.update()
        arrays.update({f"{name}: {key}": value.numpy() for key, value in layer.state_dict().items()})
        arrays.update({f"{name}: average {key}": value.numpy() for key, value in average.state_dict().items()})
    return arrays
