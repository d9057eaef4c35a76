import numpy as np
import paddle
import pytest
from counting import Kernels
from paddle import ParamAttr, nn
from paddle.regularizer import L2Decay

from ppdet.modeling.heads.fcos_head import FCOSFeat, FCOSHead
from ppdet.optimizer import ModelEMA, OptimizerBuilder
from ppdet.utils import device


class Two(nn.Layer):
    """Two weights of value 1: one as the optimizer says, one with its own rate and without decay."""

    def __init__(self):
        super().__init__()
        one = nn.initializer.Constant(1.0)
        self.plain = self.create_parameter([1], attr=ParamAttr(initializer=one))
        self.own = self.create_parameter(
            [1], attr=ParamAttr(initializer=one, learning_rate=2.0, regularizer=L2Decay(0.0))
        )
        self.frozen = self.create_parameter([1], attr=ParamAttr(initializer=one, trainable=False))

    def forward(self):
        return 3.0 * self.plain + 4.0 * self.own + self.frozen


def step(builder, rate=0.1):
    model = Two()
    optimizer = builder(rate, model)
    model().sum().backward()
    optimizer.step()
    return model.plain.item(), model.own.item(), model.frozen.item()


def test_sgd_by_hand():
    """w - rate * multiplier * (gradient + decay * w)"""
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer={"type": "L2", "factor": 0.5})
    assert step(builder) == pytest.approx((1 - 0.1 * (3 + 0.5), 1 - 0.1 * 2 * 4, 1))


@pytest.mark.parametrize("limit", [1.0, 3.0, 35.0])
def test_gradient_norm_is_clipped(limit):
    """The norm is 5: a limit of 35 does not change it."""
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=None, clip_grad_by_norm=limit)
    factor = min(1, limit / 5)
    assert step(builder) == pytest.approx((1 - 0.1 * 3 * factor, 1 - 0.2 * 4 * factor, 1))


@pytest.mark.parametrize("runs_behind_host", [False, True])
@pytest.mark.parametrize("limit", [0.5, 1e3])
def test_all_gradients_are_clipped_together(monkeypatch, runs_behind_host, limit):
    """g * limit / max(norm, limit), on both kinds of device; on one that works behind the host by few kernels."""
    monkeypatch.setattr(device, "runs_behind_host", lambda: runs_behind_host)
    rng = np.random.default_rng(0)
    for count in (3, 30):
        parameters = [paddle.create_parameter([n + 1, 2], "float32") for n in range(count)]
        parameters[1].need_clip = False
        arrays = [rng.normal(size=p.shape).astype("float32") for p in parameters]
        norm = np.sqrt(sum(np.square(array, dtype="float64").sum() for array in arrays[:1] + arrays[2:]))
        clip = OptimizerBuilder(clip_grad_by_norm=limit).grad_clip
        given = [(p, paddle.to_tensor(array)) for p, array in zip(parameters, arrays)]
        with Kernels() as kernels:
            clipped = clip(given)
        assert [p.name for p, _ in clipped] == [p.name for p in parameters]
        for number, ((_, gradient), array) in enumerate(zip(clipped, arrays)):
            factor = 1.0 if number == 1 else limit / max(norm, limit)
            assert np.allclose(gradient.numpy(), array * factor, rtol=2e-6, atol=0)
        if runs_behind_host:
            assert kernels.counts[""].pop("squared_l2_norm") == count - 1 and kernels.total() <= 9


def test_gradient_values_are_clipped():
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, regularizer=None, clip_grad_by_value=0.5)
    assert step(builder) == pytest.approx((1 - 0.1 * 0.5, 1 - 0.2 * 0.5, 1))


def test_parameter_groups():
    groups = [{"params": ["^plain$"], "learning_rate": 10.0, "weight_decay": 0.5}, {"params": ["."]}]
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, param_groups=groups)
    assert step(builder) == pytest.approx((1 - 0.1 * 10 * (3 + 0.5), 1 - 0.2 * 4, 1))
    with pytest.raises(ValueError, match="nothing"):
        OptimizerBuilder(param_groups=[{"params": ["nothing"]}])(0.1, Two())


@pytest.mark.parametrize(("replace", "factor"), [(False, 2 * 2), (True, 2)])
def test_a_group_multiplies_or_replaces_the_factors_of_layers(replace, factor):
    groups = [{"params": ["."], "learning_rate": 2.0, "weight_decay": 0.0, "replace": replace}]
    builder = OptimizerBuilder(optimizer={"type": "SGD"}, param_groups=groups)
    assert step(builder, rate=0.01) == pytest.approx((1 - 0.01 * 2 * 3, 1 - 0.01 * factor * 4, 1))


