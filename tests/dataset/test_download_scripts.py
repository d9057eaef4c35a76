import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ppdet.utils.disk.download import DownloadError

ROOT = Path(__file__).parents[2]
COCO_SCRIPT = ROOT / "dataset" / "coco" / "download_coco.py"
BCCD_SCRIPT = ROOT / "dataset" / "bccd" / "download_bccd.py"


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


coco, bccd = load(COCO_SCRIPT), load(BCCD_SCRIPT)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with load(ROOT / "tests" / "utils" / "disk" / "file_server.py").FileServer().running() as running:
        yield running


def zip_of(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def part_of(path, content, folder, files):
    return coco.Part(
        path=path,
        md5=hashlib.md5(content).hexdigest(),
        folder=folder,
        files=files,
        archive_bytes=len(content),
        folder_bytes=len(content),
    )


@pytest.fixture
def parts(server):
    images = zip_of({f"val2017/{n}.jpg": bytes([n]) * 50 for n in range(5)})
    annotations = zip_of({"annotations/instances_val2017.json": b"{}"})
    server.files = {"zips/val2017.zip": images, "annotations/a.zip": annotations}
    return [
        part_of("annotations/a.zip", annotations, "annotations", 1),
        part_of("zips/val2017.zip", images, "val2017", 5),
    ]


def test_coco_is_downloaded_unpacked_and_then_left_alone(server, parts, tmp_path):
    output = tmp_path / "coco"
    archives = coco.download_parts(parts, output, server.url + "/")
    assert archives == [output / "a.zip", output / "val2017.zip"]
    assert (output / "val2017" / "3.jpg").read_bytes() == bytes([3]) * 50
    assert (output / "annotations" / "instances_val2017.json").read_text() == "{}"
    for archive in archives:
        archive.unlink()
    assert coco.download_parts(parts, output, server.url) == []
    assert len(server.requests) == 2


def test_coco_goes_on_after_a_lost_file_and_takes_archives_put_there_by_hand(server, parts, tmp_path):
    (tmp_path / "a.zip").write_bytes(server.files["annotations/a.zip"])
    (tmp_path / "val2017.zip").write_bytes(server.files["zips/val2017.zip"])
    coco.download_parts(parts, tmp_path, server.url)
    (tmp_path / "val2017" / "0.jpg").unlink()
    coco.download_parts(parts, tmp_path, server.url)
    assert coco.count_files(tmp_path / "val2017") == 5
    assert server.requests == []


def test_coco_without_network_says_which_file_to_put_where(parts, tmp_path):
    with pytest.raises(DownloadError) as caught:
        coco.download_parts(parts, tmp_path, "http://127.0.0.1:9")
    assert f"put it at {tmp_path / 'a.zip'}, then run this again" in str(caught.value)


def test_coco_checks_the_free_space_first(server, parts, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 100))
    with pytest.raises(DownloadError, match=r"0\.0 GB are free"):
        coco.download_parts(parts, tmp_path / "not" / "there", server.url)
    assert server.requests == []


def test_coco_damaged_archive_is_an_error(server, parts, tmp_path):
    server.files["zips/val2017.zip"] = b"something else"
    with pytest.raises(DownloadError, match="MD5"):
        coco.download_parts(parts, tmp_path, server.url)
    assert not (tmp_path / "val2017").exists()


