"""Training, evaluation and inference on a simulated device that is not the CPU."""

import json

import paddle
import pytest

IS_PADDLE_3 = paddle.__version__.startswith("3")
TRAIN = """
import json, sys
import commands
from ppdet.utils.process.paddle_setup import load_paddle
load_paddle(announce=False)
import paddle
from pretend import library
from ppdet.core.workspace import load_config
from ppdet.engine.hooks import Hook
from ppdet.engine.predictor import Predictor
from ppdet.engine.trainer import Trainer
from ppdet.utils import device

class Losses(Hook):
    def __init__(self):
        self.losses = []
    def after_step(self, trainer):
        self.losses.append(float(trainer.losses["loss"]))

path, image, output = sys.argv[1:]
options = ["epoch=1", "use_onednn=false", "use_ema=true", "log_iter=2", "FCOSHead.nms.score_threshold=0.005"]
results = {}
for name in ("pretend:1", "cpu"):
    paddle.set_device(name)
    library().pretend_touched()
    hook = Losses()
    trainer = Trainer(load_config(path, options), evaluate=True, hooks=[hook], overwrite=True)
    trainer.train()
    cfg = load_config(path, [*options, f"weights={output}/tiny/model_final"])
    results[name] = {
        "losses": hook.losses,
        "in_step": not trainer.is_asynchronous,
        "places": sorted({str(parameter.place) for parameter in trainer.model.parameters()}),
        "seen": len(trainer.evaluator.metric.detections),
        "ap": trainer.history,
        "found": [rows.tolist() for _, rows in Predictor(cfg).detect([image])][0][:5],
        "touched": library().pretend_touched(),
        "memory": device.peak_memory(),
        "casts": [dtype for dtype in ("float16", "bfloat16") if device.casts_to(dtype)],
        "kernels": [device.has_kernel(operator) for operator in ("empty", "conv2d", "sync_batch_norm")],
        "device": (
            *(device.name(), device.device_type(), device.is_cpu()),
            *(device.runs_behind_host(), device.capability()),
        ),
    }
results["commands"] = {}
run = f"{output}/tiny"
for tool, *words in (
    ["train", "-c", path, "--dry_run", "-o", "epoch=1"],
    ["eval", run],
    ["infer", run, "--infer_img", image, "--output_dir", output],
    ["analyze", run, "--evaluate"],
):
    paddle.set_device("cpu")  # a command without a device does not use the previous command's
    library().pretend_touched()
    ended = commands.execute(f"tools/{tool}.py", *words, "-o", "use_onednn=false", "--device", "pretend:1")
    results["commands"][tool] = [ended.returncode, device.name(), library().pretend_touched(), ended.stderr[-2000:]]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(pretend, tmp_path_factory):
    """Results of training, evaluation and inference on the second device, and then on the CPU."""
    from tiny import TINY_YAML, write_tiny_coco

    folder = tmp_path_factory.mktemp("results")
    data = write_tiny_coco(folder / "data", images=4)
    (folder / "tiny.yml").write_text(TINY_YAML.format(output=folder / "output", data=data))
    printed = pretend.run(TRAIN, folder / "tiny.yml", data / "images" / "001.png", folder / "output")
    return json.loads(next(line for line in printed.splitlines() if line.startswith("{")))


def test_what_the_device_is(results):
    assert results["pretend:1"]["device"] == ["pretend:1", "pretend", False, True, None]
    assert results["cpu"]["device"] == ["cpu", "cpu", True, False, None]
    assert results["pretend:1"]["places"] == ["Place(pretend:1)"] and results["cpu"]["places"] == ["Place(cpu)"]
    assert (results["pretend:1"]["in_step"], results["cpu"]["in_step"]) == (False, True)


def test_it_computes_what_the_cpu_does(results):
    there, here = results["pretend:1"], results["cpu"]
    assert there["losses"] == pytest.approx(here["losses"], rel=1e-5)
    assert there["seen"] == here["seen"] > 0 and len(there["found"]) == 5
    assert there["found"] == [pytest.approx(row, rel=1e-3, abs=1e-3) for row in here["found"]]
    assert there["ap"][0][1] == pytest.approx(here["ap"][0][1], abs=1e-3)


def test_no_thread_takes_memory_on_the_first_device(results):
    """A rank has one device. A thread that copies from it without having made it its own takes memory on device 0."""
    assert results["pretend:1"]["touched"] == 0b10
    assert results["cpu"]["touched"] == 0


@pytest.mark.parametrize("tool", ["train", "eval", "infer", "analyze"])
def test_commands_compute_on_the_device_that_they_are_told(results, tool):
    code, name, touched, printed = results["commands"][tool]
    assert (code, name, touched) == (0, "pretend:1", 0b10), printed


def test_mixed_precision(results):
    """It says that it has both types. Paddle 3.3 knows four devices with bfloat16 by their names, 2.6 none."""
    assert results["pretend:1"]["casts"] == ["float16"] and results["cpu"]["casts"] == []


def test_kernels(results):
    """The device has Paddle's own kernels; the CPU's, which are its fallback, do not count."""
    assert results["pretend:1"]["kernels"] == [True, False, False]
    assert results["cpu"]["kernels"] == [True, True, False]


def test_peak_memory(results):
    """At least the weights of 2.8 M parameters with their gradients and momenta."""
    if IS_PADDLE_3:
        assert results["pretend:1"]["memory"] > 3 * 4 * 2.8e6
    else:
        assert results["pretend:1"]["memory"] is None  # Paddle 2.6 does not count for custom devices
    assert results["cpu"]["memory"] is None
