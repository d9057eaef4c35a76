"""The eight commands of docs/OWN_DATA.md, as they stand there, from a folder of Pascal VOC's XML to a served model."""

import contextlib
import io
import itertools
import json
import re
import shlex
import shutil
from collections import Counter
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from ppdet.cli.commands import load

ROOT = Path(__file__).resolve().parents[2]
IMAGES, VAL_IMAGES = 24, 5  # 0.2 of 24
OBJECT = (
    "<object><name>{}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><bndbox>"
    "<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
XML = (
    "<annotation><folder>JPEGImages</folder><filename>{name}</filename><size><width>{width}</width>"
    "<height>{height}</height><depth>3</depth></size>{objects}</annotation>"
)
# What makes a run of 14 small steps of the page's commands, which otherwise take what `ppdet init` proposes.
SHORT = {
    "init": "--device cpu --from_scratch --estimate --minutes 1",
    "data show": "--batches 1 -o input_size=[96,128] amp=false",
    "train": "-o input_size=[64,96] amp=false max_iters=14 worker_num=0 LearningRate.base_lr=0.003 "
    "TrainReader.batch_size=2 FCOSHead.nms.score_threshold=0.001",
}


def first_block(page: str) -> list[str]:
    """The lines of a page's first block of commands that are commands of ppdet."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    commands = [[line for line in block.splitlines() if line.startswith("ppdet ")] for block in blocks]
    return next(lines for lines in commands if lines)


COMMANDS = {
    re.match(r"ppdet (data \w+|\w+)", line)[1]: shlex.split(line, comments=True)
    for line in first_block("docs/OWN_DATA.md")
}


def write_voc(coco: Path, folder: Path, count: int) -> None:
    """Write the first training images of a COCO data set as Pascal VOC."""
    content = json.loads((coco / "annotations" / "train.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for part in ("Annotations", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    for image in content["images"][:count]:
        boxes = [(names[one["category_id"]], one["bbox"]) for one in content["annotations"]
                 if one["image_id"] == image["id"]]  # fmt: skip
        objects = "".join(OBJECT.format(name, x, y, x + w, y + h) for name, (x, y, w, h) in boxes)
        text = XML.format(name=image["file_name"], width=image["width"], height=image["height"], objects=objects)
        (folder / "Annotations" / f"{Path(image['file_name']).stem}.xml").write_text(text)
        shutil.copy(coco / "images" / image["file_name"], folder / "JPEGImages")


@pytest.fixture(scope="module")
def walk(shared, tmp_path_factory):
    """The folder in which all commands but the last were typed, and what each of them printed."""
    for name in ("defusedxml", "globox", "hotcoco", "imagehash"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
    folder = tmp_path_factory.mktemp("own_data")
    write_voc(shared / "data" / "bccd", folder / "BCCD_Dataset" / "BCCD", IMAGES)
    printed = {}
    for name, words in COMMANDS.items():
        if name != "serve":
            printed[name] = typed([*words, *SHORT.get(name, "").split()], folder)
    return folder, printed


def typed(words: list[str], folder: Path) -> str:
    """Do in this process what a user types in a folder; what was printed."""
    text = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        patch.chdir(folder)
        try:
            load(words[1]).main(words[2:], f"ppdet {words[1]}")
        except SystemExit as end:
            pytest.fail(f"{shlex.join(words)} ended with {end.code}:\n{text.getvalue()[-2000:]}")
    return text.getvalue()


def test_the_page_needs_at_most_eight_commands():
    assert len(first_block("docs/OWN_DATA.md")) <= 8
    order = ["data convert", "data check", "init", "data show", "train", "eval", "export", "serve"]
    assert list(COMMANDS) == order and SHORT.keys() <= COMMANDS.keys()
    said = "\n".join(first_block("docs/OWN_DATA.md")).replace("BCCD_Dataset/BCCD", "my_export")
    assert re.sub(r"\bcells\b", "my_data", said).splitlines() == first_block("dataset/README.md")


def test_each_command_names_the_next_one_as_the_page_has_it(walk):
    _, printed = walk
    names = list(COMMANDS)
    for name, following in itertools.pairwise(names):
        said = [shlex.split(line.partition("next:")[2] or line, comments=True) for line in printed[name].splitlines()
                if re.search(r"(^|next:)\s+ppdet ", line)]  # fmt: skip
        expected = COMMANDS[following]
        if name == "data show":  # with the overrides that it was given
            expected = [*expected[:4], *SHORT[name].split()[2:], expected[-1]]
        assert expected in said, f"{name}:\n{printed[name]}"


def boxes_of_xml(path: Path) -> Counter:
    """How often each (class, x, y, width, height) is in an XML file."""
    found: Counter = Counter()
    for one in ElementTree.parse(path).getroot().iter("object"):
        x1, y1, x2, y2 = (float(one.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        found[one.findtext("name"), x1, y1, x2 - x1, y2 - y1] += 1
    return found


def test_boxes_are_those_of_the_xml(walk):
    folder, _ = walk
    found: dict[str, Counter] = {}
    for part, count in (("train", IMAGES - VAL_IMAGES), ("val", VAL_IMAGES)):
        content = json.loads((folder / "cells" / "annotations" / f"{part}.json").read_text())
        names = {category["id"]: category["name"] for category in content["categories"]}
        images = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        assert len(images) == count and not set(images.values()) & found.keys()
        found.update({stem: Counter() for stem in images.values()})
        for one in content["annotations"]:
            found[images[one["image_id"]]][(names[one["category_id"]], *one["bbox"])] += 1
    files = sorted((folder / "BCCD_Dataset" / "BCCD" / "Annotations").glob("*.xml"))
    assert found == {path.stem: boxes_of_xml(path) for path in files} and len(files) == IMAGES
    assert sum(boxes.total() for boxes in found.values()) > 10 * IMAGES


def test_the_pages_and_pictures_are_there(walk):
    folder, printed = walk
    assert f"{IMAGES} images read: 0 errors" in printed["data check"]
    assert "\nexpected: 1 minute with evaluation, " in printed["init"]
    assert (folder / "output" / "data_check_cells.html").is_file()
    assert (folder / "output" / "cells_shown" / "batch_1.jpg").is_file()
    assert (folder / "output" / "cells" / "train_batch.jpg").is_file()


def test_the_report_has_the_number_that_eval_printed(walk):
    folder, printed = walk
    value = re.search(r"\(AP\) @\[ IoU=0.50:0.95 \| area= +all \| maxDets=100 \] = ([\d.]+)", printed["eval"])[1]
    page = unescape((folder / "output" / "cells" / "report" / "report.html").read_text(encoding="utf-8"))
    shown = re.search(r"<dt>AP</dt><dd>([\d.]+)</dd>", page)[1]
    assert float(value) > 0 and float(shown) == pytest.approx(100 * float(value), abs=0.0501)


def test_the_export_goes_by_the_thresholds_of_the_report(walk):
    folder, _ = walk
    thresholds = json.loads((folder / "output" / "cells" / "report" / "thresholds.json").read_text())["thresholds"]
    settings = yaml.safe_load((folder / "output_inference" / "cells" / "infer_cfg.yml").read_text())
    assert settings["class_thresholds"] == pytest.approx(thresholds) and "RBC" in thresholds
    assert settings["label_list"] == ["Platelets", "RBC", "WBC"]


def test_the_server_knows_the_classes_of_the_xml_and_ends_cleanly(walk):
    for name in ("fastapi", "httpx", "uvicorn"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")
    from serving import ServerProcess

    folder, _ = walk
    xml = (folder / "BCCD_Dataset" / "BCCD" / "Annotations").glob("*.xml")
    classes = {name for path in xml for name, *_ in boxes_of_xml(path)}
    val = json.loads((folder / "cells" / "annotations" / "val.json").read_text())
    image = (folder / "cells" / "images" / val["images"][0]["file_name"]).read_bytes()
    [model] = COMMANDS["serve"][3:]
    assert COMMANDS["serve"][:3] == ["ppdet", "serve", "--model_dir"]
    with ServerProcess(folder / model, folder / "serve.log") as server:
        status, content = server.request("GET", "/model")
        assert status == 200 and {one["name"] for one in json.loads(content)["classes"]} == classes
        answer = server.predict(image, threshold="0.01")
        assert answer["detections"] and {one["name"] for one in answer["detections"]} <= classes
        assert server.terminate() == 0, (folder / "serve.log").read_text()
