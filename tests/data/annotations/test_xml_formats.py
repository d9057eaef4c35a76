"""The split of Pascal VOC and CVAT, by their own lists and subsets."""

import pytest
from exported import BOX, VOC, converted, images

SUBSETS = [("a", "Train"), ("b", "training"), ("c", "Validation"), ("d", "valid"), ("e", "TEST"), ("f", "batch_3")]
SHAPE = '<box label="cat" xtl="10" ytl="20" xbr="30" ybr="40"/>'


def cvat(*subsets: tuple[str, str]) -> str:
    rows = (f'<image name="{n}.png" subset="{s}" width="100" height="80">{SHAPE}</image>' for n, s in subsets)
    return f"<annotations>{''.join(rows)}</annotations>"


def test_subsets_of_cvat_are_parts_and_no_image_is_lost(tmp_path):
    files = {**images(*(f"{name}.png" for name, _ in SUBSETS)), "a.xml": cvat(*SUBSETS)}
    found, losses = converted(tmp_path, files)
    assert found == {
        "train": {"a.png": [BOX], "b.png": [BOX]},
        "val": {"c.png": [BOX], "d.png": [BOX]},
        "test": {"e.png": [BOX]},
        "unsplit": {"f.png": [BOX]},
    }
    assert not losses


def test_subsets_of_cvat_that_are_no_parts_are_one_file(tmp_path):
    files = {**images("a.png", "b.png"), "a.xml": cvat(("a", "batch_1"), ("b", "batch_2"))}
    assert converted(tmp_path, files)[0] == {"all": {"a.png": [BOX], "b.png": [BOX]}}


TRAINVAL = "a\nb b\n"


@pytest.mark.parametrize(
    ("lists", "parts"),
    [
        ({"test": "c\n"}, {"train": ["a.png", "b b.png"], "test": ["c.png"]}),
        ({"val": "b b\n", "test": "c"}, {"train": ["a.png"], "val": ["b b.png"], "test": ["c.png"]}),
        ({"train": "b b", "val": "c"}, {"train": ["b b.png"], "val": ["c.png"], "unsplit": ["a.png"]}),
    ],
    ids=["VOC 2007", "val", "train"],
)
def test_lists_of_pascal_voc(lists, parts, tmp_path):
    names = ("a", "b b", "c")
    files = {f"ImageSets/Main/{name}.txt": text for name, text in {"trainval": TRAINVAL, **lists}.items()}
    files |= {**images(*(f"JPEGImages/{name}.png" for name in names)), **{f"A/{name}.xml": VOC for name in names}}
    found, _ = converted(tmp_path, files)
    assert {part: list(rows) for part, rows in found.items()} == parts
