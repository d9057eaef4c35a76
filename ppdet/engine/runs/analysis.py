"""AP by epoch of finished runs side by side, and curves of loss, learning rate and AP.

The numbers come from a run's history.jsonl; or, where training did not evaluate, from evaluating its checkpoints here.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paddle import nn

from ppdet.core.config import Config, merge_config
from ppdet.core.show import show
from ppdet.engine.build import build_model
from ppdet.engine.checkpoints.class_names import classes_of_weights
from ppdet.engine.checkpoints.manifest import MANIFEST, WEIGHTS, beside, fingerprint, read_manifest, weights_file
from ppdet.engine.checkpoints.weights import load_weights
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks.history import END, EVALUATION, HISTORY, PSEUDO_LABELS, REPORT, is_evaluation, read_history
from ppdet.engine.runs.best_evaluation import best_evaluation
from ppdet.engine.runs.run_folder import LAST
from ppdet.utils.disk.files import atomic_path, is_count, read_json_lines
from ppdet.utils.errors import UserError
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import printable
from ppdet.visualize.text import matplotlib_fonts

logger = get_logger(__name__)
EVALUATIONS = "evaluations.jsonl"  # results of checkpoints that were evaluated after training
COLUMNS = ("AP", "AP50", "AP75")

Numbers = dict[str, float]  # by name, such as AP


class AnalysisError(UserError, ValueError):
    """A run without evaluations; the message names the folder, and what to do."""


class Run(NamedTuple):
    """The numbers of a run.

    Attributes:
        evaluations: COCO's twelve numbers by complete epochs.
        reports: lines of history.jsonl with losses and learning rate, see `HistoryHook`.
        pseudo_labels: the numbers that `PseudoLabelHook` measured, by complete epochs.
        end_reason: why the run ended before its last epoch, in words; empty where it did not.
        undetected: names of classes without a sure detection in the last evaluation, see `HistoryHook`.
    """

    name: str
    evaluations: dict[int, Numbers]
    reports: list[dict]
    pseudo_labels: dict[int, Numbers] = {}
    end_reason: str = ""
    undetected: list[str] = []


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read runs from their histories; runs without evaluations there use evaluations of their checkpoints.

    Raises:
        AnalysisError: a folder does not exist, or has neither.
    """
    return [read_run(folder, name) for folder, name in zip(folders, names_of(folders))]


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return the names of the folders, or their whole paths where two names are the same."""
    names = [printable(folder.resolve().name) for folder in folders]
    return names if len(set(names)) == len(names) else [printable(folder) for folder in folders]


def read_run(folder: Path, name: str) -> Run:
    """Read one run, see `read_runs`."""
    require_folder(folder)
    run, later = from_history(folder, name), read_evaluations(folder)
    if not run.evaluations:
        # Evaluations with other configurations than the last one do not belong into the same curve.
        same = [line for line in later if line["configuration"] == later[-1]["configuration"]]
        run = run._replace(evaluations={line["epoch"]: line["numbers"] for line in same})
    if not run.evaluations and not run.reports:
        raise AnalysisError(
            f"{folder}: no {HISTORY}, or nothing in it: is this the folder of a run? Evaluate checkpoints alone with "
            "--evaluate, and with -c FILE where there is no config.yml"
        )
    return run


def from_history(folder: Path, name: str) -> Run:
    """Read a run's evaluations from history.jsonl."""
    history = read_history(folder / HISTORY)
    evaluations = [line for line in history if line["event"] == EVALUATION]
    return Run(
        name,
        {line["epoch"]: line["numbers"] for line in evaluations},
        [line for line in history if line["event"] == REPORT],
        # A resumed run also measures in the middle of an epoch.
        {
            line["epoch"]: line["figures"]
            for line in history
            if line["event"] == PSEUDO_LABELS and line["step"] == line["steps_per_epoch"]
        },
        next((line["reason"] for line in history if line["event"] == END), ""),
        evaluations[-1].get("undetected", []) if evaluations else [],
    )


