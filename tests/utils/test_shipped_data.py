"""Errors about missing data sets name the command that fetches them."""

from pathlib import Path

import pytest

from ppdet.cli.commands import COMMANDS as ppdet_commands
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_dataset
from ppdet.utils.errors import DataError
from ppdet.utils.shipped_data import COMMANDS, how_to_get

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    "coco": "fcos/fcos_r50_fpn_1x_coco.yml",
    "bccd": "fcos/fcos_r18vd_fpn_bccd.yml",
    "shapes": "fcos/fcos_r18_fpn_shapes.yml",
}


@pytest.mark.parametrize("name", FILES)
def test_shipped_files_name_the_script(tmp_path, monkeypatch, name):
    """Beside the script, which is all that a clone has; and from another folder."""
    program, file, *_ = COMMANDS[name].split()
    assert (ROOT / file).is_file() if program == "python" else file in ppdet_commands
    cfg = load_config(ROOT / "configs" / FILES[name])
    monkeypatch.chdir(tmp_path)
    for folder in (False, True):
        if folder:
            (tmp_path / "dataset" / name).mkdir(parents=True)
        for slot in ("TrainDataset", "EvalDataset"):
            with pytest.raises(DataError, match=COMMANDS[name]):
                build_dataset(cfg, slot)


def test_images_alone_may_be_missing(tmp_path):
    folder = tmp_path / "bccd" / "annotations"
    folder.mkdir(parents=True)
    box = '{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0}'
    image = '{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}'
    text = f'{{"images": [{image}], "annotations": [{box}], "categories": [{{"id": 1, "name": "WBC"}}]}}'
    (folder / "train.json").write_text(text)
    options = [f"TrainDataset.dataset_dir={tmp_path}/bccd", "num_classes=1"]
    with pytest.raises(DataError, match=r"image folder .* does not exist: get it with `python dataset/bccd/"):
        build_dataset(load_config(ROOT / "configs" / FILES["bccd"], options), "TrainDataset")


def test_other_folders_have_no_script():
    for path in ("/data/mine/train.json", "/data/my_coco_like/a.json", "dataset/coco/unlabeled2017", ""):
        assert how_to_get(path, "name yours") == "name yours"
    assert how_to_get("/nas/COCO/a.json", "name yours") == f"get it with `{COMMANDS['coco']}`, or name yours"
