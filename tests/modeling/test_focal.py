"""The focal loss and its own gradient against Paddle's operator with Paddle's automatic gradient."""

import numpy as np
import paddle
import pytest

from ppdet.modeling.architectures.base import DenseMaps
from ppdet.modeling.losses.fcos_loss import FCOSLoss, FocalLossSum

SIZES = [(4, 6), (2, 3), (1, 1)]


def random_case(seed, classes, spread=2.0, images=2):
    rng = np.random.default_rng(seed)
    maps = [rng.normal(-1, spread, (images, classes, h, w)).astype(np.float32) for h, w in SIZES]
    labels = rng.integers(0, classes + 1, (images, sum(h * w for h, w in SIZES))).astype(np.int32)
    labels[:, ::2] = 0
    return maps, labels


def by_paddle(maps, labels, alpha, gamma):
    """Sum, and gradient of each map, of paddle.nn.functional.sigmoid_focal_loss on one-hot labels, in float64."""
    tensors = [paddle.to_tensor(m.astype(np.float64), stop_gradient=False) for m in maps]
    flat = paddle.concat([t.flatten(2).transpose([0, 2, 1]) for t in tensors], axis=1)
    one_hot = np.eye(maps[0].shape[1] + 1)[labels][..., 1:]
    one = paddle.ones([1], dtype="float64")
    loss = paddle.nn.functional.sigmoid_focal_loss(flat, paddle.to_tensor(one_hot), one, alpha=alpha, gamma=gamma)
    loss.backward()
    return float(loss), [t.grad.numpy() for t in tensors]


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.4, 1.5), (0.5, 0.0), (1.0, 3.0)])
@pytest.mark.parametrize("classes", [1, 5])
def test_value_and_gradient(alpha, gamma, classes):
    maps, labels = random_case(int(10 * alpha + gamma), classes)
    expected, gradients = by_paddle(maps, labels, alpha, gamma)
    tensors = [paddle.to_tensor(m, stop_gradient=False) for m in maps]
    loss = FocalLossSum.apply(paddle.to_tensor(labels), alpha, gamma, *tensors)
    (3.0 * loss).backward()
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    for tensor, map_, gradient in zip(tensors, maps, gradients):
        assert np.allclose(tensor.grad.numpy(), 3.0 * gradient, rtol=1e-4, atol=1e-6)
        assert np.array_equal(tensor.numpy(), map_), "the logits themselves stay"


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_smoothed_labels_are_a_mean_of_both_answers(smoothing):
    """Where only the own class of positives is uncertain, the loss is linear in its target."""
    maps, labels = random_case(3, 4)
    (yes, no) = (by_paddle(maps, answer, 0.25, 2.0) for answer in (labels, np.zeros_like(labels)))
    tensors = [paddle.to_tensor(m, stop_gradient=False) for m in maps]
    loss = FocalLossSum.apply(paddle.to_tensor(labels), 0.25, 2.0, *tensors, smoothing=smoothing)
    loss.backward()
    assert float(loss) == pytest.approx((1 - smoothing) * yes[0] + smoothing * no[0], rel=1e-5)
    for tensor, one, other in zip(tensors, yes[1], no[1]):
        assert np.allclose(tensor.grad.numpy(), (1 - smoothing) * one + smoothing * other, rtol=1e-4, atol=1e-6)


def test_label_smoothing_of_the_loss():
    """At p = sigmoid(0) = 1/2, both answers of the one positive cost 1/4 ln 2, weighted by alpha and 1 - alpha."""
    maps = DenseMaps([paddle.zeros([1, 1, 1, 2])], [paddle.ones([1, 4, 1, 2])], [paddle.zeros([1, 1, 1, 2])])
    targets = {
        "target_labels": paddle.to_tensor([[1, 0]], "int32"),
        "target_distances": paddle.ones([1, 2, 4]),
        "target_centerness": paddle.to_tensor([[1.0, 0.0]]),
    }
    for smoothing in (0.0, 0.2):
        loss = FCOSLoss(label_smoothing=smoothing)(maps, targets)["loss_cls"]
        own = (1 - smoothing) * 0.25 + smoothing * 0.75
        assert float(loss) == pytest.approx((own + 0.75) * 0.25 * np.log(2), rel=1e-5)
    with pytest.raises(ValueError, match=r"FCOSLoss\.label_smoothing"):
        FCOSLoss(label_smoothing=1.0)


def test_extreme_logits():
    """At +-1e4 the loss of a term is its logit or zero, and its gradient the weight or zero."""
    values = np.array([1e4, -1e4], np.float32)
    tensor = paddle.to_tensor(values.reshape([1, 1, 1, 2]), stop_gradient=False)
    for label, loss, gradient in ((0, 0.75e4, [0.75, 0]), (1, 0.25e4, [0, -0.25])):
        tensor.clear_gradient()
        actual = FocalLossSum.apply(paddle.full([1, 2], label, "int32"), 0.25, 2.0, tensor)
        actual.backward()
        assert float(actual) == pytest.approx(loss, rel=1e-6)
        assert tensor.grad.flatten().tolist() == pytest.approx(gradient)


def test_one_level_that_is_used_elsewhere_keeps_its_logits():
    maps, labels = random_case(0, 3)
    tensor = paddle.to_tensor(maps[0], stop_gradient=False)
    FocalLossSum.apply(paddle.to_tensor(labels[:, : 4 * 6]), 0.25, 2.0, tensor).backward()
    assert np.array_equal(tensor.numpy(), maps[0])


def test_half_precision_logits_get_gradients_of_their_kind():
    maps, labels = random_case(1, 4)
    expected, gradients = by_paddle(maps, labels, 0.25, 2.0)
    tensors = [paddle.to_tensor(m, stop_gradient=False).astype("bfloat16").detach() for m in maps]
    for tensor in tensors:
        tensor.stop_gradient = False
    loss = FocalLossSum.apply(paddle.to_tensor(labels), 0.25, 2.0, *tensors)
    loss.backward()
    assert loss.dtype == paddle.float32 and float(loss) == pytest.approx(expected, rel=0.02)
    for tensor, gradient in zip(tensors, gradients):
        assert tensor.grad.dtype == paddle.bfloat16
        assert np.allclose(tensor.grad.astype("float32").numpy(), gradient, rtol=0.05, atol=0.02)
