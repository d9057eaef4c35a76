"""Mixed precision: what can be shown of it without a GPU."""

import json

import numpy as np
import paddle
import pytest
from autocast import as_on_a_gpu
from counting import Kernels
from paddle import nn

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_dataset, build_model, build_reader
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training import loss_scale, precision
from ppdet.engine.training.guard import DivergedError
from ppdet.engine.training.loss_scale import LossScale
from ppdet.engine.training.precision import autocast_options, gpu_type, smaller_type
from ppdet.modeling.mixed import Float32, like_convolved
from ppdet.utils import device
from ppdet.utils.errors import ConfigError


class Losses(Hook):
    def __init__(self):
        self.losses, self.scales = [], []

    def before_step(self, trainer):
        if trainer.precision.loss_scale:
            self.scales.append(float(trainer.precision.loss_scale.value))

    def after_step(self, trainer):
        self.losses.append(float(trainer.losses["loss"]))


def scaled_trainer(tiny, options, start, hooks=(), resume=None):
    """A trainer on the CPU with the loss scale that float16 has on a GPU."""
    trainer = Trainer(load_config(tiny, options), hooks=hooks, resume=resume)
    trainer.precision.loss_scale = LossScale(start)
    if trainer.resumed_from:
        trainer.precision.load_state(precision_state(trainer.resumed_from))
    return trainer


def as_in_float16(gradient):
    """Round to float16; values beyond its range become infinite."""
    return paddle.where(gradient.abs() > 65504, paddle.full_like(gradient, float("inf")), gradient)


def precision_state(prefix):
    from ppdet.engine.checkpoints.manifest import read_verified

    return read_verified(prefix).state.loss_scale


