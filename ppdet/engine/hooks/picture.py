"""Pictures of the first training batches, as the network gets them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import paddle

from ppdet.data.normalization import Normalization
from ppdet.data.transforms.normalize import NormalizeImage
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.utils.logger import get_logger
from ppdet.visualize import draw_batch

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)


class BatchPictureHook(Hook):
    """Draws the first batches after every start, with boxes and positive locations: train_batch.jpg, train_batch_2.jpg.

    They show mistakes in data and augmentation that a loss does not show.

    Args:
        batches: number of batches to draw, on rank 0.
    """

    def __init__(self, batches: int = 2) -> None:
        self.batches = batches
        self.drawn = 0

    def writes(self, trainer: "Trainer") -> list[str]:
        return [picture_name(number) for number in range(1, self.batches + 1)]

    def after_step(self, trainer: "Trainer") -> None:
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
    """Return the file name of the picture of batch `number`, counted from 1."""
    return "train_batch.jpg" if number == 1 else f"train_batch_{number}.jpg"


def draw(batch: dict[str, Any], path: Path, trainer: "Trainer") -> None:
    """Write the picture of a batch."""
    arrays = {name: value.numpy() for name, value in batch.items() if isinstance(value, paddle.Tensor)}
    names, model = trainer.reader.dataset.class_names, trainer.model
    draw_batch(
        arrays,
        path,
        locations=model.locations,
        class_names=names,
        **normalization(trainer.reader),
    )


def normalization(reader: Any) -> dict[str, Any]:
    """Return how a reader normalizes images, as keyword arguments of functions that draw them.

    They are mean and std of pixel values from 0 to 1, and whether the channels are BGR.
    """
    transforms = [*reader.sample_transforms, *reader.batch_transforms]
    normalize = next((t for t in transforms if isinstance(t, NormalizeImage)), None)
    numbers = normalize.normalization if normalize else Normalization((0.0,) * 3, (1.0,) * 3, is_bgr=False)
    mean, std = ([value / 255 for value in values] for values in (numbers.mean, numbers.std))
    return {"mean": mean, "std": std, "is_bgr": numbers.is_bgr}
