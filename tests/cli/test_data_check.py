"""`ppdet data check`: its summary, its page, its copy, and its exit codes."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from noise import noisy, write_padded
from tiny import write_tiny_coco

from ppdet.cli import data
from ppdet.cli.data_check import next_steps, page_of
from ppdet.visualize.pages.markup import as_html

HOSTILE = "<script>alert(1)</script>\x1b[31m"


def check(*arguments):
    data.main(["check", *map(str, arguments)], "ppdet data")


@pytest.fixture
def folder(tmp_path):
    """Training images of rectangles, one of which does not exist, with a hostile class name; a copy for evaluation."""
    folder = write_tiny_coco(tmp_path / "data", images=4)
    content = json.loads((folder / "train.json").read_text())
    content["images"].append({"id": 99, "file_name": "gone.png", "width": 128, "height": 96})
    content["categories"][0]["name"] = HOSTILE
    (folder / "train.json").write_text(json.dumps(content))
    del content["images"][1:]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] == 1]
    (folder / "val.json").write_text(json.dumps(content))
    return folder


def test_summary_page_and_copy(folder, tmp_path, capsys):
    page, copy = tmp_path / "pages" / "check.html", tmp_path / "copy"
    check(folder, "--input_size", 96, 128, "--page", page, "--fix", copy)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["train", "5"] and lines[2].split()[:2] == ["val", "1"]
    text = "\n".join(lines)
    assert "\x1b" not in text and "<script>alert(1)</script>" in text
    assert f"error: train: 1 of 5 images missing, e.g. {folder / 'images' / 'gone.png'}: training skips them" in lines
    assert (
        "error: images of train that are in val too, or look like one there: 1 of 5, e.g. 001.png and 001.png" in text
    )
    assert "at an input size of 96 x 128 pixels:" in lines
    assert f"page: {page} (open it in a browser)" in lines and lines[-2] == f"cleaned copy: {copy}"
    assert lines[-1].startswith(f"next: ppdet init {copy}  ")
    html = page.read_text()
    assert "images in two splits" in html and "gone.png" in html and "data:image/jpeg" in html
    assert HOSTILE not in html and as_html(HOSTILE) in html
    assert [row["id"] for row in json.loads((copy / "annotations" / "train.json").read_text())["images"]] == [2, 3, 4]


def test_exit_codes(folder, capsys):
    with pytest.raises(SystemExit) as end:
        check(folder, "--strict", "--page", "")
    assert end.value.code == 1
    with pytest.raises(SystemExit) as end:
        check(folder / "images")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "no COCO file in it" in said and "images without labels need these first: `ppdet data pick FOLDER" in said
    with pytest.raises(SystemExit) as end:
        check(folder / "nosuch")
    assert end.value.code == 2
    assert "nosuch does not exist: name the folder of a data set, or COCO files" in capsys.readouterr().err


def test_what_cannot_be_is_refused_before_images_are_read(folder, capsys):
    for options, said in (
        (["--fix", folder / "clean"], f"it is within the data set, {folder}; name a folder outside of it"),
        (["--input_size", 640, 320], "--input_size SHORT LONG: 640 is longer than 320; name the shorter side first"),
    ):
        with pytest.raises(SystemExit) as end:
            check(folder, "--page", "", *options)
        shown = capsys.readouterr()
        assert end.value.code == 2 and said in shown.err and "positive locations" not in shown.out
    assert not (folder / "clean").exists()


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        (["."], {}, ["next:", "  ppdet init ."]),
        (["roboflow"], {"image_dir": "a b"}, ["next:", "  ppdet init roboflow --image_dir 'a b'"]),
        (["."], {"run": "output/a"}, ["next: where the page shows wrong labels, correct them in the tool that drew"]),
        (["."], {"config": "mine.yml", "opt": ["a=1"]}, ["next: ppdet data show -c mine.yml -o a=1"]),
        (["a.json", "b.json"], {}, ["next: ppdet init FOLDER writes a configuration, where FOLDER has the file to"]),
        (["val"], {}, ["next: ppdet init FOLDER writes a configuration, where FOLDER has the file to train on"]),
        (["all"], {}, ["next:", "  ppdet data convert all all_split --split 0.8/0.2", "  ppdet init all  "]),
    ],
)
def test_each_check_ends_with_the_next_command(tmp_path, monkeypatch, data, options, expected):
    monkeypatch.chdir(tmp_path)
    Path(data[0]).mkdir(exist_ok=True)
    given = {"fix": None, "run": None, "detections": None, "config": None, "opt": [], "imports": [], "image_dir": None}
    names = {"val": [True], "all": [False]}.get(data[0], [False, True])
    splits = [SimpleNamespace(is_evaluated=is_evaluated) for is_evaluated in names]
    lines = next_steps(SimpleNamespace(**{**given, **options, "data": data}), splits, False)
    assert len(lines) == len(expected)
    for line, start in zip(lines, expected):
        assert line.startswith(start)


def test_size_and_levels_come_from_a_configuration(folder, capsys):
    """The size of EvalReader's Resize, and the levels of TrainReader's targets, of which one is left here."""
    override = "TrainReader.batch_transforms=[Gt2FCOSTarget: {object_sizes_boundary: [], downsample_ratios: [16]}]"
    check(folder, "--page", "", "-c", "fcos_r50_fpn_1x_coco", "-o", override)
    text = capsys.readouterr().out
    assert "at an input size of 800 x 1333 pixels:" in text
    assert "stride 16 " in text and "stride 8 " not in text
    without_resize = ["-c", "fcos_r50_fpn_1x_coco", "-o", "EvalReader.sample_transforms=[Decode: {}]"]
    check(folder, "--page", "", *without_resize)  # all images are listed with one size
    assert "at an input size of 96 x 128 pixels:" in capsys.readouterr().out
    content = json.loads((folder / "train.json").read_text())
    content["images"][0].update(width=64)
    (folder / "train.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit):
        check(folder, "--page", "", *without_resize)
    assert "has no Resize, and the images have 2 sizes: say for which" in capsys.readouterr().err


def test_a_model_lists_the_labels_that_it_contradicts(tmp_path, capsys):
    """Random weights detect something everywhere, also where no box is."""
    cfg = noisy(write_padded(tmp_path, images=2))
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(tmp_path / "noise.pdparams", run / "model_final.pdparams")
    cfg.dump(run / "config.yml")
    page = tmp_path / "check.html"
    check(tmp_path / "data", "--model", run, "--device", "cpu", "--page", page)
    text = capsys.readouterr().out
    assert re.search(r"^note: train: \d+ likely label errors, certain detections where no box is, e\.g\. ", text, re.M)
    assert "label noise, missing box" in page.read_text()
    with pytest.raises(SystemExit):
        check(tmp_path / "data", "--model", run, "-c", "fcos_r50_fpn_1x_coco")
    assert "name either --model, whose configuration is used, or a YAML file with -c" in capsys.readouterr().err


def test_the_page_fits_narrow_screens_and_filters_by_kind(folder, tmp_path, capsys, browser):
    """In a browser: nothing is wider than the screen, long paths included; one split's pictures can be shown."""
    page = tmp_path / "check.html"
    check(folder, "--input_size", 96, 128, "--page", page)
    context = browser.new_context(viewport={"width": 390, "height": 900})
    shown = context.new_page()
    shown.goto(page.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    assert shown.get_by_text("images in two splits").first.is_visible()
    samples = shown.locator(".gallery").last
    assert samples.locator("li:visible").count() == 5  # four of train and one of val can be read
    samples.get_by_label("split").select_option("val")
    assert samples.locator("li:visible").count() == 1
    context.close()


@pytest.mark.parametrize("given", ["", "annotations", "annotations/train.json", "."])
def test_each_data_set_has_its_own_page(given, tmp_path, monkeypatch):
    (tmp_path / "cells" / "annotations").mkdir(parents=True)
    (tmp_path / "cells" / "annotations" / "train.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "cells" if given == "." else tmp_path)
    assert page_of(given if given == "." else str(Path("cells", given))) == str(Path("output/data_check_cells.html"))


def test_the_pages_of_two_data_sets_stand_beside_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        check(write_tiny_coco(tmp_path / name, images=1))
        assert f"page: {Path('output', f'data_check_{name}.html')} (open" in capsys.readouterr().out
    assert sorted(path.name for path in Path("output").iterdir()) == ["data_check_one.html", "data_check_two.html"]
