"""Runs the same computation on the device and on the CPU, and compares the arrays that it returns."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Outcome, outcome_if

if TYPE_CHECKING:
    from paddle import Tensor, nn

Arrays = dict[str, np.ndarray]


def compare_with_cpu(context: Context, compute: Callable[[], Arrays], *, tolerance: float) -> Outcome:
    """Run `compute` on the device and on the CPU, and compare the results with `judge_arrays`."""
    return judge_arrays(*on_device_and_cpu(context, compute), tolerance=tolerance)


def on_device_and_cpu(context: Context, compute: Callable[[], Arrays]) -> tuple[Arrays, Arrays]:
    """Return what `compute` returns on the device, and what it returns on the CPU."""
    with context.on(context.device):
        actual = compute()
    with context.on_reference():
        return actual, compute()


def judge_arrays(actual: Arrays, expected: Arrays, *, tolerance: float) -> Outcome:
    """Compare arrays of the same names by `relative_difference`.

    Raises:
        Failed: the difference of an array is above the tolerance, or not a number.
    """
    differences = {name: relative_difference(actual[name], expected[name]) for name in expected}
    if not any(differences.values()):
        return Outcome(f"{len(differences)} arrays are equal", {"differences": differences})
    worst = max(differences, key=lambda name: (not differences[name] <= tolerance, differences[name]))
    text = f"{worst} differs by {differences[worst]:.1e}, relative to its largest value (limit {tolerance:.0e})"
    return outcome_if(differences[worst] <= tolerance, text, {"differences": differences})


def relative_difference(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference divided by the largest magnitude in `expected`; infinity if shapes differ."""
    if actual.shape != expected.shape:
        return float("inf")
    size = float(np.abs(expected).max(initial=0.0))
    largest = float(np.abs(actual.astype(np.float64) - expected).max(initial=0.0))
    return largest / size if size else largest


def fill_weights(layer: "nn.Layer", rng: np.random.Generator) -> None:
    """Give a layer random weights from NumPy, which are the same on every device.

    Variances and scales of norm layers are around 1, so that a deep network stays in the range of float32.
    """
    for name, value in layer.state_dict().items():
        shape, last = tuple(value.shape), name.rpartition(".")[2]
        if last == "_variance":
            drawn = rng.uniform(0.5, 2.0, shape)
        elif (last == "weight" and len(shape) == 1) or last == "scale_reg":
            drawn = rng.uniform(0.8, 1.2, shape)
        elif len(shape) == 1:
            drawn = rng.normal(0, 0.1, shape)
        else:
            drawn = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        value.set_value(drawn.astype(np.float32))


def outputs_and_gradients(
    outputs: "Mapping[str, Tensor]",
    inputs: "Mapping[str, Tensor]",
    rng: np.random.Generator,
    names: Sequence[str] = (),
) -> Arrays:
    """Run backward passes from `outputs`, each with a random upstream gradient, and return outputs and gradients.

    Args:
        outputs: tensors by name.
        inputs: tensors by name whose gradients are returned, as "gradient of NAME".
        names: names of the differentiable outputs; empty if all are differentiable.
    """
    import paddle

    products = [
        (outputs[name] * paddle.to_tensor(rng.normal(size=tuple(outputs[name].shape)).astype(np.float32))).sum()
        for name in names or outputs
    ]
    paddle.add_n(products).backward()
    arrays = {name: value.numpy() for name, value in outputs.items()}
    return {**arrays, **{f"gradient of {name}": value.grad.numpy() for name, value in inputs.items()}}
