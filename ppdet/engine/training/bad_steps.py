"""Records of training steps whose update was skipped: `bad_steps.jsonl` and a warning."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle import Tensor

from ppdet.data.loading.semi_reader import SemiTrainReader
from ppdet.engine.distributed import collectives
from ppdet.engine.training.losses import scalars
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
BAD_STEPS = "bad_steps.jsonl"
NAMED_IMAGES = 16  # largest number of images that a warning names


def step_record(trainer: "Trainer") -> Callable[[], dict[str, Any]]:
    """Return a function that describes the step just computed on this rank: its place, images, shapes and losses.

    The values are read from the device only when that function is called.
    """
    place = {"epoch": trainer.epoch, "step": trainer.step, "iteration": trainer.iteration}
    shapes = [tuple(batch["image"].shape) for batch in trainer.batches]
    losses, reader = scalars(trainer.losses), trainer.reader
    unlabeled_files = reader.unlabeled.files if isinstance(reader, SemiTrainReader) else {}
    ids = [batch["im_id"] for batch in trainer.batches]
    unlabeled_ids = [batch["unlabeled"]["im_id"] for batch in trainer.batches if "unlabeled" in batch]

    def record() -> dict[str, Any]:
        unlabeled = {"unlabeled": _images(unlabeled_ids, unlabeled_files)} if unlabeled_ids else {}
        return {
            **place,
            "images": _images(ids, reader.files),
            **unlabeled,
            "batch_shapes": shapes,
            "losses": {name: _for_json(float(value)) for name, value in losses.items()},
        }

    return record


def _images(ids: Sequence[Tensor], files: dict[int, str]) -> list[dict[str, Any]]:
    """Id and file of the images of some batches; each image once, even if a batch has several views of it."""
    numbers = dict.fromkeys(int(number) for batch in ids for number in batch.flatten().tolist())
    return [{"id": number, "file": files.get(number)} for number in numbers]


def _for_json(value: float) -> float | str:
    """A number, or "nan", "inf" or "-inf", which JSON does not have as numbers."""
    return value if math.isfinite(value) else str(value)


def gather_records(record: dict[str, Any]) -> dict[str, Any]:
    """Return one description of a step from the records of all ranks, which have to call this together."""
    records = collectives.gather(record)
    place = {key: record[key] for key in ("epoch", "step", "iteration")}
    return {**place, "ranks": [{key: value for key, value in one.items() if key not in place} for one in records]}


def losses_of(step: dict[str, Any]) -> list[float]:
    """All losses of all ranks in a description that `gather_records` returned."""
    return [float(loss) for rank in step["ranks"] for loss in rank["losses"].values()]


def append_bad_step(path: Path | None, step: dict[str, Any]) -> None:
    """On rank 0, append the description of a step to the file; None writes nothing."""
    if collectives.rank() != 0 or path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(step) + "\n")
    except OSError as error:
        logger.error("%s could not be written: %s; training continues without this line", path, error)


def warn_of_bad_step(step: dict[str, Any], path: Path | None) -> None:
    """On rank 0, name the images of the ranks that had a loss that is not finite; of all ranks if there was none."""
    if collectives.rank() != 0:
        return
    ranks = step["ranks"]
    suspects = [r for r in ranks if not all(math.isfinite(float(v)) for v in r["losses"].values())] or ranks
    images = [str(image["id"]) for rank in suspects for image in rank["images"]]
    images += [f"unlabeled {image['id']}" for rank in suspects for image in rank.get("unlabeled", ())]
    logger.warning(
        "step %d of epoch %d skipped: a gradient or a running statistic is infinite or not a number; images %s%s%s",
        step["step"] + 1,
        step["epoch"] + 1,
        ", ".join(images[:NAMED_IMAGES]),
        ", …" if len(images) > NAMED_IMAGES else "",
        f", see {path}" if path else "",
    )
