"""Two processes, each with a device of its own that is not the CPU."""

import json

import pytest
from forked_ranks import run_jobs
from tiny import TINY_YAML, write_tiny_coco

# As paddle.distributed.launch leaves the environment of a process that it has given a device to.
TRAIN = """
import json, os
device_asked = {device!r}
os.environ.update(
    PADDLE_DISTRI_BACKEND="xccl", PADDLE_XCCL_BACKEND="pretend", FLAGS_selected_pretends=str(rank)
)
import commands
from pretend import library
from ppdet.engine import trainer
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks import Hook
from ppdet.utils import device

class Losses(Hook):
    def __init__(self):
        self.losses, self.weights = [], []
    def after_step(self, trainer):
        self.losses.append(float(trainer.losses["loss"]))
        self.weights.append(float(sum(w.abs().sum() for w in trainer.model.parameters() if not w.stop_gradient)))

class Watched(trainer.Trainer):
    def __init__(self, cfg, *, hooks, **options):
        self.witness = Losses()
        super().__init__(cfg, hooks=[*hooks, self.witness], **options)

    def train(self):
        super().train()
        zero = collectives.from_rank_0(lambda: "zero", ValueError)
        found = dict(
            chosen=device.name(),
            losses=self.witness.losses,
            weights=self.witness.weights,
            numbers=(collectives.gather(rank), collectives.max_over_ranks(rank), zero),
            touched=library().pretend_touched(),
            places=sorted({{str(parameter.place) for parameter in self.model.parameters()}}),
        )
        json.dump(found, open({folder!r} + f"/{{device_asked}}_{{rank}}.json", "w"))

trainer.Trainer = Watched
options = ["epoch=1", "use_onednn=false", "find_unused_parameters=true"]
command = ["-c", {path!r}, "--overwrite", "--device", device_asked, "-o", *options]
ended = commands.execute("tools/train.py", *command)
print(ended.stdout + ended.stderr)
assert ended.returncode == 0
"""


@pytest.fixture(scope="module")
def ranks(pretend, tmp_path_factory):
    """Results of both ranks of a job, on devices and, with equal settings, on the CPU."""
    folder = tmp_path_factory.mktemp("ranks")
    data = write_tiny_coco(folder / "data", images=8)
    path = folder / "tiny.yml"
    path.write_text(TINY_YAML.format(output=folder / "output", data=data))
    devices = ("pretend", "cpu")
    scripts = [TRAIN.format(device=device, path=str(path), folder=str(folder)) for device in devices]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in pretend.environment.items():
            patch.setenv(name, value)
        for job in run_jobs(folder, scripts):
            assert [rank.code for rank in job] == [0, 0], "".join(rank.output for rank in job)[-3000:]
    return {
        device: [json.loads((folder / f"{device}_{rank}.json").read_text()) for rank in range(2)] for device in devices
    }


def test_each_process_has_its_device(ranks):
    assert [rank["chosen"] for rank in ranks["pretend"]] == ["pretend:0", "pretend:1"]
    assert [rank["places"] for rank in ranks["pretend"]] == [["Place(pretend:0)"], ["Place(pretend:1)"]]
    assert [rank["touched"] for rank in ranks["pretend"]] == [0b01, 0b10]


def test_processes_on_the_cpu_stay_there(ranks):
    """Although the launcher has given them devices, and told Paddle to talk through the devices' library."""
    assert [rank["chosen"] for rank in ranks["cpu"]] == ["cpu", "cpu"]
    assert [rank["places"] for rank in ranks["cpu"]] == [["Place(cpu)"], ["Place(cpu)"]]
    assert [rank["touched"] for rank in ranks["cpu"]] == [0, 0]


def test_they_train_as_one(ranks):
    for job in ranks.values():
        assert job[0]["weights"] == job[1]["weights"] and job[0]["losses"] != job[1]["losses"]
        assert all(rank["numbers"] == [[0, 1], 1, "zero"] for rank in job)
    for there, here in zip(ranks["pretend"], ranks["cpu"]):
        assert there["losses"] == pytest.approx(here["losses"], rel=1e-5) and len(here["losses"]) == 2
        assert there["weights"] == pytest.approx(here["weights"], rel=1e-6)
