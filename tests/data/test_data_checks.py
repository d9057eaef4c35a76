"""Checks of data sets: each mistake is reported with counts and an example; sound data sets are not reported."""

import numpy as np
import pytest

from ppdet.data.data_checks import RawBoxes, box_findings, class_findings, few_images, shared_images

SIZE = (640, 480)


def boxes(xywh, image=None, size=SIZE):
    """Boxes [x, y, width, height], one in each image unless `image` says where."""
    xywh = np.array(xywh, dtype=np.float64).reshape(-1, 4)
    image = np.arange(len(xywh)) if image is None else np.array(image)
    count = max(image.max(initial=0) + 1, 1)
    xyxy = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    sides = (np.full(count, side) for side in size)
    return RawBoxes(xyxy, image, *sides, [f"{i}.jpg" for i in range(count)])


def drawn(count, seed=0, size=SIZE, least=8, most=200):
    """Sound boxes (count, 4) as [x, y, width, height]."""
    rng = np.random.default_rng(seed)
    wh = rng.uniform(least, np.minimum(most, size), (count, 2))
    return np.concatenate([rng.uniform(0, np.array(size) - wh), wh], axis=1)


def found(xywh, image=None, size=SIZE, ids=None):
    listed = boxes(xywh, image, size)
    return box_findings(listed, list(listed.image) if ids is None else ids)


def corners(xywh):
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def middles(xywh):
    return np.concatenate([xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]], axis=1)


@pytest.mark.parametrize(
    "sound",
    [
        drawn(1),
        drawn(3),
        drawn(2000),
        drawn(300, most=640),
        drawn(300, least=1, most=4),  # tiny objects
        [[0, 0, 640, 480]] * 30,  # crops that are one object each
        [[-2, -3, 645, 486]] * 30,  # drawn a little beyond the border
        [[1, 1, 639, 479]] * 30,
        [[320, 240, 320, 240]] * 30,
        [[600, 440, 60, 60]] + [[10, 10, 50, 50]] * 19,  # one that leaves its image
        drawn(200, size=(80, 80), most=60),  # objects at the top left, of images that are larger
        [[0, 0, 1, 1], [5, 5, 40, 30]],  # a single pixel
    ],
    ids=range(12),
)
def test_sound_boxes_are_not_told(sound):
    assert found(sound) == []


@pytest.mark.parametrize("count", [2, 20, 2000])
def test_corners_are_told(count):
    (text,) = found(corners(drawn(count, seed=1)))
    assert text.startswith("the boxes look like [x1, y1, x2, y2]: read as [x, y, width, height]")
    right = corners(drawn(count, seed=1))
    leave = ((right[:, :2] + right[:, 2:]) > 1.02 * np.array(SIZE) + 2).any(axis=1)
    assert f"{leave.sum()} of {count} leave their image" in text
    example = ", ".join(f"{value:.6g}" for value in right[np.argmax(leave)])
    assert f"[{example}] in '{np.argmax(leave)}.jpg' (640 x 480 pixels)" in text


def test_corners_are_told_though_a_few_boxes_are_wrong_in_other_ways():
    assert "look like [x1, y1, x2, y2]" in found([*corners(drawn(400)), [0, 0, 0, 0], [np.nan] * 4])[-1]


def test_half_the_boxes_as_corners_is_not_taken_for_all():
    mixed = np.concatenate([corners(drawn(50)), drawn(50, size=(300, 200), most=20) + np.array([320, 240, 0, 0])])
    (text,) = found(mixed)
    leave = (mixed[:, :2] + mixed[:, 2:] > 1.02 * np.array(SIZE) + 2).any(axis=1).sum()
    assert text.startswith(f"{leave} of 100 boxes reach far beyond their image, e.g. [")


@pytest.mark.parametrize("convert", [corners, lambda b: b[:, [1, 0, 3, 2]]])
def test_one_other_mistake_hides_no_order(convert):
    """One box of 45 fits no reading at all: [0, 0, 2000, 2000]."""
    (text,) = found([*convert(drawn(44, seed=4)), [0, 0, 2000, 2000]])
    assert text.startswith("the boxes look like ") and ", 1: convert them" in text