def test_coco_command_line(server, tmp_path):
    def run(*arguments):
        command = [sys.executable, str(COCO_SCRIPT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert "examples:" in run("--help").stdout
    result = run("--split", "val", "--base_url", server.url, "--output", "x")
    assert result.returncode == 1 and "404" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert [path for path, _ in server.requests] == ["/annotations/annotations_trainval2017.zip"]


def voc_xml(objects, size=(640, 480)):
    body = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    width, height = size
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{body}</annotation>"


VOC = {
    "JPEGImages/BloodImage_1.jpg": "one",
    "JPEGImages/BloodImage_2.jpg": "two",
    "JPEGImages/BloodImage_3.jpg": "three",
    "Annotations/BloodImage_1.xml": voc_xml([("WBC", 68, 315, 286, 480), ("RBC", 346, 361, 446, 454)]),
    "Annotations/BloodImage_2.xml": voc_xml([("RBC", 181, 329, 181, 329)]),
    "Annotations/BloodImage_3.xml": voc_xml([]),
    "ImageSets/Main/train.txt": "BloodImage_1\nBloodImage_2\n",
    "ImageSets/Main/val.txt": "BloodImage_3\n",
    "ImageSets/Main/test.txt": "",
}


def write_voc(folder, **changes):
    for name, text in {**VOC, **changes}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_bccd_voc_becomes_coco(tmp_path):
    counts = bccd.convert_voc(write_voc(tmp_path / "voc"), tmp_path / "out")
    assert counts == {"train": (2, 3), "val": (1, 0), "test": (0, 0)}
    train = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert [c["name"] for c in train["categories"]] == ["Platelets", "RBC", "WBC"]
    assert train["images"][0] == {"id": 1, "file_name": "BloodImage_1.jpg", "width": 640, "height": 480}
    boxes = [(a["id"], a["image_id"], a["category_id"], a["bbox"], a["area"]) for a in train["annotations"]]
    assert boxes == [
        (1, 1, 3, [68, 315, 218, 165], 35970),
        (2, 1, 2, [346, 361, 100, 93], 9300),
        (3, 2, 2, [181, 329, 0, 0], 0),
    ]
    assert (tmp_path / "out" / "images" / "BloodImage_3.jpg").read_text() == "three"


def test_bccd_conversion_agrees_with_the_shared_copy(shared, tmp_path):
    """Rebuild VOC files from the first training images of the shared COCO files and convert them back."""
    content = json.loads((shared / "data" / "bccd" / "annotations" / "train.json").read_text())
    names = {c["id"]: c["name"] for c in content["categories"]}
    images = content["images"][:5]
    changes = {"ImageSets/Main/train.txt": "\n".join(Path(i["file_name"]).stem for i in images)}
    for image in images:
        stem = Path(image["file_name"]).stem
        objects = []
        for annotation in content["annotations"]:
            if annotation["image_id"] == image["id"]:
                x, y, w, h = annotation["bbox"]
                objects.append((names[annotation["category_id"]], x, y, x + w, y + h))
        changes[f"JPEGImages/{stem}.jpg"] = "x"
        changes[f"Annotations/{stem}.xml"] = voc_xml(objects)
    bccd.convert_voc(write_voc(tmp_path / "voc", **changes), tmp_path / "out")
    converted = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert converted["images"] == images
    assert converted["categories"] == content["categories"]
    expected = [a for a in content["annotations"] if a["image_id"] <= 5]
    assert converted["annotations"] == expected


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("Annotations/BloodImage_1.xml", "<annotation>", "expected Pascal VOC's XML"),
        ("Annotations/BloodImage_1.xml", "<annotation/>", "expected Pascal VOC's XML"),
        ("Annotations/BloodImage_1.xml", voc_xml([("dog", 1, 2, 3, 4)]), "class 'dog'"),
        ("Annotations/BloodImage_1.xml", voc_xml([("RBC", 9, 2, 3, 4)]), "ends before it begins"),
        ("ImageSets/Main/train.txt", "BloodImage_77", "BloodImage_77.jpg: not found"),
    ],
)
def test_bccd_bad_data_is_a_one_line_error_and_writes_nothing(tmp_path, name, text, problem):
    write_voc(tmp_path / "voc", **{name: text})
    with pytest.raises(bccd.DataError) as caught:
        bccd.convert_voc(tmp_path / "voc", tmp_path / "out")
    assert problem in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_bccd_from_the_archive_from_a_clone_and_from_a_coco_copy(server, tmp_path, capsys):
    server.files["master.zip"] = zip_of({f"BCCD_Dataset-master/BCCD/{k}": v for k, v in VOC.items()})
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    arguments = ["--url", f"{server.url}/master.zip", "--output", str(first)]
    assert bccd.main(arguments) == 0
    assert bccd.main(arguments) == 0, "the second run has nothing to do"
    assert len(server.requests) == 1 and not list(first.glob("*.zip"))

    write_voc(tmp_path / "clone" / "BCCD")
    assert bccd.main(["--from", str(tmp_path / "clone"), "--output", str(second)]) == 0
    assert bccd.main(["--from", str(second), "--output", str(third)]) == 0
    for folder in (second, third):
        for path in first.glob("[ai]*/*"):
            assert (folder / path.relative_to(first)).read_bytes() == path.read_bytes()

    capsys.readouterr()
    (tmp_path / "empty").mkdir()
    assert bccd.main(["--from", str(tmp_path / "empty"), "--output", str(tmp_path / "x")]) == 1
    assert "ImageSets/Main" in capsys.readouterr().err
    assert bccd.main(["--url", "http://127.0.0.1:9/master.zip", "--output", str(tmp_path / "x")]) == 1
    assert "put it at" in capsys.readouterr().err.splitlines()[-1]