@pytest.mark.parametrize("waits", [True, False])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_scale_changes_nothing_but_the_range(tiny, tmp_path, answer_for_device, waits, accumulate):
    """A power of two comes out of float32 gradients as it went in."""
    answer_for_device(not waits)
    weights = []
    for start in (None, 2.0**10):
        options = [f"save_dir={tmp_path}/{start}", "use_onednn=false", f"accumulate_steps={accumulate}"]
        trainer = scaled_trainer(tiny, options, start) if start else Trainer(load_config(tiny, options))
        trainer.train()
        weights.append(read_arrays(tmp_path / str(start) / "tiny" / "model_final.pdparams"))
    assert all(np.array_equal(value, weights[1][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("waits", [True, False])
def test_overflows_at_the_start_are_no_bad_steps(tiny, tmp_path, log, answer_for_device, waits):
    """Gradients beyond the type's range: the scale is halved until they fit, and training continues."""
    answer_for_device(not waits)
    hook = Losses()
    trainer = scaled_trainer(tiny, ["epoch=4", "max_bad_steps=2"], 2.0**24, [hook])
    for parameter in trainer.guard.parameters:
        parameter.register_hook(as_in_float16)
    trainer.train()
    skipped = trainer.guard.overflows
    # The largest gradients of a fresh detector are between 0.1 and 100, the largest float16 is 65504.
    assert 4 <= skipped <= 15
    assert hook.scales[:4] == [2.0**24, 2.0**23, 2.0**22, 2.0**21]
    assert float(trainer.precision.loss_scale.value) == 2.0 ** (24 - skipped)
    assert (trainer.guard.total, trainer.guard.in_a_row) == (0, 0)
    assert f"float16: {skipped} steps skipped so far" in log.text
    lines = [json.loads(line) for line in (tmp_path / "output" / "tiny" / "bad_steps.jsonl").read_text().splitlines()]
    assert [line["loss_scale"] for line in lines] == [2.0 ** (24 - n) for n in range(skipped)]
    assert all(len(line["ranks"][0]["images"]) == 2 for line in lines)
    assert all(np.isfinite(p.numpy()).all() for p in trainer.model.parameters())


def test_the_loss_scale_follows_its_rule(monkeypatch):
    """The scale is halved after an overflow and doubled after GROWTH_INTERVAL steps without, by six kernels."""
    monkeypatch.setattr(loss_scale, "GROWTH_INTERVAL", 3)
    scale, rng = LossScale(2.0**3), np.random.default_rng(0)
    expected, good = 2.0**3, 0
    for finite in [True, True, False, *[True] * 7, *[False] * 9, *(rng.random(20) < 0.8), *[True] * 90]:
        gradients = [paddle.full([3], 5.0 if finite else np.inf), paddle.full([2, 2], 7.0)]
        before = scale.value
        there = scale.unscale(gradients)
        assert bool(there) == finite
        if finite:
            assert np.allclose(gradients[0].numpy(), 5 / expected) and np.allclose(gradients[1].numpy(), 7 / expected)
        with Kernels() as kernels:
            scale.adjust(there)
        assert kernels.total() <= 6 and kernels.counts[""]["update_loss_scaling"] == 1
        assert float(before) == expected  # a step that is not judged yet holds it
        good = good + 1 if finite else 0
        expected = expected / 2 if not finite else expected * 2 if good == 3 else expected
        expected, good = min(max(expected, 1.0), 2.0**24), good % 3
        assert (float(scale.value), scale.state()) == (expected, {"scale": expected, "good_steps": good})
    assert expected == 2.0**24
    other = LossScale()
    other.load_state(scale.state())
    assert other.state() == scale.state()


def test_a_bad_batch_is_no_overflow(tiny, tmp_path):
    class Poison(Hook):
        def before_step(self, trainer):
            if trainer.iteration == 2:
                trainer.batches[0]["target_centerness"][:] = float("nan")

    trainer = scaled_trainer(tiny, [], 2.0**10, [Poison()])
    trainer.train()
    assert (trainer.guard.total, trainer.guard.overflows) == (1, 0)
    assert "loss_scale" not in json.loads((tmp_path / "output" / "tiny" / "bad_steps.jsonl").read_text())
    assert float(trainer.precision.loss_scale.value) == 2.0**9


def test_infinities_that_a_scale_of_one_leaves_end_the_run(tiny):
    class Break(Hook):
        def before_step(self, trainer):
            for layer in trainer.model.sublayers():
                if isinstance(layer, nn.GroupNorm):
                    layer.weight.register_hook(lambda gradient: gradient * float("inf"))
                    return

    trainer = scaled_trainer(tiny, ["epoch=3", "max_bad_steps=3", "use_onednn=false"], 4.0, [Break()])
    with pytest.raises(DivergedError, match="3 steps in a row"):
        trainer.train()
    assert trainer.guard.overflows == 2


def test_the_scale_grows_after_two_thousand_good_steps_and_is_in_checkpoints(tiny, tmp_path):
    scale = LossScale(8.0)
    good, bad = paddle.to_tensor(True), paddle.to_tensor(False)
    for _ in range(1999):
        scale.adjust(good)
    assert scale.state() == {"scale": 8.0, "good_steps": 1999}
    again = LossScale()
    again.load_state(scale.state())
    again.adjust(good)
    assert again.state() == {"scale": 16.0, "good_steps": 0}
    scale.adjust(bad)
    assert scale.state() == {"scale": 4.0, "good_steps": 0}

    scaled_trainer(tiny, ["epoch=1"], 2.0**12).train()
    prefix = tmp_path / "output" / "tiny" / "model_final"
    assert precision_state(prefix) == {"scale": 2.0**12, "good_steps": 4}
    # A run in another type takes no notice.
    assert Trainer(load_config(tiny), resume=str(prefix)).precision.state() == {}


@pytest.mark.parametrize(
    ("wanted", "capability", "expected"),
    [
        (None, (9, 0), "bfloat16"),
        (None, (8, 0), "bfloat16"),
        (None, (7, 5), "float16"),
        ("float16", (9, 0), "float16"),
        (
            "bfloat16",
            (7, 0),
            "bfloat16 needs a GPU of compute capability 8.0, this one has 7.0: set amp_dtype to",
        ),
        (None, (6, 1), "float16 needs a GPU of compute capability 7.0, this one has 6.1: leave amp out"),
    ],
)
def test_type_on_a_gpu(wanted, capability, expected):
    if " " not in expected:
        assert gpu_type(wanted, capability) == expected
        return
    with pytest.raises(ConfigError, match=expected):
        gpu_type(wanted, capability)


@pytest.mark.parametrize(("capability", "dtype"), [((9, 0), "bfloat16"), ((7, 5), "float16")])
def test_what_is_made_for_a_gpu(tiny, log, monkeypatch, capability, dtype):
    """Only the two questions to the device are answered for it here."""
    monkeypatch.setattr(device, "device_type", lambda: "gpu")
    monkeypatch.setattr(device, "capability", lambda: capability)
    made = precision.Precision(load_config(tiny, ["amp=true"]))
    assert (made.dtype, made.autocast_options["dtype"], made.autocast_options["level"]) == (dtype, dtype, "O1")
    assert made.autocast_options["use_promote"] is True
    assert made.state() == ({} if dtype == "bfloat16" else {"scale": 65536.0, "good_steps": 0})
    assert f"mixed precision: {dtype}, O1" in log.text
    plain = precision.Precision(load_config(tiny))
    assert (plain.dtype, plain.autocast_options, plain.loss_scale) == ("float32", None, None)


def test_what_paddle_is_told(tiny):
    """auto_cast takes these arguments, with its own lists joined to ours."""
    cfg = load_config(
        tiny, ["amp_level=O2", "custom_black_list=[group_norm]", "custom_white_list=[matmul]", "use_gpu=false"]
    )
    options = autocast_options(cfg, "float16")
    assert options == {
        "custom_white_list": {"matmul"},
        "custom_black_list": {"group_norm"},
        "level": "O2",
        "dtype": "float16",
        "use_promote": False,
    }
    with pytest.warns(UserWarning, match="amp_guard can only be enabled on CUDAPlace"), paddle.amp.auto_cast(**options):
        tracer = paddle.base.framework._dygraph_tracer()
        white, black = tracer._get_amp_op_list()
        assert "matmul" in white and "group_norm" in black
    with pytest.raises(ConfigError, match="custom_white_list and custom_black_list both have exp"):
        autocast_options(load_config(tiny, ["custom_black_list=[exp, log]", "custom_white_list=[exp]"]), "bfloat16")


@pytest.mark.parametrize(
    ("kind", "options", "white"),
    [
        ("gpu", [], {"group_norm", "depthwise_conv2d"}),
        ("gpu", ["custom_white_list=[exp]"], {"group_norm", "depthwise_conv2d", "exp"}),
        ("gpu", ["custom_black_list=[group_norm]"], {"depthwise_conv2d"}),
        ("xpu", [], set()),
        ("npu", ["custom_white_list=[group_norm]"], {"group_norm"}),
    ],
)
def test_group_norm_is_of_the_smaller_type_where_its_sums_are_float32(tiny, monkeypatch, kind, options, white):
    """As read in Paddle's kernels for NVIDIA's GPUs; of other devices nobody has looked."""
    monkeypatch.setattr(precision.device, "name", lambda: f"{kind}:0")
    assert autocast_options(load_config(tiny, options), "float16")["custom_white_list"] == white


@pytest.fixture
def cast_by_paddle(monkeypatch):
    """Paddle in the state that auto_cast puts it in on a GPU; on a CPU it casts nothing all the same."""
    import sys

    tracer, module = paddle.base.framework._dygraph_tracer(), sys.modules["paddle.amp.auto_cast"]
    before = tracer._amp_level, tracer._amp_dtype
    monkeypatch.setattr(module, "_g_amp_state_", {"enable": True, "dtype": "float16"})
    tracer._amp_level, tracer._amp_dtype = paddle.base.core.AmpLevel.O2, "float16"
    yield tracer
    tracer._amp_level, tracer._amp_dtype = before


def test_constants_of_frozen_norms_do_not_make_maps_float32(cast_by_paddle):
    shift = paddle.ones([4])
    assert like_convolved(shift).dtype == paddle.float16
    with Float32():
        assert like_convolved(shift) is shift


def test_float32_within_mixed_precision(cast_by_paddle):
    levels = paddle.base.core.AmpLevel
    with Float32():
        assert cast_by_paddle._amp_level == levels.O0
        with Float32():
            assert cast_by_paddle._amp_level == levels.O0
        assert cast_by_paddle._amp_level == levels.O0
    assert cast_by_paddle._amp_level == levels.O2
    with pytest.raises(KeyError), Float32():
        raise KeyError
    assert cast_by_paddle._amp_level == levels.O2


@pytest.mark.parametrize(("level", "dtype"), [("O1", "float16"), ("O2", "bfloat16")])
def test_losses_and_detections_are_float32(tiny, level, dtype):
    """Everything after the last convolutions is float32 on GPU and CPU; the loss equals float32's on rounded maps."""
    cfg = load_config(tiny, ["amp=true", "eval_amp=true", f"amp_level={level}", f"amp_dtype={dtype}"])
    model = build_model(cfg)
    batch = next(iter(build_reader(cfg, "TrainReader", build_dataset(cfg, "TrainDataset"))))
    batch = {**batch, "scale_factor": paddle.ones([2, 2])}
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    expected = model(batch)
    model.set_state_dict(state)
    with as_on_a_gpu() as autocast:
        started = []
        for owner, name in ((model, "loss"), (model, "detect")):
            method = getattr(owner, name)
            setattr(owner, name, lambda *a, m=method: started.append(len(autocast.calls)) or m(*a))
        with precision.Precision(cfg).forward():
            losses = model(batch)
        of_loss = autocast.calls[started[0] :]
        losses["loss"].backward()
        model.eval()
        autocast.calls.clear()
        with precision.Precision(cfg, "eval_amp").forward(), paddle.no_grad():
            rows, _ = model(batch)
        of_detection = autocast.calls[started[1] :]
    assert {call.dtype for call in of_loss} == {call.dtype for call in of_detection} == {paddle.float32}
    assert len(of_loss) > 50 and len(of_detection) > 20
    assert rows.dtype == paddle.float32 and {value.dtype for value in losses.values()} == {paddle.float32}
    assert {p.grad.dtype for p in model.parameters() if p.trainable} == {paddle.float32}
    assert float(losses["loss"]) == pytest.approx(float(expected["loss"]), rel=0.02)
    assert float(losses["loss"]) != float(expected["loss"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["amp_dtype=float16"], "amp_dtype"),
        (["amp_level=O2", "custom_black_list=[exp]"], "amp_level, custom_black_list"),
        (["amp_dtype=bfloat16"], None),
    ],
)
def test_on_a_cpu_settings_for_gpus_are_named(tiny, log, options, named):
    cfg = load_config(tiny, ["amp=true", *options])
    made = precision.Precision(cfg)
    assert made.dtype in ("float32", "bfloat16")
    assert made.autocast_options is None and made.loss_scale is None
    lines = [r.getMessage() for r in log.records if "for GPUs only" in r.getMessage()]
    expected = f"{named}: for GPUs only; on this CPU oneDNN's layers compute in {made.dtype}"
    assert lines == ([expected] if named else [])


def test_backward_runs_outside_of_auto_cast(tiny, monkeypatch):
    """What Python computes in a backward pass would be cast as well."""
    trainer = Trainer(load_config(tiny, ["epoch=1"]))
    open_now, seen = [], []

    class Recorded:
        def __enter__(self):
            open_now.append(True)

        def __exit__(self, *error):
            open_now.pop()

    monkeypatch.setattr(trainer.precision, "autocast", Recorded)
    backward = paddle.Tensor.backward
    monkeypatch.setattr(paddle.Tensor, "backward", lambda t: seen.append(bool(open_now)) or backward(t))
    trainer.model.register_forward_pre_hook(lambda *_: seen.append(bool(open_now)))
    trainer.train()
    assert seen == [True, False] * 4


@pytest.mark.parametrize(
    ("wanted", "has", "expected"),
    [
        (None, ["bfloat16", "float16"], "bfloat16"),
        (None, ["float16"], "float16"),
        ("float16", ["bfloat16", "float16"], "float16"),
        ("bfloat16", ["bfloat16"], "bfloat16"),
        ("bfloat16", ["float16"], "amp: Paddle has no mixed precision in bfloat16 on npu:0: set amp_dtype to float16"),
        ("float16", [], "amp: Paddle has no mixed precision in float16 on npu:0: leave amp out"),
        (None, [], "amp: Paddle has no mixed precision in any type on npu:0: leave amp out"),
    ],
)
def test_type_on_another_device(monkeypatch, wanted, has, expected):
    """Without CUDA's compute capability, Paddle is asked whether it would cast at all."""
    monkeypatch.setattr(device, "name", lambda: "npu:0")
    monkeypatch.setattr(device, "casts_to", has.__contains__)
    if " " not in expected:
        assert smaller_type(wanted) == expected
        return
    with pytest.raises(ConfigError, match=expected):
        smaller_type(wanted)