def test_of_ten_boxes_one_may_fit_no_order():
    wide = [[600, 440, 60, 60]]  # leaves its image, and as corners it has no area
    assert found([*wide, *[[10, 10, 50, 50]] * 19]) == []
    (text,) = found([*corners(drawn(9, seed=1)), [0, 0, 2000, 2000]])
    assert text.startswith("the boxes look like [x1, y1, x2, y2]") and text.endswith(
        "read as [x1, y1, x2, y2], 1: convert them"
    )


ORDERS = {
    "[y1, x1, y2, x2]": lambda b: corners(b)[:, [1, 0, 3, 2]],
    "[x1, x2, y1, y2]": lambda b: corners(b)[:, [0, 2, 1, 3]],
    "[y, x, height, width]": lambda b: b[:, [1, 0, 3, 2]],
    "[middle x, middle y, width, height]": middles,
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("count", [60, 500])
def test_orders_are_told(name, count):
    """Boxes that lie outside of their image in this way are no finding of their own."""
    (text,) = found(ORDERS[name](drawn(count, seed=5)))
    assert text.startswith(f"the boxes look like {name}: read as [x, y, width, height]")


@pytest.mark.parametrize("count", [16, 45])
@pytest.mark.parametrize("convert", [*ORDERS.values(), corners])
def test_boxes_that_leave_their_image_are_told_whatever_they_are(count, convert):
    """Half of them are sound, so that no reading fits all."""
    mixed = np.concatenate([convert(drawn(count, seed=6, least=150, most=400)), drawn(count, seed=7)])
    (text,) = found(mixed)
    assert "reach far beyond it" in text or f" of {2 * count} boxes reach far beyond their image" in text


def test_a_few_boxes_beyond_the_border_are_left_to_the_log_line():
    assert found([*drawn(97), *[[600, 300, 70, 70]] * 3]) == []
    (text,) = found([*drawn(93), *[[600, 300, 70, 70]] * 7])
    assert text.startswith(
        "7 of 100 boxes reach far beyond their image, e.g. [600, 300, 70, 70] in '93.jpg' (640 x 480"
    )
    (text,) = found([*drawn(93), *[[-60, 30, 70, 70]] * 7])
    assert text.startswith("7 of 100 boxes reach far beyond their image, e.g. [-60, 30, 70, 70]")


def test_some_boxes_in_shares_are_told():
    (text,) = found([*drawn(5), *(drawn(40, seed=2) / [*SIZE, *SIZE])])
    assert text.startswith("40 of 45 boxes lie in 0..1, as shares of the image")
    assert found([*drawn(43), *[[0, 0, 1, 1]] * 2]) == [], "single pixels"


@pytest.mark.parametrize("count", [1, 3, 500])
@pytest.mark.parametrize("convert", [lambda b: b, corners, middles])
def test_shares_of_the_image_are_told(count, convert):
    normalized = convert(drawn(count, seed=2) / [*SIZE, *SIZE])
    (text,) = found(normalized)
    assert text.startswith(f"{count} of {count} boxes lie in 0..1, as shares of the image, e.g. [")
    assert "multiply by the image's width and height (" in text


def test_percent_is_told():
    percent = drawn(300, seed=3) / [*SIZE, *SIZE] * 100
    percent[0, :2] = 100.0001 - percent[0, 2:]  # up to the border, and what rounding adds
    (text,) = found(percent)
    assert "300 of 300 boxes lie in 0..100, as percent of the image" in text and "divided by 100" in text
    assert found(percent, size=(120, 110)) == [], "in small images that is where boxes are"
    assert found(percent[:5]) == [], "of a few boxes it cannot be said"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ([[10, 10, 0, 0], [10, 10, 5, -5]], "2 of 22 boxes cannot be used (2 without area), e.g. [10, 10, 0, 0] in"),
        ([[700, 10, 20, 20], [-30, 5, 20, 20]], "(2 outside of their image), e.g. [700, 10, 20, 20] in '20.jpg'"),
        ([[np.nan, 1, 1, 1], [1, 1, np.inf, 1]], "(2 null or not numbers)"),
        ([[700, 10, 20, 20], [5, 5, 0, 9]], "(1 without area, 1 outside of their image)"),
        ([[640, 0, 10, 10]], "1 of 21 boxes cannot be used (1 outside"),
    ],
)
def test_unusable_boxes_are_counted_by_kind(wrong, text):
    (line,) = found([*drawn(20), *wrong])
    assert text in line