def test_all_biases_of_convolutions_twice_as_fast_and_undecayed():
    """As published recipes have it, whatever layers say: the towers have a factor of 2 already, others have 1."""
    model = FCOSHead(num_classes=2, fcos_feat=FCOSFeat(num_convs=2))
    before = {name: dict(p.optimize_attr) for name, p in model.named_parameters()}
    groups = [{"params": [r"(?<!norm)\.bias$"], "learning_rate": 2.0, "replace": True, "weight_decay": 0.0}]
    OptimizerBuilder(param_groups=groups)(0.01, model)
    biases = {name for name in before if name.endswith(".bias") and ".norm." not in name}
    assert len(biases) == 2 * 2 + 3 and {before[name]["learning_rate"] for name in biases} == {1.0, 2.0}
    for name, parameter in model.named_parameters():
        expected = 2.0 if name in biases else before[name]["learning_rate"]
        assert parameter.optimize_attr["learning_rate"] == expected
        assert name not in biases or parameter.regularizer._coeff == 0


@pytest.mark.parametrize("kind", ["Momentum", "Adam", "AdamW"])
def test_other_optimizers_move_against_the_gradient(kind):
    plain, own, frozen = step(OptimizerBuilder(optimizer={"type": kind}))
    assert plain < 1 and own < 1 and frozen == 1


def test_adamw_decay():
    """AdamW's first step: w * (1 - rate * decay) - rate * sign(gradient); no decay for what wants none."""
    plain, own, _ = step(OptimizerBuilder(optimizer={"type": "AdamW", "weight_decay": 0.5}))
    assert plain == pytest.approx(1 * (1 - 0.1 * 0.5) - 0.1, abs=1e-5)
    assert own == pytest.approx(1 - 2 * 0.1, abs=1e-5)


def test_published_default_decay():
    """Without a regularizer a file means L2 with 1e-4; null means none."""
    sgd = {"type": "SGD"}
    assert step(OptimizerBuilder(optimizer=sgd))[0] == pytest.approx(1 - 0.1 * (3 + 1e-4))
    assert step(OptimizerBuilder(optimizer=sgd, regularizer=None))[0] == pytest.approx(1 - 0.1 * 3)


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": {"type": "Lion"}},
        {"optimizer": {"type": "SGD", "momentum": 0.9}},
        {"optimizer": {"type": "SGD", "weight_decay": 0.1}},
        {"optimizer": {"type": "Momentum", "momentum": "high"}},
        {"clip_grad_by_norm": -1.0},
        {"regularizer": {"type": "L3", "factor": 1.0}},
        {"regularizer": {"type": "L2"}},
        {"clip_grad_by_norm": 1.0, "clip_grad_by_value": 1.0},
        {"param_groups": [{"lr": 1.0}]},
        {"param_groups": [{"params": ["."], "replace": True}]},
        {"param_groups": [5]},
        {"param_groups": [{"params": "bias"}]},
        {"param_groups": [{"params": [1]}]},
        {"param_groups": [{"params": ["."], "learning_rate": "x"}]},
        # patterns that are none, or take time that doubles with each letter of a name
        *({"param_groups": [{"params": [pattern]}]} for pattern in ("(", "a{99999999999}", "(a+)+$", "(a?){30}")),
        *({"param_groups": [{"params": [pattern]}]} for pattern in ("(a|a)(a|a)(a|a)(a|a)(a|a)x", ".*" * 5, "a" * 999)),
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ValueError, match="OptimizerBuilder"):
        OptimizerBuilder(**options)


@pytest.mark.parametrize("kind", ["normal", "threshold", "exponential"])
def test_average_of_weights(kind):
    model = Two()
    ema = ModelEMA(model, decay=0.9, decay_type=kind)
    expected = 1.0
    for t in range(1, 6):
        model.plain.set_value(paddle.to_tensor([float(t)]))
        ema.update()
        decay = {
            "normal": 0.0 if t == 1 else 0.9,
            "threshold": min(0.9, (1 + t) / (10 + t)),
            "exponential": 0.9 * (1 - np.exp(-(t + 1) / 2000)),
        }[kind]
        expected = decay * expected + (1 - decay) * t
    assert ema.state_dict()["plain"].item() == pytest.approx(expected, rel=1e-5)
    assert model.plain.item() == 5.0


def test_average_that_starts_later_lives_in_a_model_and_copies_some():
    model, teacher = Two(), Two()
    names = list(model.state_dict())
    model.plain.set_value(paddle.to_tensor([0.5]))
    ema = ModelEMA(model, decay=0.9, decay_type="normal", start=2, copied=set(names) - {"plain"}, into=teacher)
    assert teacher.plain.item() == 0.5
    # Of steps 0, 1, 2, … the average is a copy up to step 2: 10, 20, 30, then 0.9 * 30 + 0.1 * 40, and so on.
    for value, expected in ((10, 10), (20, 20), (30, 30), (40, 31), (50, 32.9)):
        for parameter in model.parameters():
            parameter.set_value(paddle.full_like(parameter, value))
        ema.update()
        assert teacher.plain.item() == pytest.approx(expected, rel=1e-6)
        others = [tensor for name, tensor in teacher.state_dict().items() if name != "plain"]
        assert others and all(float(tensor.mean()) == value for tensor in others)
    assert ema.state_dict()["plain"] is teacher.plain


