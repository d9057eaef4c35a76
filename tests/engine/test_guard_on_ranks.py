"""Two ranks that roll bad steps back on the device train as ranks that check before the update.

What one of them sees alone, in statistics that are its own, both take back.
"""

import json

from forked_ranks import run_jobs

RANK = """
import json
import numpy as np, paddle
from paddle import nn
from ppdet.engine.distributed import collectives, data_parallel
from ppdet.engine.training.guard import StepGuard
from ppdet.engine.training.loss_scale import all_finite
from ppdet.optimizer.joined import divide
from ppdet.optimizer import ModelEMA

class Net(nn.Layer):
    def __init__(self):
        super().__init__()
        self.first, self.sometimes, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.never = nn.Linear(2, 2)
        self.norm = nn.BatchNorm2D(4)  # of a frozen stage: the only one to know that its input is not a number
        self.norm.weight.stop_gradient = self.norm.bias.stop_gradient = True

    def forward(self, x, image, uses_all):
        x = self.first(x) + nn.functional.relu(self.norm(image)).mean([2, 3])
        return self.last(x + self.sometimes(x) if uses_all else x).mean()

class Training:
    def __init__(self, rolls_back):
        paddle.seed(0)
        self.model, self.rolls_back = Net(), rolls_back
        self.parallel = data_parallel.wrap(self.model, find_unused=True)
        self.optimizer = paddle.optimizer.AdamW(0.01, parameters=[p for p in self.model.parameters() if p.trainable])
        self.guard = StepGuard(self.model, self.optimizer, None, max_bad_steps=9, rolls_back=rolls_back)
        self.ema = ModelEMA(self.model, decay=0.9)
        if rolls_back:
            self.ema.join()
        self.rng = np.random.default_rng(rank)

    def unscale(self, gradients):
        return (divide(gradients, paddle.ones([])) if self.rolls_back else all_finite(gradients)), None

    def adjust(self, finite):
        pass

    def step(self, number):
        self.guard.before_forward()
        for turn in range(2):
            x = self.rng.normal(size=(3, 4)).astype("float32")
            image = self.rng.normal(size=(3, 4, 2, 2)).astype("float32")
            if (number, rank, turn) == (3, 1, 0):
                x[0, 0] = np.inf
            if (number, rank, turn) == (4, 1, 1):
                image[0, 0] = np.nan
            # Rank 1 uses one of the layers in every other step: otherwise its gradients come from rank 0.
            with data_parallel.averaging(self.parallel, enabled=turn == 1):
                self.parallel(*map(paddle.to_tensor, (x, image)), rank == 0 or number % 2 == 0).backward()
        record = {"epoch": 0, "step": 0, "iteration": 0, "losses": {}, "images": []}
        self.guard.update(self.guard.check(self), lambda: record)
        self.optimizer.clear_grad(set_to_zero=not self.rolls_back)
        self.ema.update()

with collectives.joined():
    found = []
    for rolls_back in (True, False):
        training = Training(rolls_back)
        for number in range(6):
            training.step(number)
        training.guard.read_pending_checks()
        arrays = [p.numpy() for p in training.model.parameters() if p.trainable]
        assert all(bool(paddle.isfinite(v).all()) for v in training.guard.statistics)
        averages = training.ema.state_dict().items()
        averages = [value.numpy() for name, value in averages if not name.endswith(collectives.STATISTICS)]
        found.append((training.guard.total, [a.tobytes().hex() for a in arrays], [a.tolist() for a in averages]))
print("\\nfound " + json.dumps(found))
"""


def flat(values):
    return [number for value in values for number in (flat(value) if isinstance(value, list) else [value])]


def test_ranks_take_back_the_same_steps(tmp_path):
    (ranks,) = run_jobs(tmp_path, [RANK])
    assert [rank.code for rank in ranks] == [0, 0], ranks[0].output
    results = [next(line for line in rank.output.splitlines() if line.startswith("found ")) for rank in ranks]
    assert results[0] == results[1]
    (bad, weights, averages), (expected_bad, expected_weights, expected_averages) = json.loads(results[0][6:])
    assert bad == expected_bad == 2
    assert weights == expected_weights
    assert max(abs(a - b) for a, b in zip(flat(averages), flat(expected_averages))) < 1e-6
