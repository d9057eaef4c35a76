"""Files that PyTorch itself writes are read as PyTorch reads them."""

import numpy as np
import pytest
from torch_python import needs_torch, run_torch

from ppdet.convert import read_checkpoint

pytestmark = needs_torch

WRITE = """
import sys
from collections import Counter, OrderedDict
import numpy as np, torch
from torch import nn

torch.manual_seed(0)
folder, new, protocol = sys.argv[1], sys.argv[2] == "zip", int(sys.argv[3])
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(4, 8), nn.Conv2d(8, 4, 1, bias=False))
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
model(torch.randn(2, 3, 5, 5)).sum().backward()
optimizer.step()
schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
table = torch.arange(24.0).reshape(4, 6)
weights = OrderedDict(
    model.state_dict(), half=torch.randn(5).half(), double=torch.randn(3).double(), brain=torch.randn(7).bfloat16(),
    count=torch.tensor(7), number=torch.tensor(1.5), byte=torch.tensor([255], dtype=torch.uint8),
    small=torch.tensor([-3], dtype=torch.int16), flag=torch.tensor([True, False]), none=torch.zeros(0, 3),
    table=table, transposed=table.t(), rows=table[1:3], columns=table[:, 2:4], step=table[::2, ::3],
    parameter=nn.Parameter(torch.randn(2)), channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
)
content = {
    "state_dict": weights, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "epoch": 3,
    "meta": {"config": "style='caffe'", "CLASSES": ("a", "b")}, "size": table.size(), "device": table.device,
    "type": table.dtype, "counts": Counter([1, 1]), "random": torch.get_rng_state(),
}
torch.save(content, folder + "/w.pth", _use_new_zipfile_serialization=new, pickle_protocol=protocol)
arrays = {name: (value.float() if value.dtype == torch.bfloat16 else value).detach() for name, value in weights.items()}
np.savez(folder + "/expected.npz", **{name: value.numpy() for name, value in arrays.items()})
"""


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_state_dicts(tmp_path, form, protocol):
    run_torch("-c", WRITE, tmp_path, form, protocol)
    expected = dict(np.load(tmp_path / "expected.npz"))
    checkpoint = read_checkpoint(tmp_path / "w.pth")
    assert list(checkpoint.arrays) == list(expected) and len(expected) > 20
    for name, array in expected.items():
        read = checkpoint.arrays[name]
        assert np.array_equal(read, array) and read.dtype == array.dtype and read.shape == array.shape, name
    assert checkpoint.config_text == "style='caffe'" and checkpoint.others == []