class Mixed(nn.Layer):
    """Weights, numbers of a batch norm, and a counter."""

    def __init__(self):
        super().__init__()
        self.layers = nn.LayerList([nn.Linear(3, 5) for _ in range(6)])
        self.norm = nn.BatchNorm1D(5)
        self.register_buffer("count", paddle.to_tensor([0], dtype="int64"))


@pytest.mark.parametrize("kind", ["normal", "threshold"])
@pytest.mark.parametrize("joined", [False, True])
def test_averages_are_the_formula_however_they_are_computed(kind, joined):
    """d * average + (1 - d) * weight in NumPy, for every weight; what is copied, and counters, are the last."""
    paddle.seed(0)
    model, into = Mixed(), Mixed()
    copied = {"norm._mean", "layers.2.weight"}
    ema = ModelEMA(model, decay=0.9, decay_type=kind, start=1, copied=copied, into=into if joined else None)
    if joined:
        ema.join()
    expected = {name: value.numpy() for name, value in model.state_dict().items()}
    rng = np.random.default_rng(0)
    for step in range(1, 6):
        for value in model.state_dict().values():
            value.set_value(rng.normal(0, 9, value.shape).astype(value.numpy().dtype))
        ema.update()
        t = step - 1
        decay = (
            0 if t <= 0 or (kind == "normal" and t == 1) else min(0.9, 9 if kind == "normal" else (1 + t) / (10 + t))
        )
        for name, value in model.state_dict().items():
            d = 0 if name in copied or name == "count" else decay
            expected[name] = d * expected[name] + (1 - d) * value.numpy()
            average = ema.state_dict()[name].numpy()
            assert average.dtype == value.numpy().dtype
            if d:
                assert np.allclose(average, expected[name], rtol=1e-5, atol=1e-6), (step, name)
            else:
                assert np.array_equal(average, value.numpy()), (step, name)


@pytest.mark.parametrize("joined", [False, True])
def test_the_average_of_a_frozen_weight_is_the_weight(joined):
    """Exactly, after any number of steps and with any decay."""
    paddle.seed(0)
    layer = nn.Linear(40, 50)
    ema = ModelEMA(layer, decay=0.98, decay_type="threshold")
    if joined:
        ema.join()
    for _ in range(100):
        ema.update()
    assert np.array_equal(ema.state_dict()["weight"].numpy(), layer.weight.numpy())


@pytest.mark.parametrize("layers", [12, 40])
def test_joined_averages_are_few_kernels(layers):
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)))
    ema = ModelEMA(model, decay=0.9, decay_type="threshold", copied=[f"{n}.bias" for n in range(layers)])
    ema.join()
    with Kernels() as kernels:
        ema.update()
    assert dict(kernels.counts[""]) == {"full": 1, "concat": 3, "lerp": 1, "split": 2}


def test_averages_of_one_run_go_on_in_another():
    """Bit for bit, and whatever computes them: a checkpoint of one device is read on another."""
    whole = nn.Linear(4, 4)
    weights = [paddle.rand([4, 4]) for _ in range(4)]
    ema = ModelEMA(whole, decay=0.9)
    ema.join()
    for number, weight in enumerate(weights):
        whole.weight.set_value(weight)
        ema.update()
        if number == 1:
            saved = {name: value.numpy() for name, value in ema.state_dict().items()}
    other = nn.Linear(4, 4)
    other.set_state_dict(whole.state_dict())
    again = ModelEMA(other, decay=0.9)
    again.join()
    again.set_state_dict({name: paddle.to_tensor(value) for name, value in saved.items()}, 2)
    for weight in weights[2:]:
        other.weight.set_value(weight)
        again.update()
    for name, value in ema.state_dict().items():
        assert np.array_equal(value.numpy(), again.state_dict()[name].numpy()), name


def test_a_copy_is_exact():
    model = nn.Linear(50, 50)
    ema = ModelEMA(model, decay=0.9, decay_type="normal", start=3)
    small = paddle.rand([50, 50]) * 1e-5
    for value in (paddle.rand([50, 50]) * 7, small):
        model.weight.set_value(value)
        ema.update()
    assert np.array_equal(ema.state_dict()["weight"].numpy(), small.numpy())


@pytest.mark.parametrize(("steps", "age"), [(500, 50.1), (9_000, 900.1), (200_000, 4999)])
def test_the_average_suits_short_and_long_runs(steps, age):
    """The mean age of the weights in the average after t steps: (t + 1) / 10 at first, and then 1 / (1 - decay) - 1.

    With decays (1 + k) / (10 + k), the share of the weights of step k grows as (k + 2) (k + 3) … (k + 9), and such a
    sum of binomial coefficients gives this mean.
    """
    ema = ModelEMA(Two())
    share, mean = 0.0, 0.0  # of all weights, and their shares times their ages
    for ema.step in range(1, steps + 1):
        decay = ema.current_decay()
        share, mean = decay * share + (1 - decay), decay * (mean + share)
    assert share == pytest.approx(1.0) and mean == pytest.approx(age, rel=1e-3)
