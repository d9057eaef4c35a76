"""Runs of a model with one weight, in output/run of the current folder, which has a configuration run.yml."""

import json
import logging
from pathlib import Path

import paddle
from paddle import nn

from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.manifest import TrainingState
from ppdet.engine.runs.run_config import output_of
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.runs.run_start import begin_run
from ppdet.engine.runs.start_point import StartPoint


def start_point(*options, resume=None, overwrite=False):
    """A start point whose checkpoint was not looked for, unlike `StartPoint.find`, so that changes are not noticed."""
    cfg = load_config("run.yml", options)
    folder = RunFolder(output_of(cfg), keep_every=1)
    resumed = folder.newest() if resume == "auto" else Path(resume) if resume else None
    folder._seen = None
    return StartPoint(cfg, folder, resume, resumed, overwrite)


def save(folder, name, iteration, ap=None, history=()):
    """A checkpoint of a model with one weight."""
    model = nn.Linear(1, 1)
    model.weight.set_value(paddle.full([1, 1], float(iteration)))
    optimizer = paddle.optimizer.SGD(0.1, parameters=model.parameters())
    fields = {**dict.fromkeys(TrainingState._fields, 0), "evaluated": True, "history": [*history], "loss_scale": {}}
    state = TrainingState(**{**fields, "iteration": iteration, "best_ap": ap})
    folder.save(name, state, model, optimizer, None)


def run(*options, saves=(("0", 4), ("1", 8)), **more):
    """Begin a run, and have checkpoints, best weights and a history of it."""
    one = start_point(*options, **more)
    with begin_run(one):
        logging.getLogger("ppdet").info("of %s", one.folder.id)
        for name, iteration in saves:
            save(one.folder, name, iteration, ap=iteration / 10)
            (one.output / "best_model.pdparams").write_text(f"best up to {iteration}")
        (one.output / "history.jsonl").write_text(json.dumps({"run": one.folder.id}) + "\n")
        (one.output / "pictures").mkdir(exist_ok=True)
        (one.output / "pictures" / "a.jpg").write_bytes(one.folder.id.encode())
    return one


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def names(folder="output"):
    return {path.name for path in Path(folder).iterdir()}
