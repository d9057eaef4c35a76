"""Detecting objects in image files with a trained model, without exporting it."""

from collections.abc import Iterator, Sequence
from typing import cast

import numpy as np
import paddle

from ppdet.core.config import Config
from ppdet.data.sources import ImageFolder
from ppdet.deploy.slicing import Slicing
from ppdet.deploy.tta import TTA
from ppdet.engine.build import build_dataset, build_reader, build_trained_model
from ppdet.engine.checkpoints.class_names import use_classes_of_weights
from ppdet.engine.evaluator import merger_of, read_parts, rows_by_image
from ppdet.engine.training.precision import Precision


class Predictor:
    """Runs a trained model on image files, with the transforms of TestReader.

    In Python:

        cfg = ppdet.load_config("output/NAME/config.yml", {"weights": "output/NAME/best_model"})
        predictor = ppdet.Predictor(cfg)
        for index, rows in predictor.detect(["a.jpg", "b.jpg"]):
            for label, score, x1, y1, x2, y2 in rows:
                print(index, predictor.dataset.class_names[int(label)], score)

    Args:
        cfg: the configuration, with `weights`, TestDataset (an ImageFolder) and TestReader.
        tta: detect in several views of each image (test-time augmentation); None takes images as they are.

    Attributes:
        dataset: has class_names and category_ids in the order of the model's classes.
        model: the `DenseDetector`, in evaluation mode.

    Raises:
        ConfigError: `weights` is not set.
        CheckpointError: the weights do not fit the model.
    """

    def __init__(self, cfg: Config, *, tta: TTA | None = None) -> None:
        self.cfg = cfg
        self.tta = tta
        self.dataset = cast("ImageFolder", build_dataset(cfg, "TestDataset"))
        self.precision = Precision(cfg, "eval_amp")
        self.model = build_trained_model(cfg)
        use_classes_of_weights(self.dataset, "TestDataset", self.model.trained_classes)

    @paddle.no_grad()
    def detect(self, paths: Sequence[str], slicing: Slicing | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Detect objects in image files. A file that cannot be read is skipped, and logged.

        Args:
            slicing: detect in windows of the images; None takes whole images.

        Yields:
            The position in `paths`, and rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels of the image.
        """
        self.dataset.set_images(paths)
        reader = build_reader(self.cfg, "TestReader", self.dataset, share=False)
        read_parts(reader, slicing, self.tta)
        merger = merger_of(self.model, slicing, self.tta)
        for batch in reader:
            with self.precision.forward():
                rows, rows_per_image = self.model(batch)
            yield from rows_by_image(rows, rows_per_image, batch, merger)
