"""Evaluation and inference in mixed precision, where somebody asks for it."""

import json
import re

import numpy as np
import paddle
import pytest
from autocast import as_on_a_gpu
from commands import call, execute
from counting import Kernels

from ppdet.core.workspace import load_config
from ppdet.engine.build import build_trained_model
from ppdet.engine.evaluator import Evaluator
from ppdet.engine.predictor import Predictor
from ppdet.engine.trainer import Trainer
from ppdet.modeling import cpu, folding


def evaluate(path, options):
    """AP, the rows of every image, best first, and the evaluator."""
    cfg = load_config(str(path), options)
    evaluator = Evaluator(cfg)
    numbers = evaluator(build_trained_model(cfg))
    rows = {}
    for found in evaluator.metric.detections:
        rows.setdefault(found["image_id"], []).append(found)
    return numbers["AP"], rows, evaluator


def agree(found, expected, tolerance):
    """Whether the best row of every image is there, of the same class, nearly as large and nearly as sure.

    Of rows that overlap and are as good as equal, another one may have suppressed the others.
    """
    assert found.keys() == expected.keys() and len(found) == 8
    for image, rows in expected.items():
        assert any(is_like(rows[0], other, tolerance) for other in found[image]), (rows[0], found[image][:3])


def is_like(row, other, tolerance):
    (x, y, w, h), (x2, y2, w2, h2) = row["bbox"], other["bbox"]
    both = max(min(x + w, x2 + w2) - max(x, x2), 0) * max(min(y + h, y2 + h2) - max(y, y2), 0)
    near = both / (w * h + w2 * h2 - both) > 0.8
    return row["category_id"] == other["category_id"] and near and abs(row["score"] - other["score"]) < tolerance


def scores(rows):
    return [row["score"] for image in sorted(rows) for row in rows[image]]


def test_on_a_cpu_bfloat16_detects_what_float32_does(trained):
    if not cpu.has_bfloat16():
        pytest.skip("this processor does not multiply bfloat16")
    path, options, *_ = trained
    expected_ap, expected, plain = evaluate(path, options)
    ap, found, small = evaluate(path, [*options, "eval_amp=true"])
    assert (plain.precision.dtype, small.precision.dtype) == ("float32", "bfloat16")
    agree(found, expected, 0.03)
    assert scores(found) != scores(expected) and ap == pytest.approx(expected_ap, abs=0.02) and ap > 0.05


@pytest.mark.parametrize(("level", "dtype", "tolerance"), [("O1", "bfloat16", 0.03), ("O2", "float16", 0.003)])
def test_on_a_gpu_mixed_precision_detects_what_float32_does(trained, level, dtype, tolerance):
    path, options, *_ = trained
    expected_ap, expected, _ = evaluate(path, options)
    small = [*options, "eval_amp=true", f"amp_level={level}", f"amp_dtype={dtype}"]
    with as_on_a_gpu() as autocast:
        ap, found, evaluator = evaluate(path, small)
    assert evaluator.precision.dtype == dtype and evaluator.precision.loss_scale is None
    agree(found, expected, tolerance)
    assert scores(found) != scores(expected) and ap == pytest.approx(expected_ap, abs=0.02)
    # Pixels are normalized before, in float32.
    pixels = [call.dtype for call in autocast.calls if call.results and call.results[0][0][1:] == (3, 96, 128)]
    assert len(pixels) >= 8 and set(pixels) <= {paddle.float32}


def test_float32_where_the_processor_has_no_bfloat16_and_why(trained, log, monkeypatch):
    monkeypatch.setattr(cpu, "has_bfloat16", lambda: False)
    path, options, *_ = trained
    evaluator = Evaluator(load_config(str(path), [*options, "eval_amp=true"]))
    assert evaluator.precision.dtype == "float32"
    assert "eval_amp: evaluation in float32: bfloat16 needs oneDNN and a processor with AVX-512 BF16" in log.text


