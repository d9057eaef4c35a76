import colorsys
import resource

import cv2
import numpy as np
import pytest

from ppdet.utils.locations import Locations
from ppdet.visualize import draw_batch, draw_detections, draw_pseudo_labels, write_picture
from ppdet.visualize.box_drawing import draw_boxes, text_color
from ppdet.visualize.draw import LEVEL_COLORS, batch_panels, class_color
from ppdet.visualize.pages.gallery import shrinks

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRIDES = (8, 16, 32)


def test_draws_what_reaches_the_threshold_on_a_copy():
    image = np.full((200, 300, 3), 90, np.uint8)
    rows = np.array([[0, 0.9, 20, 60, 120, 150], [1, 0.4, 180, 60, 280, 150]], np.float32)
    drawn = draw_detections(image, rows, ["cat", "dog"], 0.5)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert (image == 90).all()
    changed = (drawn != 90).any(axis=2)
    assert changed[60:151, 20].all() and changed[150, 20:121].all()
    assert not changed[:, 170:].any(), "the score of the second one is too low"
    assert tuple(drawn[100, 20]) == class_color(0)
    assert not changed[70:145, 30:110].any(), "the object itself stays visible"


def test_nothing_to_draw_gives_the_image():
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    rows = np.array([[0, np.nan, 0, 0, 1, 1], [-1, 0.9, 0, 0, 1, 1], [0, 0.9, 0, 0, np.inf, 1]])
    for nothing in (np.zeros((0, 6)), [], rows):
        assert (draw_detections(image, nothing, ["a"], 0.5) == image).all()


@pytest.mark.parametrize("size", [(1, 1), (10, 2000), (40, 40), (1000, 1500)])
@pytest.mark.parametrize(
    "box", [(-50, -50, 5000, 5000), (0, 0, 0, 0), (1e9, 1e9, 2e9, 2e9), (3, 3, 30, 30), (30, 30, 3, 3)]
)
def test_any_box_on_any_image(size, box):
    image = np.zeros((*size, 3), np.uint8)
    assert draw_detections(image, np.array([[7, 1.0, *box]]), ["a long class name"], 0).shape == image.shape


@pytest.mark.parametrize("box", [(250, 100, 298, 150), (5, 2, 60, 50), (260, 180, 299, 199)])
def test_the_label_lies_in_the_image(box):
    image = np.zeros((200, 300, 3), np.uint8)
    rows = np.array([[0, 0.87, *box]], np.float32)
    drawn = draw_detections(image, rows, ["platelets"], 0.5)
    center = draw_detections(image, np.array([[0, 0.87, 100, 100, 110, 110]]), ["platelets"], 0.5)
    # The filled label has as many pixels as the one that has all the room it needs.
    ink = [(picture > 0).any(axis=2).sum() for picture in (drawn, center)]
    box_pixels = 2 * (box[2] - box[0] + box[3] - box[1])
    assert abs(ink[0] - ink[1]) <= box_pixels + 40


def test_eighty_classes_have_eighty_colors_and_neighbors_differ_in_hue():
    colors = [class_color(i) for i in range(80)]
    assert len(set(colors)) == 80
    hues = [colorsys.rgb_to_hsv(*color)[0] for color in colors[:8]]
    gaps = [min(abs(a - b), 1 - abs(a - b)) for i, a in enumerate(hues) for b in hues[:i]]
    assert min(gaps) > 0.05


def test_bad_images_and_rows_are_one_line_errors():
    good = np.zeros((10, 10, 3), np.uint8)
    for image, rows in [(np.zeros((10, 10)), []), (good.astype(float), []), (good, np.zeros((1, 5)))]:
        with pytest.raises(ValueError) as caught:
            draw_detections(image, rows, ["a"], 0.5)
        assert "expected" in str(caught.value) and "\n" not in str(caught.value)


