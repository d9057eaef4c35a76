"""Images in windows: as `Detector` does it, and within the limits of memory."""

import cv2
import numpy as np
import pytest
from patience import PATIENCE, wait_until
from serving import Client

from ppdet.deploy import Detector
from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.service import Service
from ppdet.deploy.slicing import Slicing

# Images of 77 x 101 become two rows of three windows, and 77 x 50 two windows.
SLICING = Slicing(size=(48, 50), combine="nmm")
MAX_BATCH = 2


@pytest.fixture(scope="module")
def sliced(served):
    settings = Settings(timeout_s=PATIENCE, max_batch=MAX_BATCH, max_windows=6)
    with Client(Service(ServedModel(served, "paddle", threads=1, slicing=SLICING), settings)) as client:
        yield client


def is_at_rest(service):
    slots = service.slots, service.sliced.pixels.slots
    return [one.free for one in slots] == [4 * MAX_BATCH, len(service.preparing)] and not service.batcher.waiting


def as_png(pixels):
    return cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1]))[1].tobytes()


def test_answers_are_those_of_the_detector(sliced, served, images):
    """Many at once, so that windows of several images share batches; one image is no larger than a window."""
    detector = Detector(served, "paddle", threads=1)
    small = as_png(np.random.default_rng(0).integers(0, 256, (48, 50, 3), np.uint8))
    files = [*images, small]
    answers = [sliced.start(sliced.service.detect(image)) for image in files * 2]
    for image, answer in zip(files * 2, [answer.result(PATIENCE) for answer in answers]):
        expected = detector.predict_sliced(image, SLICING)
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        assert (answer.height, answer.width) == pixels.shape[:2] and 1 <= answer.batch_size <= MAX_BATCH
        assert len(answer.detections) == len(expected) > 3
        np.testing.assert_allclose(answer.detections.rows, expected.rows, rtol=1e-4, atol=1e-4)
        assert answer.timing_ms.keys() == {"prepare", "queue", "inference"} and min(answer.timing_ms.values()) >= 0
    assert is_at_rest(sliced.service)
    assert len(detector.predict_sliced(images[0], SLICING)) != len(detector.predict(images[0]))


def test_windows_count_as_images_of_batches(sliced, images):
    before = sliced.metric("ppdet_batch_size_sum")
    answer = sliced.post("/predict?threshold=0", files={"image": images[0]})
    assert answer.status_code == 200 and answer.json()["image"] == {"width": 101, "height": 77}
    assert sliced.metric("ppdet_batch_size_sum") - before == 6


def test_an_image_of_too_many_windows_is_refused(sliced, images):
    image = as_png(np.zeros((49, 160, 3), np.uint8))  # 2 x 4
    answer = sliced.post("/predict", files={"image": image})
    assert answer.status_code == 413 and answer.json() == {"error": "the image has 8 windows: at most 6"}
    assert sliced.post("/predict", files={"image": b"no image"}).status_code == 400
    assert sliced.post("/predict", files={"image": images[0][: len(images[0]) // 2]}).status_code == 400
    assert is_at_rest(sliced.service)


def test_a_window_that_fails_ends_its_image_only(sliced, images, monkeypatch):
    run, failed = sliced.service.batcher.run, []

    def run_or_fail(samples):
        if not failed:
            failed.extend(samples)
            raise ValueError("no")
        if len(samples) == 1 and samples[0] in failed[:1]:
            raise ValueError("never")
        return run(samples)

    monkeypatch.setattr(sliced.service.batcher, "run", run_or_fail)
    work = [sliced.start(sliced.service.detect(image)) for image in images[:2]]
    errors = [one.exception(PATIENCE) for one in work]
    assert sorted(str(error) for error in errors) in (["None", "never"], ["None", "no"])
    wait_until(lambda: is_at_rest(sliced.service))


def test_nothing_is_left_of_a_request_that_is_given_up(sliced, images):
    """Its places are free again when the processes are done with what they have."""
    with sliced.batches(MAX_BATCH, 0.0):
        work = [sliced.start(sliced.service.detect(image)) for image in images * 3]
        wait_until(lambda: sliced.service.batcher.running)
        for one in work:
            one.cancel()
        wait_until(lambda: is_at_rest(sliced.service) and not sliced.service.batcher.running)
    assert sliced.post("/predict", files={"image": images[0]}).status_code == 200
