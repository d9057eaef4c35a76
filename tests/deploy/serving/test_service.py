"""A service whose processes are killed and stopped, with a real model: what is asked for comes, or ends in time.

No test asserts how long something takes. What has to come first is waited for.
"""

import os
import signal

import cv2
import numpy as np
import pytest
from patience import PATIENCE, wait_until

from ppdet.data.loading.views import View
from ppdet.deploy.preprocess import Preprocess, read_infer_cfg
from ppdet.deploy.serving import jobs, service
from ppdet.deploy.serving.jobs import Preparer, Runner, ServedModel
from ppdet.deploy.serving.slots import IS_SPARSE, Slots
from ppdet.deploy.tta import TTA
from ppdet.utils.errors import DataError

STUCK_S = 0.5  # a time limit for requests that cannot be answered


def counted(client, name, worker):
    return client.metric(f"ppdet_worker_{name}_total", worker=worker)


def send(client, image):
    return client.start(client.client.post("/predict?threshold=0.45", files={"image": image}))


def test_a_stuck_model_ends_no_more_than_its_requests(client, images, monkeypatch):
    """Its process is stopped, as one that holds Python's lock for long; the server answers all the same."""
    monkeypatch.setattr(service, "LEAST_LIMIT_S", 0)
    model = client.service.model
    killed, pid = counted(client, "kills", "model"), model.pid
    os.kill(pid, signal.SIGSTOP)
    with client.settings(timeout_s=STUCK_S):
        stuck = send(client, images[0])
        wait_until(lambda: not model.idle)
        assert client.get("/healthz").status_code == 200 and not stuck.done()
        assert stuck.result(PATIENCE).status_code == 504
        wait_until(lambda: model.pid != pid)
    wait_until(lambda: client.service.obstacle == "the model's process is starting")
    assert client.get("/readyz").status_code == 503
    assert counted(client, "kills", "model") == killed + 1
    wait_until(lambda: client.service.obstacle is None)
    assert client.get("/readyz").status_code == 200
    assert send(client, images[0]).result(PATIENCE).status_code == 200
    assert client.service.slots.free == 16


def test_a_model_that_is_killed_loses_no_request(client, images):
    model, batcher = client.service.model, client.service.batcher
    first = send(client, images[0]).result(PATIENCE).json()["detections"]
    restarts, pid = counted(client, "restarts", "model"), model.pid
    os.kill(pid, signal.SIGSTOP)
    requests = [send(client, image) for image in images for _ in range(3)]
    wait_until(lambda: batcher.running and len(batcher.running) + len(batcher.waiting) == 12)
    os.kill(pid, signal.SIGKILL)
    answers = [request.result(PATIENCE) for request in requests]
    assert {answer.status_code for answer in answers} == {200}
    # Which images share a batch is another question than before, and may move the last bits.
    for name in ("box", "score"):
        again = [found[name] for found in answers[0].json()["detections"]]
        np.testing.assert_allclose(again, [found[name] for found in first], atol=0.011)
    assert counted(client, "restarts", "model") == restarts + 1


def test_an_image_whose_process_is_killed_is_prepared_by_another(client, images):
    preparing = client.service.preparing
    wait_until(lambda: all(process.ready for process in preparing))
    for process in preparing:
        os.kill(process.pid, signal.SIGSTOP)
    request = send(client, images[0])
    busy = wait_until(lambda: [process for process in preparing if not process.idle])
    assert len(busy) == 1
    os.kill(busy[0].pid, signal.SIGKILL)
    for process in preparing:
        if process is not busy[0]:
            os.kill(process.pid, signal.SIGCONT)
    assert request.result(PATIENCE).status_code == 200
    wait_until(lambda: all(process.ready for process in preparing))  # the killed one too, without a request


def test_an_image_that_kills_two_processes_is_given_up(client, images, log):
    preparing = client.service.preparing
    stopped = {process.pid for process in preparing}
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    request = send(client, images[0])
    for _ in range(2):
        # A process that is starting in the place of a killed one is not idle either: it has another number.
        busy = wait_until(lambda: [process.pid for process in preparing if not process.idle and process.pid in stopped])
        os.kill(busy[0], signal.SIGKILL)
        stopped.remove(busy[0])
    response = request.result(PATIENCE)
    assert response.status_code == 500
    assert response.json() == {"error": "the process died each time it decoded this image"}
    assert "an image is given up: the prepare process died (signal SIGKILL), twice in a row" in log.text
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: all(process.ready for process in preparing))
    assert send(client, images[0]).result(PATIENCE).status_code == 200