def make_batch(count=2, height=64, width=96):
    pixels = np.full((count, 3, height, width), 128 / 255, np.float32)
    image = (pixels - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    locations = [(-(-height // s)) * (-(-width // s)) for s in STRIDES]
    labels = np.zeros((count, sum(locations)), np.int32)
    return {
        "image": image.astype(np.float32),
        "gt_bbox": np.zeros((count, 3, 4), np.float32),
        "gt_class": np.full((count, 3), -1, np.int32),
        "target_labels": labels,
    }


def read(path):
    return cv2.imread(str(path))[..., ::-1]


def test_batch_picture_undoes_the_normalization(tmp_path):
    draw_batch(make_batch(1), tmp_path / "new" / "batch.png", MEAN, STD, Locations(STRIDES))
    picture = read(tmp_path / "new" / "batch.png")
    assert picture.shape[1] == 480 + 12
    assert (picture[20:300, 20:470] == 128).all()


def test_colors_of_a_bgr_batch_are_right(tmp_path):
    """A batch of BGR is drawn as the RGB batch of the same pixels."""
    rng = np.random.default_rng(0)
    mean, std = np.array([0.4, 0.45, 0.5]), np.array([0.1, 0.2, 0.3])
    rgb = (rng.random((1, 3, 64, 96)) - mean[:, None, None]) / std[:, None, None]
    draw_batch({"image": rgb}, tmp_path / "rgb.png", mean, std, Locations(STRIDES))
    draw_batch({"image": rgb[:, ::-1]}, tmp_path / "bgr.png", mean[::-1], std[::-1], Locations(STRIDES), is_bgr=True)
    assert np.array_equal(read(tmp_path / "rgb.png"), read(tmp_path / "bgr.png"))
    dots = [np.array([[20.0, 20.0, 1.0]])]
    teachers = draw_pseudo_labels(list(rgb), dots, mean, std, STRIDES)
    again = draw_pseudo_labels(list(rgb[:, ::-1]), dots, mean[::-1], std[::-1], STRIDES, is_bgr=True)
    assert np.array_equal(teachers, again)


def test_positive_locations_are_dots_at_their_place_in_the_color_of_their_level(tmp_path):
    batch = make_batch(1)
    columns = 96 // 8
    batch["target_labels"][0, 3 * columns + 5] = 2  # level 0, row 3, column 5
    batch["target_labels"][0, 8 * 12 + 1 * 6 + 2] = 1  # level 1, row 1, column 2
    draw_batch(batch, tmp_path / "a.png", MEAN, STD, Locations(STRIDES))
    picture = read(tmp_path / "a.png")
    scale = 480 / 96
    for (x, y), level in (((44, 28), 0), ((40, 24), 1)):
        assert tuple(picture[6 + round(y * scale), 6 + round(x * scale)]) == LEVEL_COLORS[level]
    legend = picture[-32:]
    assert all((legend == color).all(axis=2).any() for color in LEVEL_COLORS[:3])

    draw_batch(batch, tmp_path / "b.png", MEAN, STD, Locations(STRIDES, shift=0))
    assert tuple(read(tmp_path / "b.png")[6 + round(24 * scale), 6 + round(40 * scale)]) == LEVEL_COLORS[0]


def test_even_locations(tmp_path):
    """Two locations of stride 64 are 96 // 2 = 48 apart in an image that is 96 wide."""
    batch = {**make_batch(1), "target_labels": np.zeros((1, 8 * 12 + 2), np.int32)}
    batch["target_labels"][0, -1] = 1
    draw_batch(batch, tmp_path / "a.png", MEAN, STD, Locations((8, 64), even=True))
    scale = 480 / 96
    assert tuple(read(tmp_path / "a.png")[6 + round(32 * scale), 6 + round(72 * scale)]) == LEVEL_COLORS[1]


def test_boxes_are_drawn_and_padding_is_not(tmp_path):
    batch = make_batch(1)
    batch["gt_bbox"][0, 0] = (20, 20, 60, 50)
    batch["gt_class"][0, 0] = 4
    draw_batch(batch, tmp_path / "a.png", MEAN, STD, Locations(STRIDES), class_names=["a", "b", "c", "d", "e"])
    picture = read(tmp_path / "a.png")
    assert tuple(picture[6 + 200, 6 + 100]) == class_color(4)
    assert not (picture == class_color(0)).all(axis=2).any()


@pytest.mark.parametrize("count, columns, rows", [(1, 1, 1), (2, 2, 1), (3, 2, 2), (8, 4, 2), (20, 4, 2)])
def test_grid_of_at_most_eight(tmp_path, count, columns, rows):
    batch = make_batch(count)
    del batch["target_labels"]
    draw_batch(batch, tmp_path / "a.png", MEAN, STD, Locations(STRIDES))
    assert read(tmp_path / "a.png").shape == (rows * (320 + 6) + 6, columns * (480 + 6) + 6, 3)


def test_wrong_number_of_locations_or_suffix_is_a_one_line_error(tmp_path):
    batch = make_batch(1)
    with pytest.raises(ValueError, match="expected a name with"):
        draw_batch(batch, tmp_path / "a.xyz", MEAN, STD, Locations(STRIDES))
    with pytest.raises(ValueError, match=r"expected \(126,\) for images of 64 x 96"):
        draw_batch({**batch, "target_labels": np.zeros((1, 5))}, tmp_path / "a.png", MEAN, STD, Locations(STRIDES))
    assert list(tmp_path.iterdir()) == []


def test_selected_locations_and_true_boxes_of_images_of_two_sizes():
    wide, high = (np.zeros((3, *size), np.float32) for size in ((64, 96), (96, 48)))
    selected = [np.array([[44.0, 28, 0], [70, 50, 2]]), np.array([[8.0, 80, 1]])]
    truth = [(np.array([[20.0, 10, 60, 40]]), np.array([4])), (np.zeros((0, 4)), np.zeros(0, int))]
    picture = draw_pseudo_labels([wide, high], selected, MEAN, STD, STRIDES, title=["epoch 5", "recall"], truth=truth)
    scale, title = 5, 32  # 480 / 96 in both
    for left, (x, y), level in ((0, (44, 28), 0), (0, (70, 50), 2), (486, (8, 80), 1)):
        assert tuple(picture[title + 6 + y * scale, 6 + left + x * scale]) == LEVEL_COLORS[level]
    # Thin: one pixel.
    middle = picture[title + 6 + 25 * scale, 6 : 6 + 480]
    assert np.flatnonzero((middle == class_color(4)).all(axis=1)).tolist() == [100, 300]
    assert (picture[:title] < 100).any() and (picture[:title, -300:] == 255).all()
    legend = picture[-32:]
    assert all((legend == color).all(axis=2).any() for color in LEVEL_COLORS[:3])

    bare = draw_pseudo_labels([wide, high], selected, MEAN, STD, STRIDES)
    assert len(bare) == len(picture) - title
    assert not (bare == class_color(4)).all(axis=2).any()


def test_a_written_picture_comes_back(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    write_picture(picture, tmp_path / "a.png")
    assert (read(tmp_path / "a.png") == picture).all()


def test_a_picture_that_cannot_be_written_leaves_the_older_one(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    write_picture(picture, tmp_path / "a.png")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(OSError, match=r"a\.png: the picture cannot be written \(File too large\)"):
            write_picture(255 - picture, tmp_path / "a.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (read(tmp_path / "a.png") == picture).all()


@pytest.mark.parametrize(
    ("ground", "text"),
    [
        # White on the first two has a contrast below the 4.5 of WCAG's level AA.
        ((242, 61, 36), (0, 0, 0)),
        ((0, 178, 147), (0, 0, 0)),
        ((139, 0, 0), (255, 255, 255)),
        ((0, 0, 255), (255, 255, 255)),
        ((255, 255, 0), (0, 0, 0)),
    ],
)
def test_text_on_a_color(ground, text):
    assert text_color(ground) == text


@pytest.mark.parametrize("size", [(360, 480), (480, 480), (280, 210), (96, 128)])
def test_labels_of_thumbnails_are_as_high_in_the_gallery_as_those_of_small_pictures(size):
    """The gallery shows 480 pixels in a width of 280; a letter of OpenCV's smallest legible font has 8 pixels."""
    image = np.full((*size, 3), 90, np.uint8)
    draw_boxes(image, np.array([[20, 60, 70, 90]]), [class_color(0)], ["H"], shrinks(image))
    label = (image[:60, 20] == class_color(0)).all(axis=1).sum() * min(1, 280 / max(size))
    assert 10.5 <= label <= 14


def test_labels_of_shown_batches_grow():
    batch = {"image": np.zeros((1, 3, 240, 320), np.float32), "gt_bbox": np.array([[[20.0, 60, 70, 90]]])}
    batch["gt_class"] = np.zeros((1, 1), int)
    heights = []
    for factor in (1.0, 2.0):
        [(panel, _)] = batch_panels(batch, MEAN, STD, Locations(STRIDES), 1, class_names=["H"], shrinks=factor)
        heights.append((panel[:90, 30] == class_color(0)).all(axis=1).sum())
    assert heights[1] == pytest.approx(2 * heights[0], abs=3) and heights[0] > 5
