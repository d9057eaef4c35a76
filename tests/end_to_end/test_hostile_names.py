"""Names from files that a terminal would obey, or that would forge lines of the log, are shown escaped everywhere."""

import json

import foreign
import numpy as np
from commands import call
from safetensors.numpy import save_file

from ppdet.core.config import read_config
from ppdet.engine.hooks.boards import scalars_of
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.printable import printable_lines
from ppdet.visualize import draw_detections

NAME = "\x1b]0;owned\x07\n[2026-01-01 00:00:00] [INFO] all is well\u202e\x9b2J"
SHOWN = r"\x1b]0;owned\x07\n[2026-01-01 00:00:00] [INFO] all is well\u202e\x9b2J"


def shown(*command, code=0, name=SHOWN):
    """Call a command, which must show the name escaped and never as it is."""
    printed = call(*command, code=code)
    assert name in printed, printed
    require_harmless(printed)
    return printed


def require_harmless(text):
    assert text == printable_lines(text)
    assert not any(line.startswith("[2026-01-01 00:00:00]") for line in text.splitlines())


def test_names_of_arrays(tmp_path):
    arrays = foreign.arrays({**foreign.mmdet(18, width=8, channels=32), NAME: (1,)})
    save_file(arrays, tmp_path / "w.safetensors")
    shown("tools/convert_weights.py", tmp_path / "w.safetensors", "--to", tmp_path / f"{NAME[:9]}.pdparams")
    save_file({NAME: np.zeros(1, np.float32)}, tmp_path / "w.safetensors")
    shown("tools/convert_weights.py", tmp_path / "w.safetensors", "--to", tmp_path / "o.pdparams", code=2)


def test_class_names_and_file_names(tmp_path):
    data = {
        "images": [{"id": 1, "file_name": NAME, "width": 8, "height": 8}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}],
        "categories": [{"id": 1, "name": NAME}, {"id": 2, "name": "größe"}],
    }
    (tmp_path / "a.json").write_text(json.dumps(data))
    metric = COCOMetric(
        anno_path=str(tmp_path / "a.json"), category_ids=[1, 2], class_names=[NAME, "größe"], classwise=True
    )
    metric.update(np.array([[0, 0.9, 1, 1, 5, 5]]), [1], [1], [(8, 8)])
    require_harmless(metric.table())
    assert [line[: len(SHOWN)].strip() for line in metric.table().splitlines()[-2:]] == [SHOWN, "größe"]

    (tmp_path / "tiny.yml").write_text(
        "_BASE_: fcos_r18vd_fpn_bccd.yml\nnum_classes: 2\npretrain_weights: null\n"
        f"TrainDataset: !COCODataSet {{dataset_dir: {tmp_path}, image_dir: ., anno_path: a.json}}\n"
    )
    shown("tools/train.py", "-c", tmp_path / "tiny.yml", "--dry_run", code=2, name=SHOWN[:40])


def test_configurations(tmp_path):
    path = tmp_path / "a\x1b[2J.yml"
    path.write_text(f"_BASE_: fcos_r18vd_fpn_bccd.yml\nsave_dir: {json.dumps(NAME)}\n", encoding="utf-8")
    printed = shown("tools/config.py", "-c", path, name=r"a\x1b[2J.yml:2")
    (tmp_path / "shown.yml").write_text(printed)
    assert read_config(str(tmp_path / "shown.yml"))["save_dir"] == NAME
    path.write_text(json.dumps({NAME: 1}), encoding="utf-8")
    shown("tools/config.py", "-c", path, code=2, name=SHOWN.replace(r"\n", " "))
    shown("tools/from_json.py", path, "--to", tmp_path / "b.yml")


def test_folders_of_runs(tmp_path):
    folder = tmp_path / f"{NAME} $x$ $"
    folder.mkdir()
    at = {"iteration": 4, "steps_per_epoch": 4, "epoch": 1, "step": 4, "time": ""}
    lines = [
        {**at, "event": "evaluation", "numbers": {"AP": 0.5, NAME: 0.5}},
        {**at, "event": "pseudo_labels", "figures": {NAME: 0.5}},
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    printed = shown("tools/analyze.py", folder)
    assert printed.count(SHOWN) == 4 and (folder / "curves.png").is_file()
    assert [name for name, _ in scalars_of("evaluation", lines[0])] == ["eval/AP", f"eval/{SHOWN}"]


def test_command_lines():
    shown("tools/train.py", "-c", "x.yml", f"--{NAME}", code=2)


def test_drawn_names():
    """In pictures as well, what is not shown is escaped, and a name of any length takes no more than its place."""
    blank, rows = np.zeros((40, 400, 3), np.uint8), np.array([[0, 0.9, 1, 20, 5, 25]])
    escaped = draw_detections(blank, rows, [r"cat\x1b"])
    assert np.array_equal(draw_detections(blank, rows, ["cat\x1b"]), escaped)
    long = draw_detections(blank, rows, ["a" * 57 + "..."])
    assert np.array_equal(draw_detections(blank, rows, ["a" * 10**6]), long)
