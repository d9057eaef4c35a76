"""Normalizing on the device instead of in the worker."""

import json
import threading

import numpy as np
import paddle
import pytest

from ppdet.data.loading.to_device import ToDevice, split_off_normalize
from ppdet.data.transforms import (
    Decode,
    Gt2FCOSTarget,
    NormalizeImage,
    PadBatch,
    Permute,
    RandomCrop,
    RandomDistort,
    RandomExpand,
    RandomFlip,
    Resize,
)
from ppdet.utils import device
from ppdet.utils.errors import WorkerError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Unknown:
    def __call__(self, sample, rng):
        return sample


NORMALIZE = NormalizeImage()
RESIZE = Resize(target_size=32)
TARGETS = Gt2FCOSTarget()


@pytest.mark.parametrize(
    ("samples", "batches"),
    [
        ([Decode(), RESIZE, NORMALIZE, RandomFlip()], [Permute(), PadBatch(), TARGETS]),
        ([Decode(), RandomDistort(), RandomExpand(), RandomCrop(), RESIZE, NORMALIZE, Permute()], [PadBatch()]),
        ([Decode(), RESIZE], [NORMALIZE, RandomCrop(), Permute(), PadBatch()]),
        ([Decode(), Unknown.__new__(type("Known", (Unknown,), {"keeps_uint8": True})), NORMALIZE, Permute()], []),
    ],
)
def test_usual_chains_leave_it_to_the_device(samples, batches):
    kept_samples, kept_batches, normalize = split_off_normalize(samples, batches)
    assert normalize is NORMALIZE
    assert [*kept_samples, *kept_batches] == [t for t in [*samples, *batches] if t is not NORMALIZE]
    assert len(kept_batches) == len([t for t in batches if t is not NORMALIZE])


@pytest.mark.parametrize(
    ("samples", "batches"),
    [
        ([Decode(), Permute()], [PadBatch()]),
        ([Decode(), NORMALIZE], [PadBatch()]),  # without Permute: the user's own layout
        ([Decode(), NORMALIZE, RESIZE, Permute()], []),  # interpolates floats
        ([Decode(), NORMALIZE, RandomExpand(), Permute()], []),  # fills with a value in pixels
        ([Decode(), NORMALIZE, Unknown(), Permute()], []),
        ([Decode(), Unknown(), NORMALIZE, Permute()], []),
        ([Decode(), NORMALIZE, NormalizeImage(), Permute()], []),
    ],
)
def test_other_chains_stay_as_they_are(samples, batches):
    assert split_off_normalize(samples, batches) == (samples, batches, None)


def raw_batch():
    image = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    sizes = np.array([[6, 5], [4, 8]], dtype=np.float32)
    expected = (image.astype(np.float64) / 255 - MEAN) / STD
    for one, (h, w) in zip(expected, sizes.astype(int)):
        one[h:] = 0
        one[:, w:] = 0
    return {"image": image, "im_shape": sizes, "im_id": np.array([3, 4])}, expected.transpose(0, 3, 1, 2)


def test_normalized_on_the_cpu():
    arrays, expected = raw_batch()
    batch = ToDevice(NORMALIZE).on_cpu(arrays)
    image = batch["image"]
    assert image.dtype == paddle.float32 and image.is_contiguous() and image.stop_gradient
    assert np.allclose(image.numpy(), expected, rtol=1e-6, atol=1e-6)
    assert np.array_equal(image.numpy() == 0, expected == 0), "padding is exactly 0"
    assert batch["im_id"].tolist() == [3, 4]


def test_tensors_keep_their_values_when_the_arrays_are_overwritten():
    floats = np.ones((1, 3, 4, 4), np.float32)
    arrays = {"image": floats, "im_id": np.array([1])}
    batch = ToDevice(None).on_cpu(arrays)
    floats[:] = 2
    arrays["im_id"][:] = 2
    assert batch["image"].numpy().max() == 1 and batch["im_id"].tolist() == [1]


@pytest.mark.parametrize("place", ["on_cpu", "_normalize"])
def test_bgr_is_what_a_flipped_image_gives(place):
    arrays, _ = raw_batch()
    device = ToDevice(
        NormalizeImage(mean=[102.9801, 115.9465, 122.7717], std=[1, 2, 3], is_scale=False, channel_order="bgr")
    )
    if place == "on_cpu":
        image = device.on_cpu(arrays)["image"].numpy()
    else:
        image = device._normalize(*(paddle.to_tensor(arrays[name]) for name in ("image", "im_shape"))).numpy()
    red, green, blue = arrays["image"].astype(np.float64).transpose(3, 0, 1, 2)
    expected = np.stack([blue - 102.9801, (green - 115.9465) / 2, (red - 122.7717) / 3], axis=1)
    for one, (h, w) in zip(expected, arrays["im_shape"].astype(int)):
        one[:, h:] = 0
        one[:, :, w:] = 0
    assert np.allclose(image, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"is_scale": False}, {"norm_type": "none"}, {"channel_order": "bgr"}])
def test_formula_of_gpus_gives_the_same(options):
    arrays, _ = raw_batch()
    device = ToDevice(NormalizeImage(**options))
    image = device._normalize(paddle.to_tensor(arrays["image"]), paddle.to_tensor(arrays["im_shape"]))
    assert np.allclose(image.numpy(), device.on_cpu(arrays)["image"].numpy(), rtol=1e-5, atol=1e-6)
    assert image.shape == [2, 3, 6, 8] and not image[0, :, :, 5:].any() and not image[1, :, 4:].any()


def source_of(batches, closed=None):
    def batches_of(finish):
        try:
            for arrays in batches:
                yield finish(arrays)
        finally:
            if closed is not None:
                closed.append(True)

    return batches_of


def test_reading_ahead_gives_the_same_batches():
    arrays, expected = raw_batch()
    closed = []
    batches = list(ToDevice(NORMALIZE).prefetch(source_of([arrays, {**arrays, "im_id": np.array([5, 6])}], closed)))
    assert [batch["im_id"].tolist() for batch in batches] == [[3, 4], [5, 6]]
    for batch in batches:
        assert np.allclose(batch["image"].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert closed == [True]


@pytest.mark.parametrize(("kind", "threads"), [("cpu", 1), ("gpu", 2), ("npu", 2)])
def test_batches_are_read_ahead_where_the_device_runs_behind(monkeypatch, kind, threads):
    """A thread of the loader's reads then, while this one trains."""
    arrays, expected = raw_batch()
    monkeypatch.setattr(device, "device_type", lambda: kind)
    seen = {threading.get_ident()}

    def batches(finish):
        seen.add(threading.get_ident())
        yield finish(arrays)

    (batch,) = ToDevice(NORMALIZE).read(batches)
    assert np.allclose(batch["image"].numpy(), expected, rtol=1e-5, atol=1e-6)
    assert len(seen) == threads


def test_reading_ahead_may_end_early_and_reports_errors():
    arrays, _ = raw_batch()
    closed = []
    loop = ToDevice(NORMALIZE).prefetch(source_of([arrays] * 9, closed))
    next(loop)
    loop.close()
    assert closed == [True]

    def failing(finish):
        yield finish(arrays)
        raise WorkerError("a data worker process died", None)

    batches = list(ToDevice(NORMALIZE).prefetch(failing))
    report = json.loads(bytes(batches[1]["_report"].numpy()))
    assert report == {"skipped": {}, "error": "a data worker process died"}
