"""Detection on images that have no labels."""

from collections.abc import Iterator, Sequence

import numpy as np
import paddle
from paddle import nn

from ppdet.core.config import Config
from ppdet.engine.build import build_dataset, build_reader, build_trained_model


class Predictor:
    """Runs a trained model on image files, with TestReader's transforms and TestDataset's class names.

    Raises:
        ConfigError, CheckpointError: the configuration names no weights, or they do not fit.
    """

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.dataset = build_dataset(cfg, "TestDataset")
        self.model: nn.Layer = build_trained_model(cfg)

    @paddle.no_grad()
    def detect(self, paths: Sequence[str]) -> Iterator[tuple[int, np.ndarray]]:
        """Detect on image files; one that cannot be read is skipped with a line of log.

        Yields:
            Position in `paths`, and rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels.
        """
        self.dataset.set_images(paths)
        reader = build_reader(self.cfg, "TestReader", self.dataset, share=False)
        for batch in reader:
            rows, rows_per_image = self.model(batch)
            ends = np.cumsum(rows_per_image.numpy())
            yield from zip(batch["im_id"].numpy().tolist(), np.split(rows.numpy(), ends[:-1]))