def test_processes_that_prepare_for_too_long_are_replaced(client, images, monkeypatch):
    monkeypatch.setattr(service, "LEAST_LIMIT_S", 0)
    preparing = client.service.preparing
    killed, pids = counted(client, "kills", "prepare"), [process.pid for process in preparing]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    with client.settings(timeout_s=STUCK_S):
        requests = [send(client, images[0]) for _ in preparing]
        assert [request.result(PATIENCE).status_code for request in requests] == [504] * len(pids)
        wait_until(lambda: counted(client, "kills", "prepare") == killed + len(pids))
    wait_until(lambda: all(process.ready for process in preparing))
    assert not set(pids) & {process.pid for process in preparing}
    assert send(client, images[0]).result(PATIENCE).status_code == 200
    wait_until(lambda: client.service.slots.free == 16)


def preparer_of(model, slots):
    """One in this process, which keeps its threads."""
    threads = cv2.getNumThreads()
    preparer = Preparer(model, slots)
    cv2.setNumThreads(threads)
    return preparer


def test_all_views_of_an_image_are_prepared_and_merged(served, images):
    """As `Detector` does it, in batches whose images are of several sizes, and with room for exactly these views."""
    tta = TTA((1.0, 0.5), iou=0.7)
    model = ServedModel(served, "paddle", threads=1, tta=tta)
    slots = Slots(2, jobs.slot_bytes(Preprocess(read_infer_cfg(served)), 10**6, model.views))
    preparer, runner = preparer_of(model, slots), Runner(model, slots)
    files = images[0], images[3]
    batch = [preparer.prepare(number, image, 10**6) for number, image in enumerate(files)]
    # 77 x 101 and 77 x 50, resized to 64 x 84 and 99 x 64 and half of that, and padded to multiples of 32.
    lying, upright = [(3, 64, 96)] * 2 + [(3, 32, 64)] * 2, [(3, 128, 64)] * 2 + [(3, 64, 32)] * 2
    assert [one.shapes for one in batch] == [lying, upright]
    assert all(isinstance(place, tuple) for one in batch for view in one.views for place in view.values())
    found, _ = runner.run(batch)
    for one, image in zip(found, files):
        expected = runner.detector.predict(image)
        assert len(expected) > 3
        np.testing.assert_allclose(one.rows, expected.rows, rtol=1e-4, atol=1e-4)


def test_views_that_would_be_too_large_are_refused(served, images):
    settings = read_infer_cfg(served)
    with pytest.raises(DataError, match=r"scale 1000: .* at most"):
        jobs.slot_bytes(Preprocess(settings), 10**6, [View(1000.0)])
    settings["Preprocess"] = [entry for entry in settings["Preprocess"] if entry["type"] != "Resize"]
    preparer = preparer_of(ServedModel(served), Slots(1, 10**6))
    preparer.preprocess, preparer.views = Preprocess(settings), [View(1000.0)]
    answer = preparer.prepare(0, images[0], 10**6)
    assert answer.status == 413 and "test-time augmentation, scale 1000" in answer.reason


@pytest.mark.skipif(not IS_SPARSE, reason="such images go through pipes here")
def test_an_image_that_fits_no_slot_is_refused_before_it_is_padded(served, images):
    answer = preparer_of(ServedModel(served), Slots(1, 3 * 4 * 64 * 64)).prepare(0, images[0], 10**6)
    assert (
        answer.status == 413 and answer.reason == "the image has 6144 pixels when it is padded for the model: too many"
    )


def test_slots_have_room_for_every_image_that_may_come(served):
    settings = read_infer_cfg(served)
    # Resized to 64 x 160, either side of which may be the long one.
    one = jobs.slot_bytes(Preprocess(settings), 10**9, [None])
    assert 3 * 4 * 160 * 160 <= one < 3 * 4 * 161 * 161 + 8192
    half = View(0.5)  # 80 pixels are padded to 96
    both = jobs.slot_bytes(Preprocess(settings), 10**9, [View(), half])
    assert 3 * 4 * (160 * 160 + 96 * 96) <= both < 3 * 4 * (161 * 161 + 96 * 96) + 16384
    settings["Preprocess"] = [entry for entry in settings["Preprocess"] if entry["type"] != "Resize"]
    assert jobs.slot_bytes(Preprocess(settings), 10**8, [None]) > 3 * 4 * (10_000 + 31) ** 2
    assert jobs.slot_bytes(Preprocess(settings), 10**8, [half]) > 3 * 4 * (5_000 + 31) ** 2
