"""Batch norms that only multiply by and add constants now, and what these constants are."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import paddle
from paddle import Tensor, nn

from ppdet.modeling.mixed import Float32, convolved_type


def is_constant(norm: nn.Layer) -> bool:
    """Whether a batch norm only multiplies and adds constants now: stored statistics, nothing to train."""
    if not isinstance(norm, (nn.BatchNorm2D, nn.SyncBatchNorm)) or not paddle.in_dynamic_mode():
        return False
    if norm.training and not norm._use_global_stats:
        return False
    return not paddle.is_grad_enabled() or (norm.weight.stop_gradient and norm.bias.stop_gradient)


@paddle.no_grad()
def scale_and_shift(norm: nn.BatchNorm2D) -> tuple[Tensor, Tensor]:
    """What a batch norm with its stored statistics multiplies by and adds, (C,) float32 each."""
    with Float32():
        scale = norm.weight / (norm._variance + norm._epsilon).sqrt()
        return scale, norm.bias - norm._mean * scale


class Fold(NamedTuple):
    """What a norm multiplies by and adds: scale float32, shift of `dtype`, see `convolved_type`.

    The norm is in it so that no other can get its id.
    """

    norm: nn.Layer
    scale: Tensor
    shift: Tensor
    dtype: str | None


class ScaledWeight(NamedTuple):
    """A convolution's weight times a norm's scale, of `dtype`; both are in it so that no others can get their ids."""

    weight: Tensor
    scale: Tensor
    product: Tensor
    dtype: str | None


class _State(threading.local):
    """What the outermost `UnchangedNorms` of this thread keeps, by the id of the norm or the weight it is of."""

    folds: dict[int, Fold] | None = None
    weights: dict[int, ScaledWeight] | None = None


_state = _State()


class UnchangedNorms:
    """Weights and statistics do not change within, so that constant norms are folded once.

    Nothing outlives the outermost of these contexts in a thread, which is a model's forward pass or, for those who run
    a model many times, an evaluation: nothing tells that a tensor was changed. `set_value` moves neither its version
    nor its address, and an in-place kernel on a buffer that several tensors share moves no version of theirs.

    A class, not a decorated function, since Paddle's recording of static graphs goes through it and complains of those.

    Args:
        model: its constant norms are folded now, all of them together in a dozen kernels: one norm takes five. None:
            contexts within this one do that, and what they fold stays, as do the convolutions' weights times the norms'
            scales, in memory of their own.
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
        missing = [norm for norm in self.model.sublayers() if is_constant(norm) and known(norm) is None]
        _state.folds.update((id(fold.norm), fold) for fold in fold_together(missing))

    def __exit__(self, *error: object) -> None:
        _state.folds, _state.weights = self.before


def known(norm: nn.Layer) -> Fold | None:
    """What a constant norm was found to multiply by and add, in the type that is asked for now."""
    fold = (_state.folds or {}).get(id(norm))
    return fold if fold and fold.dtype == convolved_type() else None


@paddle.no_grad()
def fold_together(norms: Iterable[nn.Layer]) -> list[Fold]:
    """`scale_and_shift` of several norms, shift in the type of a convolution's result."""
    by_epsilon = defaultdict(list)
    for norm in norms:
        by_epsilon[norm._epsilon].append(norm)
    folds, dtype = [], convolved_type()
    for epsilon, same in by_epsilon.items():
        with Float32():
            weight, bias, mean, variance = (
                paddle.concat(tensors) for tensors in zip(*((n.weight, n.bias, n._mean, n._variance) for n in same))
            )
            scale = weight / (variance + epsilon).sqrt()
            shift = bias - mean * scale
            shift = shift.astype(dtype) if dtype else shift
            sizes = [n.weight.shape[0] for n in same]
            folds += [Fold(*of_norm, dtype) for of_norm in zip(same, parts(scale, sizes), parts(shift, sizes))]
    return folds


def parts(joined: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Memory of its own for each part: a kernel may want addresses that are multiples of 16 bytes."""
    return joined.split(sizes) if len(sizes) > 1 else [joined]


def folded(norm: nn.BatchNorm2D) -> tuple[Tensor, Tensor]:
    """`scale_and_shift` of a constant norm, from the `UnchangedNorms` around it where there is one."""
    fold = known(norm)
    return (fold.scale, fold.shift) if fold else scale_and_shift(norm)


def scaled_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """A convolution's weight (O, I, H, W) times the scale (O,) of the norm after it, computed in float32.

    Where `UnchangedNorms` keeps it, it is in the type of the convolution.
    """
    kept, dtype = _state.weights, convolved_type()
    keeps = kept is not None and (weight.stop_gradient or not paddle.is_grad_enabled())
    if keeps and id(weight) in kept:
        entry = kept[id(weight)]
        if entry.scale is scale and entry.dtype == dtype:
            return entry.product
    with Float32():
        product = weight * scale.reshape([-1, 1, 1, 1])
        if keeps:
            product = product.astype(dtype) if dtype else product
            kept[id(weight)] = ScaledWeight(weight, scale, product, dtype)
    return product
