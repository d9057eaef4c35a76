"""Batch norms that only multiply by and add constants now, and what these constants are."""

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Optional

import paddle
from paddle import Tensor, nn

from ppdet.modeling.mixed import Float32, convolved_type, like_convolved


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
    dtype: Optional[str]


class _State(threading.local):
    """Of the innermost `UnchangedNorms` of this thread: folds by the id of their norm, weights by that of theirs."""

    folds: Optional[dict[int, Fold]] = None
    weights: Optional[dict[int, tuple[Tensor, Tensor, Tensor]]] = None


_state = _State()


class UnchangedNorms:
    """Weights and statistics of `model` do not change within, so that its constant norms are folded once.

    All of them together, in a dozen kernels: one norm takes five. Nothing outlives the context, since nothing tells
    that a tensor was changed: `set_value` moves neither a tensor's version nor its address, and an in-place kernel on
    a buffer that several tensors share moves no version of theirs.

    Within another one of the same thread, this one only adds what that does not have. An outer one therefore says how
    long the weights stay: a model's forward pass, a training step of several passes, an evaluation.

    A class, not a decorated function, since Paddle's recording of static graphs goes through it and complains of those.

    Args:
        weights: keep the weights of convolutions times the norms' scales as well, in memory of their own, for those who
            run the model many times.
    """

    def __init__(self, model: nn.Layer, *, weights: bool = False) -> None:
        self.model, self.keeps_weights = model, weights

    def __enter__(self) -> None:
        self.before = _state.folds, _state.weights
        if not paddle.in_dynamic_mode():
            return
        if _state.folds is None:
            _state.folds = {}
        if _state.weights is None and self.keeps_weights:
            _state.weights = {}
        missing = [n for n in self.model.sublayers() if id(n) not in _state.folds and is_constant(n)]
        _state.folds.update((id(fold.norm), fold) for fold in fold_together(missing))

    def __exit__(self, *error: object) -> None:
        _state.folds, _state.weights = self.before


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
                paddle.concat(tensors)
                for tensors in zip(*((n.weight, n.bias, n._mean, n._variance) for n in same))
            )
            scale = weight / (variance + epsilon).sqrt()
            shift = (bias - mean * scale).astype(dtype or "float32")
            sizes = [n.weight.shape[0] for n in same]
            folds += [Fold(*of_norm, dtype) for of_norm in zip(same, parts(scale, sizes), parts(shift, sizes))]
    return folds


def parts(joined: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Memory of its own for each part: a kernel may want addresses that are multiples of 16 bytes."""
    return joined.split(sizes) if len(sizes) > 1 else [joined]


def folded(norm: nn.BatchNorm2D) -> tuple[Tensor, Tensor]:
    """`scale_and_shift` of a constant norm, from the `UnchangedNorms` around it where there is one."""
    fold = (_state.folds or {}).get(id(norm))
    return (fold.scale, fold.shift) if fold and fold.dtype == convolved_type() else scale_and_shift(norm)


def scaled_weight(weight: Tensor, scale: Tensor) -> Tensor:
    """A convolution's weight (O, I, H, W) times the scale (O,) of the norm after it."""
    with Float32():
        product = kept_weight(weight, scale)
        return weight * scale.reshape([-1, 1, 1, 1]) if product is None else product


def kept_weight(weight: Tensor, scale: Tensor) -> Optional[Tensor]:
    """The product where `UnchangedNorms` keeps it, in the type of the convolution; None where it does not."""
    kept = _state.weights
    if kept is None or (paddle.is_grad_enabled() and not weight.stop_gradient):
        return None
    if id(weight) not in kept:
        kept[id(weight)] = weight, scale, weight * scale.reshape([-1, 1, 1, 1])
    _, of, product = kept[id(weight)]
    return product if of is scale else None