def test_boxes_of_larger_images_are_told():
    (text,) = found(drawn(200) * 2)
    assert "outside of their image)" in text and text.endswith("or were they drawn on larger copies of the images?")
    (text,) = found([*drawn(20), [700, 10, 20, 20]])
    assert "larger copies" not in text


def test_a_very_few_unusable_boxes_of_many_are_left_to_the_log_line():
    assert found([*drawn(999), [1, 1, 0, 0], [2, 2, 0, 0]]) == []
    assert len(found([*drawn(997), [1, 1, 0, 0], [2, 2, 0, 0], [2, 2, 0, 0]])) == 1


def test_annotations_of_images_that_are_not_listed_are_counted():
    (text,) = found(drawn(5), image=[0, -1, 1, -1, 1], ids=[7, 90, 8, 91, 8])
    assert text.startswith("2 of 5 annotations belong to images that the file does not list, e.g. image_id 90: ")


def test_files_without_any_are_told():
    (text,) = found(np.empty((0, 4)))
    assert text.startswith("it has no annotations")
    (text,) = found(drawn(2), image=[-1, -1], ids=[1, 2])
    assert text.startswith("2 of 2 annotations belong to images")


def test_classes_without_a_box_are_named():
    (text,) = class_findings(["a", "b", "c"], [1, 2, 3], np.array([4, 0, 1]), "so what")
    assert text.startswith("1 of 3 classes have no box: 'b': so what")
    assert class_findings(["a", "b"], [1, 2], np.array([1, 1]), "") == []
    (text,) = class_findings([f"c{i}" for i in range(80)], range(80), np.arange(80) > 70, "x")
    assert text.startswith("71 of 80 classes have no box: 'c0', ") and "'c7', and 63 more: x" in text


def test_classes_of_one_name_are_told():
    (text,) = class_findings(["helmet", "hat", "helmet"], [0, 1, 5], np.array([1, 1, 1]), "")
    assert text.startswith("categories 0, 5 are all called 'helmet'")


@pytest.mark.parametrize(
    ("count", "training", "text"),
    [
        (1, True, "only 1 image to train on"),
        (3, True, "only 3 images to train on"),
        (3, False, "only 3 images to eval"),
        (20, True, None),
        (10, False, None),
    ],
)
def test_few_images_are_told(count, training, text):
    told = few_images(count, training=training)
    assert told is None if text is None else told.startswith(text)


def test_shared_images_by_path_and_by_content(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    for i in range(6):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"picture %d" % i)
        (tmp_path / "b" / f"{i}.png").write_bytes(b"picture %d" % (i if i < 2 else 9 - i))  # of one size all
    (tmp_path / "link").symlink_to(tmp_path / "a")
    a, b, link = ([str(tmp_path / folder / f"{i}.png") for i in range(6)] for folder in ("a", "b", "link"))
    assert shared_images(a[:3], a[2:]) == (1, a[2])
    assert shared_images(a[:3] * 2, a[1:]) == (2, a[1]), "each once, with repeat too"
    assert shared_images(link, a) == (6, link[0])
    assert shared_images(b, a) == (2, b[0]), "same name and content"
    assert shared_images(b[2:], a) == (0, None), "same names and sizes of files alone mean nothing"
    assert shared_images(a[:3], a[3:]) == (0, None)
    assert shared_images([str(tmp_path / "a" / "gone.png")], [str(tmp_path / "b" / "gone.png")]) == (0, None)


def test_all_files_of_the_same_name_are_compared(tmp_path):
    """The last 4 of 300 are copies, one of which has a namesake in another folder, and 2 more are the same files."""
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    for i in range(300):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"%d" % i)
        (tmp_path / "b" / f"{i}.png").write_bytes(b"%d" % (i if i >= 296 else i + 1000))
    (tmp_path / "c" / "299.png").write_bytes(b"another")
    a, b = ([str(tmp_path / folder / f"{i}.png") for i in range(300)] for folder in ("a", "b"))
    assert shared_images(a, b) == (4, a[296])
    assert shared_images(a, [*b, str(tmp_path / "c" / "299.png")]) == (4, a[296])
    assert shared_images([*a, *b[:2]], b) == (6, a[296])
    assert shared_images(a, a) == (300, a[0])
