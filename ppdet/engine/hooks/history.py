"""The figures of a run over time: history.jsonl in its folder, one JSON object per line."""

import datetime
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook, Report
from ppdet.engine.runs.run_notes import SURE
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.disk.files import atomic_path, is_count, is_number, read_json_lines
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
HISTORY = "history.jsonl"
REPORT, EVALUATION, PSEUDO_LABELS, END = "report", "evaluation", "pseudo_labels", "end"


class HistoryHook(Hook):
    """Appends a line for every report, evaluation and figures of pseudo-labels.

    The file is the history of one run without gaps or repetitions: a run that resumes after k steps drops lines of
    later steps, and a run that starts anew renames the history that it finds. Lines that cannot be written (a full
    disk) are lost, and the log says so once.

    A line has event ("report", "evaluation", "pseudo_labels" or "end"), time (local, ISO 8601), iteration (finished
    steps), steps_per_epoch, epoch (of the last step, from 1; 0 before the first) and step (finished steps of that
    epoch). A report adds the fields of `Report`, an evaluation `numbers` (COCO's and those of eval_metrics) and
    `undetected` (names of classes without a sure detection, for the notes at the end of the run), pseudo-labels
    `figures`, and the end of a run that ends before its last epoch the `reason` in words. Infinite numbers and NaN
    become null.
    """

    def __init__(self) -> None:
        self.path: Path | None = None  # of history.jsonl
        self.failed = False  # whether the last line could not be written

    def writes(self, trainer: "Trainer") -> list[str]:
        return [HISTORY]

    def before_train(self, trainer: "Trainer") -> None:
        if collectives.rank() != 0:
            return
        path = self.path = trainer.output / HISTORY
        source = trainer.resumed_from.parent / HISTORY if trainer.resumed_from else None
        try:
            earlier = read_history(source) if source else []
            if path.exists() and not (source and source.resolve() == path.resolve()):
                _rename_earlier(path)
            lines = [json.dumps(line) + "\n" for line in earlier if _belongs(line, trainer)]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            logger.error("%s could not be begun: %s", path, error)

    def after_report(self, trainer: "Trainer", report: Report) -> None:
        self._append(trainer, REPORT, dict(report))

    def after_evaluation(self, trainer: "Trainer", numbers: dict[str, float]) -> None:
        metric = getattr(trainer.evaluator, "metric", None)
        more = {} if metric is None else {"undetected": undetected(metric)}
        self._append(trainer, EVALUATION, {"numbers": numbers, **more})

    def after_pseudo_labels(self, trainer: "Trainer", figures: dict[str, float], picture: np.ndarray) -> None:
        self._append(trainer, PSEUDO_LABELS, {"figures": figures})

    def after_train(self, trainer: "Trainer") -> None:
        if trainer.end_reason:
            self._append(trainer, END, {"reason": trainer.end_reason})

    def _append(self, trainer: "Trainer", event: str, figures: dict[str, Any]) -> None:
        if collectives.rank() != 0:
            return
        self.path = self.path or trainer.output / HISTORY
        epochs_before, steps = divmod(trainer.iteration - 1, trainer.steps_per_epoch)
        line = {
            "event": event,
            "time": datetime.datetime.now().isoformat(timespec="seconds"),
            "iteration": trainer.iteration,
            "steps_per_epoch": trainer.steps_per_epoch,
            "epoch": epochs_before + 1,
            "step": steps + 1,
            **figures,
        }
        try:
            with open(self.path, "a", encoding="utf-8") as stream:
                # A line that failed may have left its beginning, so the next one starts on a new line.
                stream.write("\n" * self.failed + json.dumps(finite(line)) + "\n")
        except OSError as error:
            if not self.failed:
                logger.error("%s could not be written: %s; training continues without these lines", self.path, error)
            self.failed = True
        else:
            self.failed = False


def undetected(metric: COCOMetric) -> list[str]:
    """Return the names of the classes without a detection with a score of at least SURE."""
    sure = metric.detections["score"] >= SURE
    found = set(metric.detections["category_id"][sure].tolist())
    return [name for category, name in zip(metric.category_ids, metric.class_names) if category not in found]


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a history in order, without damaged ones; an empty list if there is no file."""
    return [line for line in read_json_lines(path) if is_line(line)]


def is_line(line: dict[str, Any]) -> bool:
    """Whether a JSON object has the fields of a line of history.jsonl, with values of the right types."""
    counts = ("iteration", "steps_per_epoch", "epoch", "step")
    if not all(is_count(line.get(name)) for name in counts) or not line["steps_per_epoch"]:
        return False
    event = line.get("event")
    if event == REPORT:
        names = ("learning_rate", "seconds_per_step", "images_per_second", "data_share")
        return has_figures(line, *names) and all(has_figures(line.get(name)) for name in ("losses", "max_mem_mib"))
    if event == EVALUATION:
        names = line.get("undetected", [])
        return is_evaluation(line.get("numbers")) and isinstance(names, list) and all(isinstance(n, str) for n in names)
    if event == END:
        return isinstance(line.get("reason"), str)
    return event == PSEUDO_LABELS and has_figures(line.get("figures"))


def is_evaluation(numbers: Any) -> bool:
    """Whether a value is a mapping from names to numbers or null, and has a number for AP."""
    return has_figures(numbers) and is_number(numbers.get("AP"))


def has_figures(values: Any, *names: str) -> bool:
    """Whether a value is a mapping whose entries `names` (by default, all) exist and are numbers or null."""
    if not isinstance(values, dict) or not values.keys() >= set(names):
        return False
    return all(values[name] is None or is_number(values[name]) for name in names or values)


def _belongs(line: dict[str, Any], trainer: "Trainer") -> bool:
    """Whether a line is about steps before the point of resuming, also if these had another batch size."""
    ahead = line["iteration"] * trainer.steps_per_epoch - trainer.iteration * line["steps_per_epoch"]
    # At the point of resuming, pseudo-labels are looked at again, and so is an evaluation that was not finished.
    # Whether the run ends there is decided again.
    will_come_again = line["event"] in (PSEUDO_LABELS, END) or (line["event"] == EVALUATION and not trainer.evaluated)
    return ahead < 0 or (ahead == 0 and not will_come_again)


def _rename_earlier(path: Path) -> None:
    """Rename history.jsonl to history_1.jsonl, or history_2.jsonl, … if that exists."""
    number = 1
    while (target := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    path.rename(target)
    logger.info("the history of an earlier run is now %s", target)


def finite(value: Any) -> Any:
    """Return the value with null in place of NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
