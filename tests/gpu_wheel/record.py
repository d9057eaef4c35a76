"""Training steps, evaluations and exports of configurations, each a section of the recording (`recording`).

Usage: record.py FOLDER CASES, with the recorder loaded before Paddle. CASES is JSON: configuration and options by name.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path[:0] = [str(Path(__file__).resolve().parents[level]) for level in (0, 1, 2)]

from recording import save, section
from small_configs import narrower, overrides
from tiny import write_tiny_coco

from ppdet.core.workspace import load_config
from ppdet.utils.process.paddle_setup import load_paddle

STEPS = 2  # the first makes the state of the optimizer and of the guard, the second is as all others
EXPORT = "export"  # a case whose name ends so is exported as well


@contextlib.contextmanager
def as_on_gpu() -> Iterator[None]:
    """The project's branches for a GPU, on the CPU."""
    from ppdet.utils import device

    answers = {"name": "gpu:0", "capability": (8, 0), "peak_memory": None, "synchronize": None}
    with contextlib.ExitStack() as stack:
        for function, answer in answers.items():
            stack.enter_context(mock.patch.object(device, function, lambda answer=answer: answer))
        yield


def record(name: str, path: Path, options: list[str], data: Path, output: Path) -> None:
    """Record a run's first steps and an evaluation; where asked for, the exported graph."""
    from ppdet.engine.checkpoints.weights import save_weights
    from ppdet.engine.evaluator import Evaluator
    from ppdet.engine.trainer import Trainer
    from ppdet.engine.training.loss_scale import LossScale
    from ppdet.modeling.backbones import resnet

    channels, own = narrower(path)
    # Everything is a detection, so that suppression and what follows it run.
    own += ["use_ema=true", "FCOSHead.nms.score_threshold=0.0"]
    options = [*overrides(load_config(str(path)), data, 2, output), *own, *options]
    cfg = load_config(str(path), options)
    with mock.patch.object(resnet, "STAGE_CHANNELS", channels):
        with as_on_gpu():
            with section(f"{name}: build"):
                trainer = Trainer(cfg, overwrite=True)
            trainer.precision.loss_scale = LossScale()  # as float16 has it
            trainer.model.train()
            trainer.iteration = trainer.method.complete_from
            with section(f"{name}: train"):
                train(trainer)
            if trainer.guard.total:
                raise SystemExit(f"{name}: the gradients are not finite")
            with section(f"{name}: evaluate"):
                Evaluator(cfg)(trainer.model)
        if name.endswith(EXPORT):
            save_weights(trainer.model.state_dict(), output / "weights.pdparams")
            cfg = load_config(str(path), [*options, f"weights={output}/weights"])
            run_export(name, cfg, output / "exported")


def train(trainer: object) -> None:
    """The first steps, each of an epoch of its own: the data set is small."""
    for epoch in range(STEPS):
        trainer.reader.set_epoch(epoch, 0)
        steps = trainer.read_steps()
        trainer.batches = next(steps)
        steps.close()
        trainer.train_step()
        trainer.iteration += 1
    trainer.guard.read_pending_checks()


def run_export(name: str, cfg: object, folder: Path) -> None:
    """Run an exported graph without Paddle Inference's optimizations for the CPU."""
    import paddle

    from ppdet.engine.export.graph import export_model

    folder = export_model(cfg, str(folder))
    graph = paddle.jit.load(str(folder / "model"))
    inputs = {"image": paddle.rand([1, 3, 96, 128]), "im_shape": paddle.to_tensor([[96.0, 128.0]])}
    inputs["scale_factor"] = paddle.ones([1, 2])
    names = [spec.name for spec in graph._input_spec()]
    with section(f"{name}: exported graph"), paddle.no_grad():
        graph(*[inputs[name] for name in names])


def main() -> None:
    folder, cases = Path(sys.argv[1]), json.loads(sys.argv[2])
    load_paddle(announce=False)
    import paddle

    paddle.set_device("cpu")
    data = write_tiny_coco(folder / "data", images=2)
    for name, (path, options) in cases.items():
        record(name, Path(path), options, data, folder / "output" / name.replace(" ", "_"))
    save(folder / "kernels.tsv")


if __name__ == "__main__":
    main()
