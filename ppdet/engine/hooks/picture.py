"""A picture of what the network is fed."""

import paddle

from ppdet.data.transform.color import NormalizeImage
from ppdet.engine import distributed
from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger
from ppdet.visualize import draw_batch

logger = get_logger(__name__)


class BatchPictureHook(Hook):
    """A picture of the first batch, with its boxes and positive locations: look at it before you trust a loss."""

    def after_step(self, trainer: object) -> None:
        if trainer.step or trainer.epoch or distributed.rank() != 0:
            return
        path = trainer.output / "train_batch.jpg"
        batch = {k: v.numpy() for k, v in trainer.batches[0].items() if isinstance(v, paddle.Tensor)}
        mean, std = normalization(trainer.reader)
        names = trainer.reader.dataset.class_names
        model = trainer.model
        draw_batch(batch, path, mean, std, model.strides, num_shift=model.num_shift, class_names=names)
        logger.info("picture of the first batch: %s", path)


def normalization(reader: object) -> tuple[list[float], list[float]]:
    """Mean and standard deviation, of pixel values in 0..1, that a reader's images were normalised with."""
    transforms = [*reader.sample_transforms, *reader.batch_transforms]
    normalize = next((t for t in transforms if isinstance(t, NormalizeImage)), None)
    mean, std = normalize.pixel_mean_std() if normalize else ([0.0] * 3, [1.0] * 3)
    return [m / 255 for m in mean], [s / 255 for s in std]
