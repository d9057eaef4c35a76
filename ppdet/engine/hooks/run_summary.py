"""The end of a run: its curves as a picture, and sentences about its result."""

import copy
import math
from typing import TYPE_CHECKING

import numpy as np

from ppdet.engine.build import build_reader
from ppdet.engine.distributed import collectives
from ppdet.engine.evaluator import Evaluator, detect_into
from ppdet.engine.hooks.base import Hook
from ppdet.engine.hooks.checkpointing import averaged_weights
from ppdet.engine.runs.run_notes import DataFacts, needs_training_ap, run_notes
from ppdet.engine.training.data_warnings import boxes_by_class, is_same_file
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
CURVES = "curves.png"
FEWEST_STEPS = 20  # a shorter run has no curves
MOST_TRAINING_IMAGES = 20  # on which a run is evaluated if AP is about 0


class RunSummaryHook(Hook):
    """Draws loss, learning rate and AP as `ppdet analyze` does, and logs what the evaluations say, on rank 0.

    If AP on EvalDataset is about 0, the final weights are evaluated on a few training images too, which tells whether
    nothing was learned, or nothing that holds for other images. This hook comes after CheckpointHook. Runs of fewer
    than FEWEST_STEPS steps have no picture.
    """

    def writes(self, trainer: "Trainer") -> list[str]:
        return [CURVES] if trainer.total_steps >= FEWEST_STEPS else []

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
            facts = self._facts(trainer, run.undetected)
            if needs_training_ap(run.evaluations):
                facts = facts._replace(on_training=training_ap(trainer, trainer.evaluator))
            for note in run_notes(run.evaluations, trainer.epochs, facts, trained=trainer.epoch):
                logger.info("%s", note)

    def _facts(self, trainer: "Trainer", undetected: list[str]) -> DataFacts:
        dataset = trainer.reader.dataset
        boxes = boxes_by_class(dataset)
        evaluated = getattr(trainer.evaluator, "dataset", None)
        return DataFacts(
            names=dataset.class_names,
            boxes=np.zeros(len(dataset.class_names), np.int64) if boxes is None else boxes,
            trained=len({record["im_file"] for record in dataset.records}),
            evaluated=len({record["im_file"] for record in evaluated.records}) if evaluated is not None else 0,
            undetected=undetected,
        )


def training_ap(trainer: "Trainer", evaluator: Evaluator) -> tuple[float, int] | None:
    """Evaluate the trainer's weights on some of its training images, on this rank alone.

    Returns:
        AP from 0 to 1 and the number of images; None if EvalDataset is the file that was trained on, or if none of the
        images has boxes or could be read.
    """
    dataset = trainer.reader.dataset
    if is_same_file(evaluator.dataset, dataset):
        return None
    by_id = {record["im_id"].item(): record for record in dataset.records if len(record.get("gt_bbox", ()))}
    some = copy.copy(dataset)
    some.records = list(by_id.values())[:: max(1, math.ceil(len(by_id) / MOST_TRAINING_IMAGES))]
    metric = COCOMetric(
        anno_path=None, category_ids=some.category_ids, class_names=some.class_names, records=some.records
    )
    logger.info("AP is about 0: evaluating some of the training images too")
    reader = build_reader(trainer.cfg, "EvalReader", some, share=False)
    with averaged_weights(trainer):
        detect_into(metric, trainer.model, reader, evaluator.precision)
    value = metric.compute()["AP"]
    return (value, len(metric.image_ids)) if value >= 0 else None
