"""Folding of batch norms with stored statistics: such a norm multiplies each channel by a constant and adds another."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor, nn

from ppdet.modeling.mixed import Float32, autocast_dtype


def is_constant(norm: nn.Layer) -> bool:
    """Whether a layer is a batch norm that uses its stored statistics and needs no gradients at the moment."""
    if not isinstance(norm, (nn.BatchNorm2D, nn.SyncBatchNorm)) or not paddle.in_dynamic_mode():
        return False
    if norm.training and not norm._use_global_stats:
        return False
    return not paddle.is_grad_enabled() or (norm.weight.stop_gradient and norm.bias.stop_gradient)


@paddle.no_grad()
def scale_and_shift(norm: nn.BatchNorm2D) -> tuple[Tensor, Tensor]:
    """The constants with which norm(x) = x * scale + shift for stored statistics, (C,) float32 each."""
    with Float32():
        scale = norm.weight / (norm._variance + norm._epsilon).sqrt()
        return scale, norm.bias - norm._mean * scale


class Fold(NamedTuple):
    """The constants of a norm: scale float32, shift of type `dtype`, see `autocast_dtype`.

    `norm` is stored so that no other object can get its id while the fold exists.
    """

    norm: nn.Layer
    scale: Tensor
    shift: Tensor
    dtype: str | None


class ScaledWeight(NamedTuple):
    """A convolution's weight times a norm's scale, of type `dtype`; weight and scale are stored as in `Fold`."""

    weight: Tensor
    scale: Tensor
    product: Tensor
    dtype: str | None


class _State(threading.local):
    """The cache of the outermost `CachedFolds` of this thread, by the id of the norm or of the weight."""

    folds: dict[int, Fold] | None = None
    weights: dict[int, ScaledWeight] | None = None


_state = _State()


class CachedFolds:
    """A context in which weights and statistics do not change, so that constant norms are folded only once.

    Folds end with the outermost context of a thread: a forward pass, or a whole evaluation that runs the model many
    times. They cannot be kept longer, since a changed tensor is not recognizable: `set_value` changes neither its
    version nor its address, and in-place kernels on a buffer that several tensors share do not change their versions.

    It is a class instead of a generator, since Paddle's recording of static graphs rejects those.

    Args:
        model: all of its constant norms are folded at the start, together in a dozen kernels; a single norm needs five.
            None: nothing is folded at the start, but folds of the contexts inside are kept until this one ends, and so
            are products of weights and scales, in memory of their own.
    """

    def __init__(self, model: nn.Layer | None = None) -> None:
        self.model = model

    def __enter__(self) -> None:
        self.before = _state.folds, _state.weights
        if not paddle.in_dynamic_mode():
            return
        if _state.folds is None:
            _state.folds = {}
        if self.model is None:
            _state.weights = {} if _state.weights is None else _state.weights
            return
        missing = [norm for norm in self.model.sublayers() if is_constant(norm) and cached_fold(norm) is None]
        _state.folds.update((id(fold.norm), fold) for fold in fold_together(missing))

    def __exit__(self, *error: object) -> None:
        _state.folds, _state.weights = self.before


def cached_fold(norm: nn.Layer) -> Fold | None:
    """The fold of a norm that the context around keeps, if it has the type that convolutions have now."""
    fold = (_state.folds or {}).get(id(norm))
    return fold if fold and fold.dtype == autocast_dtype() else None


@paddle.no_grad()
def fold_together(norms: Iterable[nn.Layer]) -> list[Fold]:
    """The folds of several norms; one kernel computes each step for all norms of the same epsilon."""
    by_epsilon: dict[float, list[nn.Layer]] = defaultdict(list)
    for norm in norms:
        by_epsilon[norm._epsilon].append(norm)
    folds: list[Fold] = []
    dtype = autocast_dtype()
    for epsilon, same in by_epsilon.items():
        with Float32():
            weight, bias, mean, variance = (
                paddle.concat(tensors) for tensors in zip(*((n.weight, n.bias, n._mean, n._variance) for n in same))
            )
            scale = weight / (variance + epsilon).sqrt()
            shift = bias - mean * scale
            shift = shift.astype(dtype) if dtype else shift
            sizes = [n.weight.shape[0] for n in same]
            folds += [Fold(*fold, dtype) for fold in zip(same, split_copies(scale, sizes), split_copies(shift, sizes))]
    return folds


def split_copies(joined: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Copies of the parts of a joined array: kernels may need addresses that are multiples of 16 bytes."""
    return joined.split(sizes) if len(sizes) > 1 else [joined]


def scale_and_shift_cached(norm: nn.BatchNorm2D) -> tuple[Tensor, Tensor]:
    """`scale_and_shift` of a constant norm, taken from the `CachedFolds` around it if there is one."""
    fold = cached_fold(norm)
    return (fold.scale, fold.shift) if fold else scale_and_shift(norm)


def scaled_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """A convolution's weight (O, I, H, W) times the scale (O,) of the norm after it, computed in float32.

    If `CachedFolds` keeps the product, it is cast to the type of convolutions.
    """
    weights, dtype = _state.weights, autocast_dtype()
    if weights is None or not (weight.stop_gradient or not paddle.is_grad_enabled()):
        with Float32():
            return weight * scale.reshape([-1, 1, 1, 1])
    entry = weights.get(id(weight))
    if entry is None or entry.scale is not scale or entry.dtype != dtype:
        with Float32():
            product = weight * scale.reshape([-1, 1, 1, 1])
            product = product.astype(dtype) if dtype else product
        entry = weights[id(weight)] = ScaledWeight(weight, scale, product, dtype)
    return entry.product
