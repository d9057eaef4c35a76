"""Evaluation, inference and export of a trained detector on the device, through what the commands call."""

from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.detectors import beside_cpu, command_config
from ppdet.acceptance.facts import MIXED
from ppdet.acceptance.made import shapes, trained
from ppdet.acceptance.outcomes import Failed, Outcome

if TYPE_CHECKING:
    from ppdet.deploy.compare import Comparison

EVAL_ADVICE = """
    The weights that were trained here detect something else on the device than on the CPU. If nms or operators failed
    as well, that explains it. If they did not, run the kit again with NVIDIA_TF32_OVERRIDE=0 in front: passing then, it
    is TF32's rounding on a detector that learned little. Otherwise results on this device are not to be trusted: please
    send the report.
"""


def evaluated(context: Context, *options: str) -> float:
    """AP of the trained detector on the current device, as tools/eval.py computes it."""
    from ppdet.engine.build import build_trained_model
    from ppdet.engine.evaluator import Evaluator

    cfg = command_config(context, "EvalReader", *options)
    return Evaluator(cfg)(build_trained_model(cfg))["AP"]


@check(
    "detect/eval",
    title="AP of a detector trained here: the device's beside the CPU's",
    advice=EVAL_ADVICE,
    uses=["trained", "reference_ap"],
    limit=90,
    seconds=8,
)
def evaluate(context: Context) -> Outcome:
    trained(context)
    context.progress("evaluating")
    return beside_cpu(context, evaluated(context), "fp32")


@check(
    "detect/eval_amp",
    title="AP with tools/eval.py --amp beside the CPU's in float32",
    advice="""
    In 16 bits the trained detector finds something else. If detect/eval passed, evaluate without --amp, and train with
    it only where AP in float32 stays what it is. Please send the report.
    """,
    needs=[MIXED],
    uses=["trained", "reference_ap"],
    limit=90,
    seconds=6,
)
def evaluate_amp(context: Context) -> Outcome:
    precision = "bf16" if "bfloat16" in context.facts.amp else "fp16"  # as smaller_type chooses
    return beside_cpu(context, evaluated(context, "eval_amp=true"), precision)


@check(
    "detect/infer",
    title="detections of tools/infer.py in images of several sizes, one without objects, beside the CPU's",
    advice=EVAL_ADVICE,
    uses=["trained"],
    limit=90,
    seconds=10,
)
def infer(context: Context) -> Outcome:
    """Also twice in a row: what one image leaves behind must not change the next."""
    from ppdet.deploy.compare import compare, tolerance_of
    from ppdet.engine.predictor import Predictor

    paths = [str(path) for path in odd_images(context)]
    with context.on_reference():
        predictor = Predictor(command_config(context, "TestReader", "use_onednn=false"))
        expected = [rows for _, rows in predictor.detect(paths)]
    predictor = Predictor(command_config(context, "TestReader"))
    floor, top = predictor.model.nms.score_threshold, predictor.model.nms.keep_top_k
    tolerance = tolerance_of("fp32", context.device)
    for run in ("first", "second"):
        found = [rows for _, rows in predictor.detect(paths)]
        result = compare(expected, found, tolerance, floor, top)
        if len(found) != len(paths) or result.unmatched > tolerance.unmatched * result.compared:
            raise Failed(f"{run} run: {len(found)} of {len(paths)} images, {result}", **numbers(result))
    if not result.compared:
        raise Failed("there is nothing to compare: the detector finds nothing on the CPU either")
    return Outcome(f"{len(paths)} images: {result}", numbers(result))


def numbers(result: "Comparison") -> dict[str, float]:
    """The numbers of a comparison by name."""
    return {name: value for name, value in result._asdict().items() if name != "kind"}


def odd_images(context: Context) -> list[Path]:
    """Validation images as they are, enlarged and as a part; and a grey one, in which there is nothing."""
    import cv2
    import numpy as np

    def make(folder: Path) -> None:
        first, *others = [cv2.imread(str(path)) for path in sorted((shapes(context) / "images" / "val").iterdir())[:4]]
        images = [first, cv2.resize(others[0], (333, 250)), others[1][20:100], others[2]]
        images.append(np.full((200, 150, 3), 128, np.uint8))
        for number, image in enumerate(images):
            cv2.imwrite(str(folder / f"{number}.png"), image)

    return sorted(context.shared("odd_images", make).iterdir())


@check(
    "detect/export",
    title="export as tools/export_model.py does it, with its own comparison of every graph",
    advice="""
    Before an export counts, each graph is run and compared with the trained model; the message says which engine
    differs, and by how much. If detect/eval passed, the model is good and the engine is at fault: leave its format out
    of --format, and send the report.
    """,
    uses=["trained", "exported"],
    limit=60,
    seconds=1,
)
def export(context: Context) -> Outcome:
    from ppdet.acceptance.detectors import exported

    folder = exported(context)
    files = sorted(path.name for path in folder.iterdir())
    return Outcome(f"written and compared: {', '.join(files)}", {"files": files})
