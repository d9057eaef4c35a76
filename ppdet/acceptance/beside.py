"""The same computation on the device and on the CPU, and by how much they differ."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import Failed, Outcome

Arrays = dict[str, np.ndarray]


def compare(context: Context, compute: Callable[[], Arrays], *, tolerance: float) -> Outcome:
    """Compute on the device and on the CPU, and compare array by array.

    Raises:
        Failed: an array differs by more than the tolerance.
    """
    return judge(*both_sides(context, compute), tolerance=tolerance)


def both_sides(context: Context, compute: Callable[[], Arrays]) -> tuple[Arrays, Arrays]:
    """What the device computes, and what the CPU does."""
    with context.on(context.device):
        found = compute()
    with context.on_reference():
        return found, compute()


def judge(found: Arrays, expected: Arrays, *, tolerance: float) -> Outcome:
    """What a check says of arrays `found` where there should be the `expected` ones.

    Raises:
        Failed: an array differs by more than the tolerance.
    """
    numbers = {name: difference(found[name], expected[name]) for name in expected}
    if not any(numbers.values()):
        return Outcome(f"{len(numbers)} arrays are equal", {"differences": numbers})
    name = max(numbers, key=lambda key: (not numbers[key] <= tolerance, numbers[key]))
    text = f"{name} differs by {numbers[name]:.1e} of its size"
    if not numbers[name] <= tolerance:
        raise Failed(f"{text}, {tolerance:.0e} is allowed", differences=numbers)
    return Outcome(f"{text} at most, {tolerance:.0e} is allowed", {"differences": numbers})


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest number of `expected`; infinite where the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    size = float(np.abs(expected).max(initial=0.0))
    largest = float(np.abs(found.astype(np.float64) - expected).max(initial=0.0))
    return largest / size if size else largest


def fill(layer: object, rng: np.random.Generator) -> None:
    """Give a layer the same weights on every device: drawn by NumPy, variances and scales of norms around 1."""
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


def with_gradients(
    outputs: Mapping[str, object], inputs: Mapping[str, object], rng: np.random.Generator, names: Sequence[str] = ()
) -> Arrays:
    """The outputs, and the gradients that a random upstream gradient of each gives the inputs.

    Args:
        outputs: tensors by name. inputs: tensors with gradients by name.
        names: of those outputs that are differentiable; none: all.
    """
    import paddle

    total = 0.0
    for name in names or outputs:
        upstream = rng.normal(size=tuple(outputs[name].shape)).astype(np.float32)
        total = total + (outputs[name] * paddle.to_tensor(upstream)).sum()
    total.backward()
    arrays = {name: value.numpy() for name, value in outputs.items()}
    return {**arrays, **{f"gradient of {name}": value.grad.numpy() for name, value in inputs.items()}}
