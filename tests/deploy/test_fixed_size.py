"""A graph of fixed size: images that fit are padded, larger ones are refused, by every way of input."""

import cv2
import numpy as np
import pytest
from toy import write_toy

from ppdet.deploy.batch.worker import DetectorWorker, WorkerSettings, new_row
from ppdet.deploy.detector import Detector
from ppdet.deploy.preprocess import Preprocess
from ppdet.deploy.slicing import Slicing
from ppdet.utils.errors import ImageError

OPERATIONS = [{"type": "NormalizeImage", "mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True}, {"type": "Permute"}]
SIZE = {"use_dynamic_shape": False, "image_shape": [3, 64, 96]}
TOO_LARGE = [(64, 97), (65, 96), (10, 200), (200, 10)]


def image(height, width):
    return np.full((height, width, 3), 51, np.uint8)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    return Detector(write_toy(tmp_path_factory.mktemp("fixed"), OPERATIONS, **SIZE), threads=1)


@pytest.mark.parametrize(("height", "width"), TOO_LARGE)
def test_one_pixel_more_is_refused(detector, tmp_path, log, height, width):
    message = f"{height}x{width} after resizing, but the graph takes 64x96 at most: export it with"
    with pytest.raises(ImageError, match=message):
        detector.predict(image(height, width))
    with pytest.raises(ImageError, match=message):
        detector.predict([image(64, 96), image(height, width)])
    with pytest.raises(ImageError, match=message):
        detector.predict_sliced(image(height, width), Slicing((height, width)))
    # Of many files it is one that is left out.
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for path, size in zip(paths, ((height, width), (60, 90))):
        cv2.imwrite(path, image(*size))
    assert [place for place, _ in detector.detect(paths)] == [1]
    assert f"image skipped: {paths[0]}: {message}" in log.text
    worker = DetectorWorker.__new__(DetectorWorker)
    worker.detector, worker.settings = detector, WorkerSettings("", "paddle", "cpu", "fp32", 1, 1, None)
    row = new_row(0, "a", "a")
    assert not list(worker.prepare(paths[0], row)) and message in row["error"]


def test_what_fits_is_padded():
    preprocess = Preprocess({"Preprocess": OPERATIONS, **SIZE})
    sizes = [(64, 96), (64, 5), (5, 96), (33, 70)]
    ((places, arrays),) = preprocess.batches([preprocess.prepare(image(*size)) for size in sizes])
    assert places == [0, 1, 2, 3] and arrays["image"].shape == (4, 3, 64, 96)
    assert arrays["im_shape"].tolist() == [list(size) for size in sizes]
    for padded, (height, width) in zip(arrays["image"], sizes):
        assert (padded[:, :height, :width] > 0.1).all()
        assert not padded[:, height:].any() and not padded[:, :, width:].any()


def test_large_images_in_windows(detector):
    """Each window fits."""
    found = detector.predict_sliced(image(64, 200), Slicing((64, 96), (0, 0), combine="concat"))
    assert sorted(found.boxes[:, 0].tolist()) == [16, 112, 120]  # the last window is moved inwards
