"""Pictures of what the network is fed."""

from pathlib import Path

import paddle

from ppdet.data.normalization import Normalization
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger
from ppdet.visualize import draw_batch

logger = get_logger(__name__)


class BatchPictureHook(Hook):
    """Pictures of the first batches of every start, with their boxes and positive locations.

    Look at them before you trust a loss: train_batch.jpg, train_batch_2.jpg, …

    Args:
        batches: to draw, on rank 0.
    """

    def __init__(self, batches: int = 2) -> None:
        self.batches = batches
        self.drawn = 0

    def writes(self, trainer: object) -> list[str]:
        return [picture_name(number) for number in range(1, self.batches + 1)]

    def after_step(self, trainer: object) -> None:
        if collectives.rank() != 0:
            return
        for batch in trainer.batches[: self.batches - self.drawn]:
            self.drawn += 1
            path = trainer.output / picture_name(self.drawn)
            try:
                draw(batch, path, trainer)
            except OSError as error:
                logger.error("%s could not be written: %s", path, error)
            else:
                logger.info("picture of a training batch: %s", path)


def picture_name(number: int) -> str:
    return "train_batch.jpg" if number == 1 else f"train_batch_{number}.jpg"


def draw(batch: dict, path: Path, trainer: object) -> None:
    """Write the picture of a batch as the trainer's model gets it."""
    arrays = {name: value.numpy() for name, value in batch.items() if isinstance(value, paddle.Tensor)}
    names, model = trainer.reader.dataset.class_names, trainer.model
    draw_batch(
        arrays,
        path,
        locations=model.locations,
        class_names=names,
        **normalization(trainer.reader),
    )


def normalization(reader: object) -> dict[str, object]:
    """How a reader's images were normalised, as functions that draw them take it: mean and std, of pixel values in
    0..1, and whether the channels are BGR."""
    transforms = [*reader.sample_transforms, *reader.batch_transforms]
    normalize = next((t for t in transforms if isinstance(t, NormalizeImage)), None)
    numbers = normalize.normalization if normalize else Normalization((0.0,) * 3, (1.0,) * 3, is_bgr=False)
    mean, std = ([value / 255 for value in values] for values in (numbers.mean, numbers.std))
    return {"mean": mean, "std": std, "is_bgr": numbers.is_bgr}
