"""FCOS object detection on PaddlePaddle: from a YAML file to a trained, evaluated and exported detector.

    import ppdet

    cfg = ppdet.load_config("fcos_r18_fpn_shapes", {"epoch": 4, "run_name": "short"})  # a file, or a shipped one
    ppdet.set_device(cfg)
    ppdet.Trainer(cfg, evaluate=True).train()
    cfg = ppdet.merge_config(cfg, {"weights": "output/short/best_model"})
    predictor = ppdet.Predictor(cfg)
    print(ppdet.Evaluator(cfg)(predictor.model)["AP"])
    photo = "dataset/shapes/data/images/val/000041.jpg"
    for index, rows in predictor.detect([photo]):
        print(rows)  # (M, 6): class, score, x1, y1, x2, y2
    detector = ppdet.Detector(ppdet.export(cfg, "output_inference"))
    print(detector.predict(photo).boxes)

These names are imported when they are first used: `import ppdet` loads neither paddle nor OpenCV. The first name that
needs paddle sets the number of its threads, which is possible only before paddle is imported: in a notebook, call
`ppdet.load_config` before `import paddle`.
"""

import functools
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppdet import zoo
    from ppdet.core.config import merge_config
    from ppdet.core.registry import register
    from ppdet.core.workspace import load_config
    from ppdet.deploy.detector import Detector
    from ppdet.engine.device_choice import set_device
    from ppdet.engine.evaluator import Evaluator
    from ppdet.engine.export.graph import export_model as export
    from ppdet.engine.predictor import Predictor
    from ppdet.engine.trainer import Trainer

__version__ = "0.1.0"
__all__ = [
    "Detector",
    "Evaluator",
    "Predictor",
    "Trainer",
    "export",
    "load_config",
    "merge_config",
    "register",
    "set_device",
    "zoo",
]

WITHOUT_PADDLE = {
    "Detector": "ppdet.deploy.detector.Detector",
    "merge_config": "ppdet.core.config.merge_config",
    "register": "ppdet.core.registry.register",
}
WITH_PADDLE = {
    "Evaluator": "ppdet.engine.evaluator.Evaluator",
    "Predictor": "ppdet.engine.predictor.Predictor",
    "Trainer": "ppdet.engine.trainer.Trainer",
    "export": "ppdet.engine.export.graph.export_model",
    "load_config": "ppdet.core.workspace.load_config",
    "set_device": "ppdet.engine.device_choice.set_device",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "zoo":
        return importlib.import_module("ppdet.zoo")
    place = WITHOUT_PADDLE.get(name) or WITH_PADDLE.get(name)
    if place is None:
        raise AttributeError(f"module 'ppdet' has no attribute {name!r}")
    if name in WITH_PADDLE:
        _load_paddle()
    module, _, attribute = place.rpartition(".")
    value = globals()[name] = getattr(importlib.import_module(module), attribute)
    return value


@functools.cache
def _load_paddle() -> None:
    """Import paddle with its settings, or warn if it was imported before and computes on one of several processors."""
    from ppdet.utils.logger import get_logger
    from ppdet.utils.process.cpu import cpu_count
    from ppdet.utils.process.paddle_setup import load_paddle

    came_first = "paddle" in sys.modules
    load_paddle(announce=False)
    if came_first and cpu_count() > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        get_logger("ppdet").warning(
            "paddle computes on 1 of %d processors: it was imported before ppdet, or OMP_NUM_THREADS is 1. Use "
            "ppdet.load_config before `import paddle`, or set OMP_NUM_THREADS before Python starts",
            cpu_count(),
        )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