def require_folder(folder: Path) -> None:
    """Raise AnalysisError where a folder does not exist."""
    if not folder.is_dir():
        raise AnalysisError(f"{folder}: no such folder: expected the folder of a run, such as output/NAME")


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """Read the intact lines of evaluations.jsonl."""
    keys = ("epoch", "weights", "sha256", "configuration", "numbers")
    return [
        {key: line[key] for key in keys}
        for line in read_json_lines(folder / EVALUATIONS)
        if is_count(line.get("epoch"))
        and all(isinstance(line.get(key), str) for key in keys[1:4])
        and is_evaluation(line.get("numbers"))
    ]


def evaluate_checkpoints(configs: Sequence[Config], folders: Sequence[Path]) -> list[Run]:
    """Evaluate all checkpoints of each folder with the configuration at the same index.

    Results are added to evaluations.jsonl in each folder. A checkpoint that has a result there, with the same content
    and configuration, is not evaluated again.

    Raises:
        AnalysisError: a folder does not exist, or has no checkpoints.
    """
    weights = [weights_by_epoch(folder, cfg["epoch"] or 0) for cfg, folder in zip(configs, folders)]
    return [
        from_history(folder, name)._replace(evaluations=evaluate_folder(cfg, by_epoch))
        for cfg, folder, by_epoch, name in zip(configs, folders, weights, names_of(folders))
    ]


def evaluate_folder(cfg: Config, by_epoch: dict[int, Path]) -> dict[int, Numbers]:
    """Evaluate weights by complete epochs."""
    digest = configuration_digest(cfg)
    newest = str(list(by_epoch.values())[-1])
    model, evaluator = build_model(cfg), Evaluator(merge_config(cfg, {"weights": newest}))
    return {epoch: evaluate_once(path, epoch, digest, model, evaluator) for epoch, path in by_epoch.items()}


def weights_by_epoch(folder: Path, epochs: int) -> dict[int, Path]:
    """Return the weights of a folder's checkpoints by complete epochs, in order: <epoch> and model_final.

    Args:
        epochs: number of the whole run's epochs, if model_final has no manifest, as with other code bases.

    Raises:
        AnalysisError: there are none.
    """
    require_folder(folder)
    files = [path for suffix in WEIGHTS.values() for path in folder.glob(f"*{suffix}")]
    found = {int(path.stem) + 1: path for path in files if path.stem.isdecimal()}
    final = weights_file(folder / LAST)
    if final:
        manifest = read_manifest(beside(folder / LAST, MANIFEST))
        found[manifest.state.epoch if manifest else max([epochs, *(epoch + 1 for epoch in found)])] = final
    if not found:
        raise AnalysisError(f"{folder}: no checkpoints, neither <epoch>.pdparams nor {LAST}.pdparams (.safetensors)")
    return dict(sorted(found.items()))


def configuration_digest(cfg: Config) -> str:
    """Return a hash of all values of a configuration except the run's name, wherever the values come from."""
    lines = (line.split("#")[0].rstrip() for line in show(cfg).splitlines() if not line.startswith("run_name:"))
    values = "\n".join(lines)
    return hashlib.sha256(values.encode()).hexdigest()


def evaluate_once(path: Path, epoch: int, digest: str, model: nn.Layer, evaluator: Evaluator) -> Numbers:
    """Return the numbers of a checkpoint from evaluations.jsonl, or evaluate it and add them there.

    Args:
        path: the weights file.
        epoch: complete epochs.
        digest: `configuration_digest`.
        model: gets the weights.
    """
    content = fingerprint(path)["sha256"]
    known = read_evaluations(path.parent)
    for line in known:
        if (line["weights"], line["sha256"], line["configuration"]) == (path.name, content, digest):
            logger.info("%s: evaluated before, see %s", path, path.parent / EVALUATIONS)
            return line["numbers"]
    logger.info("%s: evaluation after epoch %d", path, epoch)
    load_weights(model, str(path), strict=True)
    model.trained_classes = classes_of_weights(path)
    numbers = {name: float(value) for name, value in (evaluator(model) or {}).items()}
    line = {"epoch": epoch, "weights": path.name, "sha256": content, "configuration": digest, "numbers": numbers}
    # The whole file is written again: appended to a line that was cut, this line would be lost.
    with atomic_path(path.parent / EVALUATIONS) as temporary:
        temporary.write_text("".join(json.dumps(each) + "\n" for each in [*known, line]), encoding="utf-8")
    return numbers


