"""The commands and the Python code of deploy/batch/README.md run, in their order, on a job of 28 images."""

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
from pycocotools.coco import COCO

from ppdet.deploy.batch import __main__ as command
from ppdet.utils.disk.files import read_text

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```", read_text(ROOT / "deploy" / "batch" / "README.md"), re.M | re.S)


def run_line(line, variables):
    """A command of the page; a job runs in this process."""
    if found := re.fullmatch(r"(\w+)=(\S+)", line):
        variables[found[1]] = found[2]
        return
    words = shlex.split(re.sub(r"\$(\w+)", lambda name: variables[name[1]], line), comments=True)
    if words[:3] == ["python", "-m", "ppdet.deploy.batch"]:
        command.main(words[3:])
    elif words[0] == "python":  # they take minutes: the script and its options exist
        script = read_text(ROOT / words[1])
        assert all(f'"{word}"' in script for word in words if word.startswith("--"))
    else:
        assert words[:2] == ["pip", "install"], line


def test_the_page_runs_from_top_to_bottom(done, images, monkeypatch, capsys):
    monkeypatch.chdir(done.folder)
    assert {kind for kind, _ in BLOCKS} == {"bash", "python"}
    shell, code, printed = {}, {}, []
    for kind, block in BLOCKS:
        if kind == "bash":
            for line in block.splitlines():
                run_line(line, shell)
            continue
        exec(compile(block, "README.md", "exec"), code)
        printed.append(capsys.readouterr().out)
    assert all(printed)
    text = "".join(printed)

    assert "2\n{'image_id'" in text and text.count("'error': 'the file is") == 2
    assert all(f"val/{name}'" in text for name in images.broken)
    assert f"28 2 {done.summary.counts.boxes}\n" in text

    found = {name: kept for name, whole in images.expected.items() if len(kept := whole.above(0.5))}
    boxes = code["boxes"].sort_values(["image_id"], kind="stable")
    assert boxes.file_name.tolist() == [name for name in sorted(found) for _ in found[name].scores]
    for column, values in (
        ("x1", [box[0] for name in sorted(found) for box in found[name].boxes]),
        ("y2", [box[3] for name in sorted(found) for box in found[name].boxes]),
        ("scores", [score for name in sorted(found) for score in found[name].scores]),
        ("category_ids", [(3, 7)[label] for name in sorted(found) for label in found[name].classes]),
        ("height", [40 + int(name[-7:-4]) for name in sorted(found) for _ in found[name].scores]),
    ):
        assert boxes[column].tolist() == pytest.approx(values, abs=0.05)
    kinds = {name: str(boxes[name].dtype).removesuffix("[pyarrow]") for name in boxes}
    assert {kinds[name] for name in ("image_id", "classes", "category_ids")} == {"int64"}
    assert {kinds[name] for name in ("scores", "x1", "y1", "x2", "y2")} == {"float"}
    assert {kinds[name] for name in ("width", "height")} == {"int32"} and kinds["names"] == "string"

    labels = json.loads(Path("found/pseudo_labels.json").read_text())
    assert [image["file_name"] for image in labels["images"]] == sorted(found)
    assert len(COCO("found/pseudo_labels.json").getAnnIds()) == len(boxes)


def test_integers_stay_integers_in_pandas(done, images):
    """Although the sizes of broken images are null."""
    table = pd.read_parquet(f"{done.job.output}/detections")
    assert str(table.width.dtype) == str(table.height.dtype) == "Int32" and str(table.image_id.dtype) == "int64"
    assert (
        table[table.width.isna()].file_name.tolist() == images.broken == table[table.error.notna()].file_name.tolist()
    )
    assert table.image_id.tolist() == list(range(28))
