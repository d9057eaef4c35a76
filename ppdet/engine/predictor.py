"""Detection on images that have no labels."""

from collections.abc import Iterator, Sequence

import numpy as np
import paddle
from paddle import nn

from ppdet.core.config import Config
from ppdet.deploy.slicing import Slicing, WindowMerger
from ppdet.engine.build import build_dataset, build_reader, build_trained_model
from ppdet.engine.checkpoints.class_names import use_classes_of_weights
from ppdet.engine.evaluator import rows_by_image
from ppdet.engine.training.precision import Precision


class Predictor:
    """Runs a trained model on image files, with TestReader's transforms.

    `dataset` has the names of the classes and their category ids: those of TestDataset, in the order of the weights
    where these remember one.

    Raises:
        ConfigError, CheckpointError: the configuration names no weights, or they do not fit.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.dataset = build_dataset(cfg, "TestDataset")
        self.precision = Precision(cfg, "eval_amp")
        self.model: nn.Layer = build_trained_model(cfg)
        use_classes_of_weights(self.dataset, "TestDataset", self.model.trained_classes)

    @paddle.no_grad()
    def detect(self, paths: Sequence[str], slicing: Slicing | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Detect on image files, in windows of them with `slicing`; an unreadable one is skipped with a line of log.

        Yields:
            Position in `paths`, and rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels.
        """
        self.dataset.set_images(paths)
        reader = build_reader(self.cfg, "TestReader", self.dataset, share=False)
        merger = None
        if slicing:
            reader.read_windows(slicing.windows)
            merger = WindowMerger(slicing)
        for batch in reader:
            with self.precision.forward():
                found = self.model(batch)
            yield from rows_by_image(*found, batch, merger)