def table(runs: Sequence[Run]) -> str:
    """Return a table for people: AP, AP50 and AP75 by epoch, each run's best epoch, and the pseudo-labels' numbers."""
    width = 8 * len(COLUMNS)
    names = [run.name if len(run.name) < width else "…" + run.name[2 - width :] for run in runs]
    rows = [
        "epoch" + "".join(f" |{name:>{width}}" for name in names),
        " " * 5 + "".join(" |" + "".join(f"{column:>8}" for column in COLUMNS) for _ in runs),
    ]
    rows.append("-" * len(rows[0]))
    for epoch in sorted({epoch for run in runs for epoch in run.evaluations}):
        rows.append(f"{epoch:5d}" + "".join(" |" + cells(run.evaluations.get(epoch)) for run in runs))
    for run in runs:
        best = best_epoch(run)
        if best is None:
            rows.append(f"{run.name}: no evaluations: train with --eval, or add --evaluate")
        else:
            rows.append(f"{run.name}: best AP {run.evaluations[best]['AP']:.3f} after epoch {best}")
        if run.end_reason:
            rows.append(printable(f"{run.name}: ended early: {run.end_reason}"))
    return "\n".join([*rows, *(row for run in runs if run.pseudo_labels for row in pseudo_label_rows(run))])


def pseudo_label_rows(run: Run) -> list[str]:
    """Return the table of the quality of a run's pseudo-labels by epoch, as lines of text."""
    names = list(dict.fromkeys(name for figures in run.pseudo_labels.values() for name in figures))
    rows = ["", f"pseudo-labels of {run.name}:", "epoch" + "".join(f"{printable(name):>12}" for name in names)]
    for epoch, figures in sorted(run.pseudo_labels.items()):
        values = [figures.get(name) for name in names]
        rows.append(f"{epoch:5d}" + "".join(f"{'-':>12}" if value is None else f"{value:12.3f}" for value in values))
    return rows


def cells(numbers: Numbers | None) -> str:
    """Return the columns of one run in one row; "-" where a number is not known."""
    values = [(numbers or {}).get(name) for name in COLUMNS]
    return "".join(f"{'-':>8}" if value is None else f"{value:8.3f}" for value in values)


def best_epoch(run: Run) -> int | None:
    """Return the epoch with the highest AP, as `best_evaluation` chooses it; None without evaluations."""
    epochs = sorted(run.evaluations)
    best = best_evaluation([run.evaluations[epoch]["AP"] for epoch in epochs])
    return None if best is None else epochs[best]


@matplotlib_fonts()
def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Draw loss, learning rate and AP over epochs into one PNG file, with one color per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    loss, rate, ap = figure.subplots(1, 3)
    for run in runs:
        label = run.name.replace("$", r"\$")  # Matplotlib typesets what is between two dollar signs
        epochs = [line["iteration"] / line["steps_per_epoch"] for line in run.reports]
        losses = [line["losses"].get("loss") for line in run.reports]
        loss.plot(epochs, [float("nan") if value is None else value for value in losses], label=label)
        rate.plot(epochs, [line["learning_rate"] for line in run.reports], label=label)
        evaluated = sorted(run.evaluations)
        ap.plot(evaluated, [run.evaluations[epoch]["AP"] for epoch in evaluated], marker="o", label=label)
    for axes, title in ((loss, "loss"), (rate, "learning rate"), (ap, "AP")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
