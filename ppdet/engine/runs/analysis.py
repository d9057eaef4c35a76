"""What came of training runs: AP by epoch, side by side, and curves; from histories or from checkpoints."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ppdet.core.config import Config, merge_config
from ppdet.core.show import show
from ppdet.engine.build import build_model
from ppdet.engine.checkpoints.class_names import remembered
from ppdet.engine.checkpoints.manifest import MANIFEST, WEIGHTS, beside, describe, read_manifest
from ppdet.engine.checkpoints.weights import load_weights
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.hooks.checkpointing import LAST
from ppdet.engine.hooks.history import EVALUATION, HISTORY, PSEUDO_LABELS, REPORT, is_evaluation, read_history
from ppdet.utils.disk.files import atomic_path, is_count, read_json_lines
from ppdet.utils.errors import UserError
from ppdet.utils.logger import get_logger
from ppdet.visualize.text import matplotlib_fonts

logger = get_logger(__name__)
EVALUATIONS = "evaluations.jsonl"
COLUMNS = ("AP", "AP50", "AP75")


class AnalysisError(UserError, ValueError):
    """Nothing to analyse; the message says where, and what to do."""


class Run(NamedTuple):
    """A run to show.

    evaluations: {epoch: COCO's twelve numbers}. reports: the lines of its history that `LogHook` wrote.
    pseudo_labels: {epochs done: figures of `PseudoLabelHook`}.
    """

    name: str
    evaluations: dict[int, dict[str, float]]
    reports: list[dict]
    pseudo_labels: dict[int, dict[str, float]] = {}


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Runs from their histories; evaluations, where there are none, are those made of the checkpoints.

    Raises:
        AnalysisError: a folder is missing, or has neither.
    """
    return [read_run(folder, name) for folder, name in zip(folders, names_of(folders))]


def names_of(folders: Sequence[Path]) -> list[str]:
    """Names of the folders, or their paths where names are not enough to tell them apart."""
    names = [folder.resolve().name for folder in folders]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def read_run(folder: Path, name: str) -> Run:
    check_folder(folder)
    history, made_later = read_history(folder / HISTORY), read_evaluations(folder)
    evaluations = {line["epoch"]: line["numbers"] for line in history if line["event"] == EVALUATION}
    run = Run(
        name=name,
        evaluations=evaluations
        or {
            line["epoch"]: line["numbers"]
            for line in made_later
            # Numbers of several configurations do not belong into one curve.
            if line["configuration"] == made_later[-1]["configuration"]
        },
        reports=[line for line in history if line["event"] == REPORT],
        pseudo_labels=pseudo_labels(history),
    )
    if not run.evaluations and not run.reports:
        raise AnalysisError(
            f"{folder}: no {HISTORY} with anything in it: is it a run's folder? Checkpoints alone are evaluated with "
            "--evaluate, and -c FILE where there is no config.yml"
        )
    return run


def pseudo_labels(history: Sequence[dict]) -> dict[int, dict[str, float]]:
    """{epochs done: figures}, without those that a resumed run has in the middle of an epoch."""
    looks = [line for line in history if line["event"] == PSEUDO_LABELS]
    return {line["epoch"]: line["figures"] for line in looks if line["step"] == line["steps_per_epoch"]}


def check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise AnalysisError(f"{folder}: no such folder: expected that of a run, such as output/NAME")


def read_evaluations(folder: Path) -> list[dict]:
    """Lines of evaluations.jsonl; a cut one is left out."""
    keys = ("epoch", "weights", "sha256", "configuration", "numbers")
    return [
        {key: line[key] for key in keys}
        for line in read_json_lines(folder / EVALUATIONS)
        if is_count(line.get("epoch"))
        and all(isinstance(line.get(key), str) for key in keys[1:4])
        and is_evaluation(line.get("numbers"))
    ]


def evaluate_checkpoints(configs: Sequence[Config], folders: Sequence[Path]) -> list[Run]:
    """Evaluate every checkpoint of each folder as its configuration says.

    Results are added to evaluations.jsonl in each folder; a checkpoint that has one there, with the same content and
    configuration, is not evaluated again.

    Raises:
        AnalysisError: a folder is missing, or has no checkpoints.
    """
    found = [checkpoints(folder, cfg["epoch"] or 0) for cfg, folder in zip(configs, folders)]
    return [
        Run(
            name,
            evaluate_folder(cfg, weights),
            [line for line in read_history(folder / HISTORY) if line["event"] == REPORT],
            pseudo_labels(read_history(folder / HISTORY)),
        )
        for cfg, folder, weights, name in zip(configs, folders, found, names_of(folders))
    ]


def evaluate_folder(cfg: Config, found: dict[int, Path]) -> dict[int, dict[str, float]]:
    """COCO's numbers of checkpoints by epochs done."""
    digest = configuration_digest(cfg)
    newest = str(list(found.values())[-1])
    model, evaluator = build_model(cfg), Evaluator(merge_config(cfg, {"weights": newest}))
    return {epoch: evaluate_once(path, epoch, digest, model, evaluator) for epoch, path in found.items()}


def checkpoints(folder: Path, epochs: int) -> dict[int, Path]:
    """{epochs done: weights} of <epoch>.pdparams (or .safetensors) and model_final, in order.

    Args:
        epochs: of the whole run, for a model_final that does not say.

    Raises:
        AnalysisError: there are none.
    """
    check_folder(folder)
    files = [path for suffix in WEIGHTS.values() for path in folder.glob(f"*{suffix}")]
    found = {int(path.stem) + 1: path for path in files if path.stem.isdecimal()}
    final = next((path for path in files if path.stem == LAST), None)
    if final:
        manifest = read_manifest(beside(folder / LAST, MANIFEST))
        done = manifest["state"]["epoch"] if manifest else max([epochs, *(epoch + 1 for epoch in found)])
        found[done] = final
    if not found:
        raise AnalysisError(
            f"{folder}: no checkpoints there, neither <epoch>.pdparams nor {LAST}.pdparams (.safetensors)"
        )
    return dict(sorted(found.items()))


def configuration_digest(cfg: Config) -> str:
    """The same for configurations with the same values, wherever these come from, and whatever the run is called."""
    lines = (line.split("#")[0].rstrip() for line in show(cfg).splitlines() if not line.startswith("run_name:"))
    values = "\n".join(lines)
    return hashlib.sha256(values.encode()).hexdigest()


def evaluate_once(path: Path, epoch: int, digest: str, model: object, evaluator: Evaluator) -> dict[str, float]:
    content = describe(path)["sha256"]
    known = read_evaluations(path.parent)
    for line in known:
        if (line["weights"], line["sha256"], line["configuration"]) == (path.name, content, digest):
            logger.info("%s: evaluated before, see %s", path, path.parent / EVALUATIONS)
            return line["numbers"]
    logger.info("%s: evaluation after epoch %d", path, epoch)
    load_weights(model, str(path), strict=True)
    model.trained_classes = remembered(path)
    numbers = {name: float(value) for name, value in evaluator(model).items()}
    line = {"epoch": epoch, "weights": path.name, "sha256": content, "configuration": digest, "numbers": numbers}
    # Written anew, so that a line that was cut does not spoil the one after it.
    with atomic_path(path.parent / EVALUATIONS) as temporary:
        temporary.write_text("".join(json.dumps(each) + "\n" for each in [*known, line]), encoding="utf-8")
    return numbers


def table(runs: Sequence[Run]) -> str:
    """AP, AP50 and AP75 of every run by epoch, side by side, each run's best epoch, and figures of pseudo-labels."""
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
    return "\n".join([*rows, *(row for run in runs if run.pseudo_labels for row in pseudo_label_rows(run))])


def pseudo_label_rows(run: Run) -> list[str]:
    names = list(dict.fromkeys(name for figures in run.pseudo_labels.values() for name in figures))
    rows = ["", f"pseudo-labels of {run.name}:", "epoch" + "".join(f"{name:>12}" for name in names)]
    for epoch, figures in sorted(run.pseudo_labels.items()):
        values = [figures.get(name) for name in names]
        rows.append(f"{epoch:5d}" + "".join(f"{'-':>12}" if value is None else f"{value:12.3f}" for value in values))
    return rows


def cells(numbers: dict[str, float] | None) -> str:
    values = [(numbers or {}).get(name) for name in COLUMNS]
    return "".join(f"{'-':>8}" if value is None else f"{value:8.3f}" for value in values)


def best_epoch(run: Run) -> int | None:
    """The first epoch with the highest AP; None without evaluations."""
    return max(sorted(run.evaluations), key=lambda epoch: run.evaluations[epoch]["AP"], default=None)


@matplotlib_fonts()
def draw_curves(runs: Sequence[Run], path: Path) -> None:
    """Draw loss, learning rate and AP over epochs into one PNG, in a color for each run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    loss, rate, ap = figure.subplots(1, 3)
    for run in runs:
        epochs = [line["iteration"] / line["steps_per_epoch"] for line in run.reports]
        losses = [line["losses"].get("loss") for line in run.reports]
        loss.plot(epochs, [float("nan") if value is None else value for value in losses], label=run.name)
        rate.plot(epochs, [line["learning_rate"] for line in run.reports], label=run.name)
        evaluated = sorted(run.evaluations)
        ap.plot(evaluated, [run.evaluations[epoch]["AP"] for epoch in evaluated], marker="o", label=run.name)
    for axes, title in ((loss, "loss"), (rate, "learning rate"), (ap, "AP")):
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
