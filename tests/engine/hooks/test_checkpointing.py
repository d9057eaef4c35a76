"""Which weights are the best ones, where an evaluation has no number."""

import json
import math

import numpy as np
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import read_arrays
from ppdet.engine.trainer import Trainer

VALUES = [math.nan, -5.0, math.nan, -3.0, math.nan]  # as of minus an error in pixels; -1 would be better than all


def no_constant(name):
    raise ValueError(f"{name} is not JSON")


@pytest.mark.parametrize("resumes_at", [None, 1, 3])
def test_an_evaluation_without_a_number_is_never_the_best(tiny, tmp_path, resumes_at):
    options = [f"save_dir={tmp_path}", "epoch=5", "best_by=mine", "TrainDataset.sample_num=2", "keep_checkpoints=1"]

    def train(resume=None, until=5):
        trainer = Trainer(load_config(str(tiny), options), evaluate=True, resume=resume)
        trainer.evaluator = lambda model: {"AP": 0.5, "mine": VALUES[trainer.iteration - 1]}
        trainer.epochs = until
        trainer.train()
        return trainer

    if resumes_at:
        train(until=resumes_at)
    trainer = train("auto" if resumes_at else None)
    assert trainer.best_value == -3
    np.testing.assert_array_equal([value for _, value in trainer.history], VALUES)
    name = "fcos_head.fcos_head_cls.bias"
    best, fourth = (read_arrays(trainer.output / f"{file}.pdparams")[name] for file in ("best_model", "3"))
    np.testing.assert_array_equal(best, fourth)
    for path in trainer.output.glob("*.json"):
        json.loads(path.read_text(), parse_constant=no_constant)