@pytest.mark.parametrize(("option", "expected"), [([], "float32"), (["eval_amp=true"], "float16")])
def test_a_run_in_mixed_precision_evaluates_in_it_on_request_alone(tiny, option, expected):
    with as_on_a_gpu():
        cfg = load_config(tiny, ["amp=true", "amp_dtype=float16", *option])
        trainer = Trainer(cfg, evaluate=True)
    assert (trainer.precision.dtype, trainer.evaluator.precision.dtype) == ("float16", expected)


def test_norms_are_folded_once_for_an_evaluation(trained, monkeypatch):
    """Four batches, of which the first folds; what was trained since counts in the next evaluation."""
    path, options, *_ = trained
    cfg = load_config(str(path), options)
    evaluator, model = Evaluator(cfg), build_trained_model(cfg)
    norms = [
        layer for layer in model.sublayers() if folding.is_constant(layer) or isinstance(layer, paddle.nn.BatchNorm2D)
    ]
    together, folded = folding.fold_together, []
    monkeypatch.setattr(folding, "fold_together", lambda norms: folded.extend(norms) or together(norms))
    evaluator(model)
    assert len(evaluator.reader) == 4 and folded == norms
    before = scores_of(evaluator)
    norms[-1].weight.set_value(norms[-1].weight * 1.5)
    evaluator(model)
    assert folded == norms * 2 and scores_of(evaluator) != before
    assert folding._state.folds is None and folding._state.weights is None


def scores_of(evaluator):
    return [found["score"] for found in evaluator.metric.detections]


def test_the_second_batch_of_an_evaluation_multiplies_no_weights(trained, monkeypatch):
    path, options, *_ = trained
    model = build_trained_model(load_config(str(path), options))
    monkeypatch.setattr(cpu, "can_compute", lambda *maps: False)
    images, counts = paddle.rand([1, 3, 64, 64]), []
    with paddle.no_grad(), folding.CachedFolds():
        for _ in range(2):
            with Kernels() as kernels:
                model.predict_maps(images)
            counts.append(kernels.counts[""])
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    assert counts[0]["multiply"] - counts[1]["multiply"] == len(norms) + 1 and counts[0]["sqrt"] == 1
    assert not counts[1].keys() & {"sqrt", "divide", "concat", "split"}


def test_commands(trained, tmp_path, log):
    """--amp of eval and infer asks for it; a file of detections has none."""
    path, options, _, data = trained
    common = ["-c", path, "-o", *options]
    call("tools/eval.py", *common, "--amp")
    says = re.compile("CPU layers: oneDNN .*, (bfloat16|float32)|evaluation in float32")
    assert says.search(log.text)
    log.clear()
    call(
        "tools/infer.py",
        *common,
        "--amp",
        "--infer_img",
        data / "images" / "001.png",
        "--save_results",
        "true",
        "--visualize",
        "false",
        "--output_dir",
        tmp_path / "out",
    )
    assert says.search(log.text)
    assert json.loads(next((tmp_path / "out").rglob("bbox.json")).read_text())
    log.clear()
    call("tools/eval.py", *common)
    assert not says.search(log.text)
    result = execute("tools/eval.py", *common, "--amp", "--json_eval")
    assert result.returncode == 2 and "--json_eval takes detections from a file: leave --amp out" in result.stderr


def test_the_predictor_takes_the_setting(trained):
    path, options, _, data = trained
    with as_on_a_gpu() as autocast:
        small = [*options, "eval_amp=true", "amp_dtype=bfloat16"]
        predictor = Predictor(load_config(str(path), small))
        ((_, rows),) = predictor.detect([str(data / "images" / "001.png")])
        level = paddle.base.framework._dygraph_tracer()._amp_level
    assert {call.dtype for call in autocast.calls if call.name == "conv2d"} == {paddle.bfloat16}
    assert rows.dtype == np.float32 and len(rows) > 5 and level == paddle.base.core.AmpLevel.O0
