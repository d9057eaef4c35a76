"""The end of a run: its curves as a picture, and sentences about its result."""

from typing import TYPE_CHECKING

import numpy as np

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.engine.runs.run_notes import SURE, DataFacts, run_notes
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
CURVES = "curves.png"
FEWEST_STEPS = 20  # a shorter run has no curves


class RunSummaryHook(Hook):
    """Draws loss, learning rate and AP as `ppdet analyze` does, and logs what the evaluations say, on rank 0.

    This hook comes after CheckpointHook. Runs of fewer than FEWEST_STEPS steps have no picture.
    """

    def __init__(self) -> None:
        self.undetected: list[str] = []

    def writes(self, trainer: "Trainer") -> list[str]:
        return [CURVES] if trainer.total_steps >= FEWEST_STEPS else []

    def after_evaluation(self, trainer: "Trainer", numbers: dict[str, float]) -> None:
        metric = getattr(trainer.evaluator, "metric", None)
        if metric is not None:
            sure = metric.detections["score"] >= SURE
            found = set(metric.detections["category_id"][sure].tolist())
            named = zip(metric.category_ids, metric.class_names)
            self.undetected = [name for category, name in named if category not in found]

    def after_train(self, trainer: "Trainer") -> None:
        if collectives.rank() != 0:
            return
        from ppdet.engine.runs import analysis  # which imports the package of this module

        run = analysis.from_history(trainer.output, trainer.output.name)
        if trainer.iteration >= FEWEST_STEPS and run.reports:
            path = trainer.output / CURVES
            try:
                analysis.draw_curves([run], path)
            except OSError as error:
                logger.error("%s could not be written: %s", path, error)
            else:
                logger.info("curves of loss, learning rate and AP: %s", path)
        if trainer.evaluator is not None:
            for note in run_notes(run.evaluations, trainer.epoch, self._facts(trainer)):
                logger.info("%s", note)

    def _facts(self, trainer: "Trainer") -> DataFacts:
        from ppdet.engine.training.data_warnings import boxes_by_class

        dataset = trainer.reader.dataset
        boxes = boxes_by_class(dataset)
        evaluated = getattr(trainer.evaluator, "dataset", None)
        return DataFacts(
            names=dataset.class_names,
            boxes=np.zeros(len(dataset.class_names), np.int64) if boxes is None else boxes,
            trained=len({record["im_file"] for record in dataset.records}),
            evaluated=len({record["im_file"] for record in evaluated.records}) if evaluated is not None else 0,
            undetected=self.undetected,
        )
