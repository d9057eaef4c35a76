"""The peer that our training step is measured against is the same network: same losses, same gradients."""

import subprocess
from pathlib import Path

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_model

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-peer/bin/python"
SCRIPT = """
import sys
import numpy as np
import torch
sys.path.insert(0, "benchmarks/peer")
import fcos_torch

given = {name: torch.from_numpy(value) for name, value in np.load(sys.argv[1]).items()}
batch = {name: given.pop(name) for name in ("image", "target_labels", "target_distances", "target_centerness")}
model = fcos_torch.build(fcos_torch.SETUPS[sys.argv[3]])
result = model.load_state_dict(given, strict=False)
assert not result.unexpected_keys, result.unexpected_keys
assert all(name.endswith("num_batches_tracked") for name in result.missing_keys), result.missing_keys
losses = fcos_torch.losses(model(batch["image"]), batch)
sum(losses).backward()
gradients = {name: p.grad.norm().numpy() for name, p in model.named_parameters() if p.grad is not None}
np.savez(sys.argv[2], **gradients, losses=torch.stack(losses).detach().numpy())
"""


@pytest.mark.skipif(not PYTHON.exists(), reason="PyTorch is not here (make benchmark-peer)")
@pytest.mark.parametrize(
    ("name", "config"), [("r50", "fcos_r50_fpn_1x_coco.yml"), ("r18vd", "fcos_r18vd_fpn_bccd.yml")]
)
def test_peer_is_the_same_network(tmp_path, name, config):
    model = build_model(load_config(ROOT / "configs/fcos" / config))
    model.train()
    rng = np.random.default_rng(0)
    for key, value in model.state_dict().items():
        if "norm." in key:
            low, high = (0.5, 1.5) if key.endswith("_variance") else (0.2, 0.6)
            value.set_value(rng.uniform(low, high, value.shape).astype("float32"))
    locations = 16 * 16 + 8 * 8 + 4 * 4 + 2 * 2 + 1
    positive = rng.random((2, locations)) < 0.1
    batch = {
        "image": rng.normal(size=(2, 3, 128, 128)).astype("float32"),
        "target_labels": (rng.integers(1, 4, (2, locations)) * positive).astype("int32"),
        "target_distances": rng.uniform(0.5, 4.0, (2, locations, 4)).astype("float32"),
        "target_centerness": (rng.uniform(0.1, 1.0, (2, locations)) * positive).astype("float32"),
    }
    state = {key: value.numpy() for key, value in model.state_dict().items()}
    state = {
        key.replace("._mean", ".running_mean").replace("._variance", ".running_var"): v for key, v in state.items()
    }
    given, taken = tmp_path / "given.npz", tmp_path / "taken.npz"
    np.savez(given, **state, **batch)
    subprocess.run([PYTHON, "-c", SCRIPT, given, taken, name], cwd=ROOT, check=True)
    theirs = dict(np.load(taken))

    losses = model({key: paddle.to_tensor(value) for key, value in batch.items()})
    losses["loss"].backward()
    ours = [float(losses[f"loss_{part}"]) for part in ("cls", "box", "quality")]
    np.testing.assert_allclose(theirs.pop("losses"), ours, rtol=1e-4)
    gradients = {key: float(p.grad.norm()) for key, p in model.named_parameters() if p.grad is not None}
    assert theirs.keys() == gradients.keys()
    for key, norm in gradients.items():
        assert theirs[key] == pytest.approx(norm, rel=0.01, abs=1e-6), key
