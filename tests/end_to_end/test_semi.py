"""The three commands of semi-supervised training, and what works on their result."""

import json
import re

import numpy as np
from commands import call, run
from tiny import TINY_SEMI_YAML, TINY_YAML, write_tiny_coco

from ppdet.engine.checkpoints.weights import read_arrays


def test_split_train_and_learn_from_the_rest(tmp_path):
    data = write_tiny_coco(tmp_path / "data", images=20)
    table = run("tools/gen_semi_coco.py", "--anno_path", data / "train.json", "--images", 8, "--output_dir", data)
    assert re.search(r"labeled +8 .*train\.1@8images\.json", table)
    assert re.search(r"unlabeled +12 .*train\.1@8images-unlabeled\.json", table)

    text = TINY_YAML.replace("anno_path: train.json", "anno_path: train.1@8images.json", 1)
    (tmp_path / "base.yml").write_text(text.format(output=tmp_path / "output", data=data))
    semi = TINY_SEMI_YAML.replace("anno_path: train.json", "anno_path: train.1@8images-unlabeled.json")
    semi = semi.replace("RandomDistort: {{}}", "StrongAugImage: {{transforms: [RandomErasingCrop: {{}}]}}")
    (tmp_path / "semi.yml").write_text("_BASE_: [base.yml]\n" + semi.format(unlabeled=data))

    call("tools/train.py", "-c", tmp_path / "base.yml", "--eval", "-o", "epoch=1")
    start = tmp_path / "output" / "base" / "model_final.pdparams"
    dry = call("tools/train.py", "-c", tmp_path / "semi.yml", "--dry_run", "-o", f"pretrain_weights={start}")
    assert "unlabeled.image [6, 3, 96, 128]" in dry and "distill_loss_cls" in dry
    log = run("tools/train.py", "-c", tmp_path / "semi.yml", "--eval", "-o", f"pretrain_weights={start}", "epoch=1")
    assert "Warning" not in table + log
    assert "the numbers above are the student's; next: the teacher's" in log and "fg_sum" in log
    folder = tmp_path / "output" / "semi"
    teacher, student = (read_arrays(folder / f"model_final{suffix}") for suffix in (".pdparams", ".pdema"))
    assert any(not np.array_equal(teacher[name], student[name]) for name in student)
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    numbers = next(line["numbers"] for line in history if line["event"] == "evaluation")

    # The file of the supervised network evaluates and exports the teacher, and evaluates the student.
    for suffix, name in ((".pdparams", "AP"), (".pdema", "student_AP")):
        table = call("tools/eval.py", "-c", tmp_path / "base.yml", "-o", f"weights={folder}/model_final{suffix}")
        printed = float(re.search(r"maxDets=100 \] = (-?[\d.]+)", table).group(1))
        assert abs(printed - numbers[name]) < 6e-4
    weights = f"weights={folder}/model_final"
    call("tools/export_model.py", "-c", tmp_path / "base.yml", "--output_dir", tmp_path / "exported", "-o", weights)
    assert (tmp_path / "exported" / "base" / "infer_cfg.yml").is_file()
