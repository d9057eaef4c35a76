"""Checks of evaluation, inference and export of a trained detector, through the functions that the commands call."""

from pathlib import Path

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import MIXED
from ppdet.acceptance.outcomes import Failed, Outcome
from ppdet.acceptance.small_detector import (
    command_config,
    compare_ap,
    evaluate_trained,
    exported_detector,
    shapes_dataset,
)

EVAL_ADVICE = """
    With the weights that were trained here, the device detects something else than the CPU. If checks of nms or
    operators failed as well, look at those first. Otherwise run the kit again with NVIDIA_TF32_OVERRIDE=0 in front of
    the command. If it then passes, the cause is the rounding of TF32 on a detector that learned little. If not, results
    on this device are not reliable: please send the report.
"""


@check("detect/eval", advice=EVAL_ADVICE, uses=["trained", "reference_ap"], seconds=8)
def evaluate(context: Context) -> Outcome:
    """AP of a detector trained here, compared with the CPU"""
    return compare_ap(context, evaluate_trained(context), "fp32")


@check("detect/eval_amp", needs=[MIXED], uses=["trained", "reference_ap"], seconds=6)
def evaluate_amp(context: Context) -> Outcome:
    """AP with ppdet eval --amp, compared with the CPU in float32

    In 16 bits, the trained detector detects something else. If detect/eval passed, evaluate without --amp, and
    train with --amp only if the AP in float32 does not change. Please send the report.
    """
    precision = "bf16" if "bfloat16" in context.facts.amp else "fp16"  # the type that `smaller_type` chooses
    return compare_ap(context, evaluate_trained(context, "eval_amp=true"), precision)


@check("detect/infer", advice=EVAL_ADVICE, uses=["trained"], seconds=10)
def infer(context: Context) -> Outcome:
    """Detections of ppdet infer on images of several sizes, one of them empty, compared with the CPU"""
    # Detects twice, because what one image leaves behind must not change the detections in the next.
    from ppdet.deploy.compare import compare, tolerance_of
    from ppdet.engine.predictor import Predictor

    paths = [str(path) for path in images_of_all_sizes(context)]
    with context.on_reference():
        predictor = Predictor(command_config(context, "TestReader", "use_onednn=false"))
        expected = [rows for _, rows in predictor.detect(paths)]
    predictor = Predictor(command_config(context, "TestReader"))
    nms, tolerance = predictor.model.nms, tolerance_of("fp32", context.device)
    for attempt in ("first", "second"):
        actual = [rows for _, rows in predictor.detect(paths)]
        result = compare(expected, actual, tolerance, nms.score_threshold, nms.keep_top_k)
        numbers = {name: value for name, value in result._asdict().items() if name != "kind"}
        if len(actual) != len(paths) or result.unmatched > tolerance.unmatched * result.compared:
            raise Failed(f"{attempt} time: {len(actual)} of {len(paths)} images, {result}", **numbers)
    if not result.compared:
        raise Failed("the detector detects nothing on the CPU, so there is nothing to compare")
    return Outcome(f"{len(paths)} images: {result}", numbers)


def images_of_all_sizes(context: Context) -> list[Path]:
    """Return validation images, some of them enlarged or cropped, and last a grey image without objects."""
    import cv2
    import numpy as np

    def write(folder: Path) -> None:
        paths = sorted((shapes_dataset(context) / "images" / "val").iterdir())[:4]
        images = [image for path in paths if (image := cv2.imread(str(path))) is not None]
        images[1:3] = [cv2.resize(images[1], (333, 250)), images[2][20:100]]
        images.append(np.full((200, 150, 3), 128, np.uint8))
        for number, image in enumerate(images):
            cv2.imwrite(str(folder / f"{number}.png"), image)

    return sorted(context.shared_folder("images_of_all_sizes", write).iterdir())


@check("detect/export", uses=["trained", "exported"], seconds=1)
def export(context: Context) -> Outcome:
    """Export as ppdet export does it, which compares every graph with the trained model

    Export runs each graph and compares it with the trained model. The message names the engine that differs, and by
    how much. If detect/eval passed, the model is right and the engine is at fault: leave its format out of
    --format, and send the report.
    """
    files = sorted(path.name for path in exported_detector(context).iterdir())
    return Outcome(f"written and compared: {', '.join(files)}", {"files": files})
