"""Text files as editors on Windows save them: with a byte order mark, or in UTF-16."""

import ast
import codecs
import json
from pathlib import Path

import pytest

from ppdet.core.workspace import load_config
from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.deploy.preprocess import read_infer_cfg
from ppdet.deploy.serve import read_token
from ppdet.utils.disk.files import decode_text, read_text
from ppdet.utils.disk.images import list_images
from ppdet.utils.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
WRITTEN = {
    "plain": lambda text: text.encode(),
    "mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16 LE": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32 LE": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
}


@pytest.fixture(params=WRITTEN)
def write(request):
    """Writes a text to a path in one of these ways, with the line ends of Windows."""

    def to(path, text):
        path.write_bytes(WRITTEN[request.param](text.replace("\n", "\r\n")))
        return path

    return to


def test_a_mark_is_no_text(tmp_path, write):
    path = write(tmp_path / "x.txt", "größe\n猫\n")
    assert read_text(path) == "größe\n猫\n"
    assert decode_text(path.read_bytes()) == "größe\n猫\n"


def test_what_is_not_text_is_an_error_where_it_matters():
    with pytest.raises(UnicodeDecodeError):
        decode_text(b"\xe9t\xe9")
    with pytest.raises(UnicodeDecodeError):
        decode_text(codecs.BOM_UTF16_LE + b"a\0b")
    assert decode_text(b"\xe9t\xe9", errors="replace") == "\ufffdt\ufffd"
    assert decode_text(b"") == decode_text(codecs.BOM_UTF8) == ""


def test_class_names(tmp_path, write):
    write(tmp_path / "labels.txt", "red\nblue\n")
    assert ImageFolder(dataset_dir=str(tmp_path), anno_path="labels.txt").class_names == ["red", "blue"]


def test_coco_json(tmp_path, write):
    write(tmp_path / "a.json", json.dumps({"images": CONTENT["images"], "categories": CONTENT["categories"]}))
    data = COCODataSet(dataset_dir=str(tmp_path), image_dir=".", anno_path="a.json")
    assert data.class_names == ["red"] and len(data) == 1
    assert ImageFolder(dataset_dir=str(tmp_path), anno_path="a.json").class_names == ["red"]


CONTENT = {
    "images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 48}],
    "categories": [{"id": 1, "name": "red"}],
}


def test_lists_of_images(tmp_path, write):
    path = write(tmp_path / "list.txt", "a.jpg\n\nb c.jpg\n")
    assert list_images(list_file=str(path)) == ["a.jpg", "b c.jpg"]


def test_configurations_and_what_they_inherit(tmp_path, write):
    write(tmp_path / "base.yml", "epoch: 3\nnum_classes: 5\n")
    path = write(tmp_path / "c.yml", "_BASE_: [base.yml]\nnum_classes: 7\n")
    cfg = load_config(str(path))
    assert (cfg["epoch"], cfg["num_classes"]) == (3, 7)


def test_settings_of_exports_and_tokens(tmp_path, write):
    write(tmp_path / "infer_cfg.yml", "Preprocess: []\nlabel_list: [red]\n")
    assert read_infer_cfg(tmp_path)["label_list"] == ["red"]
    assert read_token(str(write(tmp_path / "token", "secret\n"))) == "secret"


def test_files_that_were_put_together_have_marks_in_between(tmp_path):
    mark = codecs.BOM_UTF8
    (tmp_path / "x.txt").write_bytes(mark + b"cat\n" + mark + b"dog \r\n \n" + mark + b"\n" + mark + mark + b"cow")
    assert ImageFolder(anno_path=str(tmp_path / "x.txt")).class_names == ["cat", "dog", "cow"]
    assert list_images(list_file=str(tmp_path / "x.txt")) == ["cat", "dog", "cow"]
    content = {**CONTENT, "categories": [{"id": 1, "name": "\ufeffred"}]}  # of a converter that took it for a letter
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert ImageFolder(anno_path=str(tmp_path / "a.json")).class_names == ["red"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\n".encode("utf-16-le"), "has NUL characters, as UTF-16 without a byte order mark has"),
        (codecs.BOM_UTF8, "is empty"),
        (b" \r\n", "is empty"),
    ],
)
def test_texts_that_name_nothing(tmp_path, content, message):
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        ImageFolder(anno_path=str(tmp_path / "x.txt"))
    with pytest.raises(DataError, match="NUL" if "NUL" in message else "no image paths in it"):
        list_images(list_file=str(tmp_path / "x.txt"))


def test_other_encodings_are_refused_in_one_line(tmp_path):
    (tmp_path / "labels.txt").write_bytes("größe\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.txt .*UTF-8") as failure:
        ImageFolder(dataset_dir=str(tmp_path), anno_path="labels.txt")
    assert "\n" not in str(failure.value)


def reads_text(node: ast.AST) -> bool:
    """Whether this is a call of read_text of a path, or of open() to read text."""
    if not isinstance(node, ast.Call):
        return False
    if isinstance(node.func, ast.Attribute):
        return node.func.attr == "read_text"
    if not (isinstance(node.func, ast.Name) and node.func.id == "open"):
        return False
    modes = [*node.args[1:2], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    mode = modes[0].value if modes and isinstance(modes[0], ast.Constant) else "" if modes else "r"
    return "r" in mode and "b" not in mode


def test_the_check_below_finds_what_it_looks_for():
    found = "open(a)", "open(a, 'r')", "open(a, encoding='utf-8')", "open(a, mode='r')", "Path(a).read_text()"
    other = "open(a, 'rb')", "open(a, 'w')", "storage.open(a)", "read_text(a)", "open(a, 'ab' if b else 'wb')"
    assert all(any(map(reads_text, ast.walk(ast.parse(code)))) for code in found)
    assert not any(any(map(reads_text, ast.walk(ast.parse(code)))) for code in other)


# What these read is no user's: /proc/cpuinfo, and a page that the tool wrote itself. The acceptance kit reads what its
# own processes have written.
OTHERS = {
    "ppdet/modeling/cpu/__init__.py",
    "ppdet/utils/process/cpu.py",
    "ppdet/utils/process/paddle_setup.py",
    "tools/model_zoo.py",
}


def test_every_reader_of_text_knows_byte_order_marks():
    """All text is read by ppdet.utils.disk.files.read_text: a mark would become part of the first name or key."""
    readers = set()
    for folder in ("ppdet", "tools", "deploy", "dataset"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if any(map(reads_text, ast.walk(ast.parse(path.read_text(encoding="utf-8"))))):
                readers.add(path.relative_to(ROOT).as_posix())
    readers = {name for name in readers if not name.startswith("ppdet/acceptance/")}
    assert readers <= OTHERS
