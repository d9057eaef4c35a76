"""The history of a run in figures: history.jsonl in its folder, one JSON object per line."""

import datetime
import json
import math
from pathlib import Path

from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.utils.disk.files import atomic_path, is_count, is_number, read_json_lines
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)
HISTORY = "history.jsonl"
REPORT, EVALUATION, PSEUDO_LABELS = "report", "evaluation", "pseudo_labels"
EVENTS = (REPORT, EVALUATION, PSEUDO_LABELS)


class HistoryHook(Hook):
    """Writes down every report, every evaluation and every look at pseudo-labels.

    The newest history of a folder is that of one unbroken run. A run that resumes after k steps drops what was written
    of later steps; one that starts anew renames the history that it finds. Where lines cannot be written (a full disk),
    they are lost, and the log says so once.

    A line has event (one of EVENTS), time (local, ISO 8601), iteration (steps done), steps_per_epoch, epoch (that of
    the steps, from 1; 0 before the first step) and step (done of that epoch); then what `after_report` of hooks names,
    the twelve numbers as `numbers`, or those of PseudoLabelHook as `figures`. What is not a finite number is null.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.failed = False

    def writes(self, trainer: object) -> list[str]:
        return [HISTORY]

    def before_train(self, trainer: object) -> None:
        if collectives.rank() != 0:
            return
        path = self.path = trainer.output / HISTORY
        source = trainer.resumed_from and trainer.resumed_from.parent / HISTORY
        try:
            earlier = read_history(source) if source else []
            if path.exists() and not (source and source.resolve() == path.resolve()):
                set_aside(path)
            lines = [json.dumps(line) + "\n" for line in earlier if belongs(line, trainer)]
            with atomic_path(path) as temporary:
                temporary.write_text("".join(lines), encoding="utf-8")
        except OSError as error:
            logger.error("%s could not be begun: %s", path, error)

    def after_report(self, trainer: object, report: dict) -> None:
        self.write(trainer, REPORT, report)

    def after_evaluation(self, trainer: object, numbers: dict[str, float]) -> None:
        self.write(trainer, EVALUATION, {"numbers": numbers})

    def after_pseudo_labels(self, trainer: object, figures: dict[str, float], picture: object) -> None:
        self.write(trainer, PSEUDO_LABELS, {"figures": figures})

    def write(self, trainer: object, event: str, figures: dict) -> None:
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
                # A line that failed may have left its beginning.
                stream.write("\n" * self.failed + json.dumps(finite(line)) + "\n")
        except OSError as error:
            if not self.failed:
                logger.error("%s could not be written: %s; training goes on without these lines", self.path, error)
            self.failed = True
        else:
            self.failed = False


def read_history(path: Path) -> list[dict]:
    """The lines of a history, in order, without those that a kill or a full disk cut; none where there is no file."""
    return [line for line in read_json_lines(path) if is_line(line)]


def is_line(line: dict) -> bool:
    """Whether HistoryHook may have written a line."""
    counts = ("iteration", "steps_per_epoch", "epoch", "step")
    if not all(is_count(line.get(name)) for name in counts) or not line["steps_per_epoch"]:
        return False
    event = line.get("event")
    if event == REPORT:
        names = ("learning_rate", "seconds_per_step", "images_per_second", "data_share")
        return has_figures(line, *names) and all(has_figures(line.get(name)) for name in ("losses", "max_mem_mib"))
    if event == EVALUATION:
        return is_evaluation(line.get("numbers"))
    return event == PSEUDO_LABELS and has_figures(line.get("figures"))


def is_evaluation(numbers: object) -> bool:
    """Whether something has figures of an evaluation."""
    return has_figures(numbers) and is_number(numbers.get("AP"))


def has_figures(values: object, *names: str) -> bool:
    """Whether a mapping has these names, and numbers or null for them; without names, for all that it has."""
    if not isinstance(values, dict) or not values.keys() >= set(names):
        return False
    return all(values[name] is None or is_number(values[name]) for name in names or values)


def belongs(line: dict, trainer: object) -> bool:
    """Whether a line is of the steps that the resumed run has behind it, which may have had another batch size."""
    ahead = line["iteration"] * trainer.steps_per_epoch - trainer.iteration * line["steps_per_epoch"]
    # A run that resumes looks at its pseudo-labels before it goes on.
    will_come_again = line["event"] == PSEUDO_LABELS or (line["event"] == EVALUATION and not trainer.evaluated)
    return ahead < 0 or (ahead == 0 and not will_come_again)


def set_aside(path: Path) -> None:
    """Rename history.jsonl to the first of history_1.jsonl, history_2.jsonl, … that is free."""
    number = 1
    while (target := path.with_name(f"{path.stem}_{number}{path.suffix}")).exists():
        number += 1
    path.rename(target)
    logger.info("the history of an earlier run is now %s", target)


def finite(value: object) -> object:
    """The same with null for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
