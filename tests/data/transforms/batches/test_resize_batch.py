"""One random size for a batch."""

import numpy as np
import pytest
from transform_samples import sample_of

from ppdet.core.workspace import load_config
from ppdet.data.loading.reader import TrainReader
from ppdet.data.loading.to_device import split_off_normalize
from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import (
    BatchRandomResize,
    Compose,
    Decode,
    NormalizeImage,
    PadBatch,
    Permute,
    RandomFlip,
)
from ppdet.utils.errors import ConfigError, DataError


def test_all_images_of_a_batch_get_one_size():
    resize = BatchRandomResize(target_size=[32, 48, 64], keep_ratio=False)
    drawn = set()
    for seed in range(30):
        batch = resize([sample_of(40, 60), sample_of(90, 20), sample_of(48, 48)], np.random.default_rng(seed))
        shapes = {sample["image"].shape for sample in batch}
        assert len(shapes) == 1
        drawn |= shapes
    assert drawn == {(side, side, 3) for side in (32, 48, 64)}


def test_a_batch_may_keep_ratios_and_is_padded_then():
    rng = np.random.default_rng(0)
    batch = [sample_of(40, 60), sample_of(90, 20)]
    chain = Compose([BatchRandomResize(target_size=[[30, 40]]), Permute(), PadBatch(pad_to_stride=16)])
    padded = chain(batch, rng)
    assert [sample["im_shape"].tolist() for sample in padded] == [[27, 40], [40, 9]]
    assert {sample["image"].shape for sample in padded} == {(3, 48, 48)}


def test_without_random_size_there_is_one():
    resize = BatchRandomResize(target_size=[30, 50], random_size=False, keep_ratio=False)
    assert resize([sample_of(9, 9)], np.random.default_rng(1))[0]["image"].shape == (30, 50, 3)


def test_scales_are_factors_of_the_input_size():
    resize = BatchRandomResize(input_size=[240, 320], scales=[0.5, 0.8, 1.0])
    assert resize.sizes == [(120, 160), (192, 256), (240, 320)]
    assert BatchRandomResize(input_size=96).sizes == [(96, 96)]


def test_the_device_still_normalizes():
    """Images stay bytes until the end, if the three are listed as in PaddleDetection's readers."""
    resize, normalize = BatchRandomResize(target_size=[32]), NormalizeImage()
    _, batches, split_off = split_off_normalize([], [resize, normalize, Permute(), PadBatch()])
    assert split_off is normalize and batches[0] is resize


def test_after_permute_the_result_is_the_same_but_for_rounding():
    before = Compose([BatchRandomResize(target_size=[24, 32], random_size=False), NormalizeImage(), Permute()])
    after = Compose([NormalizeImage(), Permute(), BatchRandomResize(target_size=[24, 32], random_size=False)])
    rng = np.random.default_rng(0)
    (one,), (other,) = before([sample_of(40, 60)], rng), after([sample_of(40, 60)], rng)
    assert one["image"].shape == other["image"].shape == (3, 21, 32)
    assert np.abs(one["image"] - other["image"]).max() < 1 / 255 / 0.224  # less than one level of a byte
    with pytest.raises(DataError, match=r"BatchRandomResize: an image has the shape \(4, 4, 5\)"):
        after.transforms[2]([{"image": np.zeros((4, 4, 5), np.float32)}], rng)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchRandomResize(), "BatchRandomResize has no target_size"),
        (lambda: BatchRandomResize(target_size=32), "target_size is 32, expected a list"),
        (lambda: BatchRandomResize(target_size=[32], scales=[1]), "unset target_size"),
        (lambda: BatchRandomResize(input_size=32, scales=[0]), r"BatchRandomResize.scales is \[0\]"),
        (lambda: BatchRandomResize(target_size=[32], interp=9), "BatchRandomResize.interp"),
    ],
)
def test_wrong_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_input_size_reaches_the_batch(tmp_path):
    path = tmp_path / "scales.yml"
    path.write_text(
        "architecture: FCOS\ninput_size: [96, 128]\n"
        "TrainReader: {sample_transforms: [Decode: {}], batch_transforms: [BatchRandomResize: {scales: [0.5, 1.0]}]}\n"
    )
    (resize,) = load_config(path).component("TrainReader").create("batch_transforms")
    assert resize.sizes == [(48, 64), (96, 128)]
    with pytest.raises(ConfigError, match=r"-o: .*BatchRandomResize: scales are .*: unset target_size"):
        load_config(
            path, ["TrainReader.batch_transforms=[BatchRandomResize: {target_size: [64], scales: [1]}]"]
        ).component("TrainReader").create("batch_transforms")


def test_a_reader_reads_every_batch_at_one_of_the_sizes(coco):
    """As PaddleDetection lists them; normalization is left to the device, and every seed gives the same sizes again."""
    for _ in range(12):
        coco.image([[4, 6, 20, 30]])
    chain = [
        BatchRandomResize(target_size=[32, 64, 96], keep_ratio=False, random_interp=True),
        NormalizeImage(),
        Permute(),
        PadBatch(pad_to_stride=32),
    ]
    options = {
        "dataset": COCODataSet(**coco.arguments(), data_fields=["image", "gt_bbox", "gt_class"]),
        "sample_transforms": [Decode(), RandomFlip()],
        "batch_size": 2,
        "seed": 5,
    }
    sizes = []
    for _ in range(2):
        reader = TrainReader(**options, batch_transforms=chain)
        assert reader._to_device.normalizer is chain[1]
        for batch in reader:
            side = batch["image"].shape[2]
            assert list(batch["image"].shape) == [2, 3, side, side]
            assert batch["image"].numpy().dtype == np.float32
            assert batch["im_shape"].tolist() == [[side, side]] * 2
            boxes = batch["gt_bbox"].numpy() * ([64 / side, 48 / side] * 2)
            assert np.allclose(boxes[:, 0, 1::2], [6, 36]) and np.allclose(boxes[:, 0, 2] - boxes[:, 0, 0], 20)
            sizes.append(side)
    assert sizes[:6] == sizes[6:] and set(sizes) == {32, 64, 96}
