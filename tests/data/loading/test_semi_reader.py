"""Data of semi-supervised training: two views of every image, labeled and unlabeled ones side by side."""

import json
import shutil

import cv2
import numpy as np
import pytest
from tiny import write_tiny_coco

from ppdet.data.loading.semi_reader import SemiTrainReader
from ppdet.data.sources import SemiCOCODataSet
from ppdet.data.transforms import (
    Decode,
    GridMask,
    Gt2FCOSTarget,
    Mixup,
    Mosaic,
    NormalizeImage,
    PadBatch,
    Permute,
    RandomDistort,
    RandomFlip,
    RandomResize,
    StrongAugImage,
)
from ppdet.utils.errors import DataError
from ppdet.utils.locations import Locations
from ppdet.visualize import draw_batch

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]


@pytest.fixture
def folder(tmp_path):
    write_tiny_coco(tmp_path / "labeled", images=6)
    write_tiny_coco(tmp_path / "other", images=7, size=(64, 96), seed=1)
    return tmp_path


def data_sets(folder):
    labeled = SemiCOCODataSet(
        dataset_dir=str(folder / "labeled"), image_dir="images", anno_path="train.json", data_fields=FIELDS
    )
    unlabeled = SemiCOCODataSet(
        dataset_dir=str(folder / "other"), image_dir="images", anno_path="train.json", supervised=False
    )
    return labeled, unlabeled


def make_reader(folder, **options):
    labeled, unlabeled = data_sets(folder)
    defaults = {
        "sample_transforms": [Decode(), RandomResize(target_size=[[64, 128], [96, 160]]), RandomFlip()],
        "weak_aug": [NormalizeImage()],
        "strong_aug": [RandomDistort(prob=1.0), NormalizeImage()],
        "sup_batch_transforms": [Permute(), PadBatch(pad_to_stride=32), Gt2FCOSTarget()],
        "unsup_batch_transforms": [Permute(), PadBatch(pad_to_stride=32)],
        "sup_batch_size": 2,
        "unsup_batch_size": 3,
        "seed": 4,
    }
    return SemiTrainReader(dataset=labeled, unlabeled=unlabeled, **{**defaults, **options})


def flat(batch):
    """Arrays of a batch; arrays of the unlabeled batch are named "unlabeled.…"."""
    inner = {f"unlabeled.{key}": value for key, value in batch["unlabeled"].items()}
    return {k: v.numpy() for k, v in {**batch, **inner}.items() if k != "unlabeled"}


def pixels(image):
    """(3, H, W) normalized -> (H, W, 3) uint8."""
    planes = image.transpose(1, 2, 0) * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
    return np.clip(np.round(planes * 255), 0, 255).astype(np.uint8)


def test_a_batch(folder):
    batch = next(iter(make_reader(folder)))
    arrays = flat(batch)
    assert arrays["image"].shape[:2] == (4, 3) and arrays["unlabeled.image"].shape[:2] == (6, 3)
    assert arrays["im_id"].tolist() == arrays["im_id"][[2, 3, 0, 1]].tolist()
    assert len(set(arrays["im_id"].tolist())) == 2
    assert arrays["unlabeled.im_id"][:3].tolist() == arrays["unlabeled.im_id"][3:].tolist()
    assert set(batch["unlabeled"]) == {"image", "im_id", "im_shape", "scale_factor"}
    assert {"target_labels", "target_distances", "target_centerness", "gt_bbox", "gt_class"} <= set(batch)


@pytest.mark.parametrize("seed", range(6))
def test_views_share_geometry_and_labels_and_differ_in_pixels(folder, seed):
    for batch in make_reader(folder, seed=seed):
        arrays = flat(batch)
        for key, value in arrays.items():
            strong, weak = np.split(value, 2)
            assert np.array_equal(strong, weak) is (not key.endswith("image")), key


@pytest.mark.parametrize("seed", range(4))
def test_boxes_are_where_the_objects_are_in_both_views(folder, seed):
    """The rectangles of the data are uniform: within their boxes, seen weakly or strongly, there is one color."""
    checked = 0
    for batch in make_reader(folder, seed=seed, strong_aug=[RandomDistort(hue=[0, 0, 0]), NormalizeImage()]):
        arrays = flat(batch)
        for image, boxes, labels in zip(arrays["image"], arrays["gt_bbox"], arrays["gt_class"]):
            view = pixels(image).astype(np.int64)
            for (x1, y1, x2, y2), label in zip(boxes, labels):
                if label < 0 or overlaps(boxes[labels >= 0], (x1, y1, x2, y2)) > 1:
                    continue
                inside = view[int(y1) + 3 : int(y2) - 2, int(x1) + 3 : int(x2) - 2].reshape(-1, 3)
                assert (inside.max(axis=0) - inside.min(axis=0)).max() <= 6
                red, _, blue = inside.mean(axis=0)
                assert (red > blue) is (label == 0)
                checked += 1
    assert checked > 10


@pytest.mark.parametrize("seed", range(3))
def test_boxes_drawn_in_both_views_frame_the_same_objects(folder, tmp_path, seed):
    """In the picture of a batch, strong views above weak ones: the frames lie on the same pixels, at color edges."""
    batch = flat(
        next(iter(make_reader(folder, seed=seed, strong_aug=[RandomDistort(hue=[0, 0, 0]), NormalizeImage()])))
    )
    for name in ("target_labels", "target_distances", "target_centerness"):
        del batch[name]
    without = {key: value for key, value in batch.items() if not key.startswith("gt_")}
    pictures = []
    for number, content in enumerate((batch, without)):
        path = tmp_path / f"{number}.png"
        draw_batch(content, path, NormalizeImage().mean, NormalizeImage().std, Locations([8, 16, 32, 64, 128]))
        pictures.append(cv2.imread(str(path)).astype(np.int64))
    framed, plain = pictures
    gap, half = 6, framed.shape[0] // 2
    drawn = (framed != plain).any(axis=2)
    rows = half - gap
    strong, weak = drawn[gap : gap + rows], drawn[half + gap // 2 : half + gap // 2 + rows]
    # Where a frame has the color of what is under it, it cannot be seen: a pixel in a thousand.
    assert strong.sum() > 500 and (strong != weak).mean() < 1e-3


def overlaps(boxes, box):
    """The number of boxes that overlap `box`, including itself."""
    x1, y1, x2, y2 = box
    return int(((boxes[:, 0] < x2) & (boxes[:, 2] > x1) & (boxes[:, 1] < y2) & (boxes[:, 3] > y1)).sum())


def test_every_unlabeled_image_is_seen(folder):
    """3 steps of 3 images an epoch: in 7 epochs each of the 7 images comes 9 times, and never twice before all came."""
    reader, seen = make_reader(folder), []
    for epoch in range(7):
        reader.set_epoch(epoch)
        for batch in reader:
            seen += batch["unlabeled"]["im_id"].numpy()[:3].tolist()
    assert [len(set(seen[i : i + 7])) for i in range(0, 63, 7)] == [7] * 9


def test_batches_that_make_no_step_are_not_counted_as_seen(folder):
    """6 batches of 1 labeled image, in steps of 4: one step an epoch, and 7 epochs see each of 7 images four times."""
    reader, seen = make_reader(folder, sup_batch_size=1, unsup_batch_size=1, accumulate_steps=4), []
    for epoch in range(7):
        reader.set_epoch(epoch)
        seen += [batch["unlabeled"]["im_id"].numpy()[0] for batch in reader]
    assert len(seen) == 28 and all(seen.count(image) == 4 for image in set(seen))


def test_an_image_looks_different_each_time_it_comes_in_an_epoch(folder):
    images = folder / "one"
    images.mkdir()
    shutil.copy(folder / "other" / "images" / "001.png", images)
    labeled, _ = data_sets(folder)
    one = SemiCOCODataSet(image_dir=str(images), supervised=False)
    options = make_reader(folder)
    reader = SemiTrainReader(
        dataset=labeled,
        unlabeled=one,
        sample_transforms=[Decode()],
        weak_aug=[NormalizeImage()],
        strong_aug=[RandomDistort(), NormalizeImage()],
        sup_batch_transforms=options.batch_transforms,
        unsup_batch_transforms=[Permute(), PadBatch(pad_to_stride=32)],
        unsup_batch_size=2,
    )
    strong = [image.numpy().tobytes() for batch in reader for image in batch["unlabeled"]["image"][:2]]
    assert len(strong) == 12 and len(set(strong)) > 8


def test_nothing_readable_ends_the_run(folder):
    for path in (folder / "other" / "images").iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot be read|no readable image"):
        list(make_reader(folder))
    # Of a single image too few are unreadable to end the run for that.
    one = SemiCOCODataSet(image_dir=str(folder / "other" / "images"), supervised=False, sample_num=1)
    parts = [[Decode()], [NormalizeImage()], [Permute(), PadBatch(pad_to_stride=32)]]
    names = ["sample_transforms", "weak_aug", "unsup_batch_transforms"]
    labeled = make_reader(folder).dataset
    targets = [*parts[2], Gt2FCOSTarget()]
    options = {**dict(zip(names, parts)), "strong_aug": parts[1], "sup_batch_transforms": targets, "sup_batch_size": 2}
    reader = SemiTrainReader(dataset=labeled, unlabeled=one, **options)
    with pytest.raises(DataError, match="3 of 3 batches have no readable image"):
        list(reader)


def test_resuming_in_an_epoch_and_workers_give_the_same(folder):
    reader = make_reader(folder)
    reader.set_epoch(3)
    whole = [flat(batch) for batch in reader]
    other = make_reader(folder, worker_num=2)
    other.set_epoch(3, first_batch=1)
    rest = [flat(batch) for batch in other]
    assert len(whole) == len(reader) == 3 and len(rest) == 2
    for one, two in zip(whole[1:], rest):
        assert one.keys() == two.keys()
        assert all(np.array_equal(one[key], two[key]) for key in one)


def test_ranks_share_both_kinds_of_images(folder):
    together = [flat(batch) for batch in make_reader(folder, sup_batch_size=2, unsup_batch_size=4)]
    ranks = [
        [flat(b) for b in make_reader(folder, sup_batch_size=1, unsup_batch_size=2, rank=rank, world_size=2)]
        for rank in (0, 1)
    ]
    for step, whole in enumerate(together):
        for key, size in (("im_id", 2), ("unlabeled.im_id", 4)):
            ids = [set(shares[step][key].tolist()) for shares in ranks]
            assert ids[0] | ids[1] == set(whole[key][:size].tolist())


def test_a_grid_covers_strong_views_alone(folder):
    """Every pixel is that of the weak view, or ImageNet's mean, which is what GridMask leaves of a removed one."""
    grid = StrongAugImage(transforms=[GridMask(prob=1.0, upper_iter=0)])
    arrays = flat(next(iter(make_reader(folder, strong_aug=[grid, NormalizeImage()]))))
    for key in ("image", "unlabeled.image"):
        strong, weak = np.split(np.stack([pixels(image) for image in arrays[key]]), 2)
        is_removed = (strong == [124, 116, 104]).all(axis=-1)
        assert (strong[~is_removed] == weak[~is_removed]).all()
        changed = (strong != weak).any(axis=-1).mean(axis=(1, 2))
        assert (changed > 0.05).all() and (changed < 0.95).all()


def test_views_in_bgr(folder):
    bgr = NormalizeImage(channel_order="bgr")
    reader = make_reader(folder, weak_aug=[bgr], strong_aug=[NormalizeImage(channel_order="bgr")])
    assert reader.labeled._to_device.normalizer is not None
    std, mean = (np.reshape(value, (3, 1, 1)) for value in ([0.229, 0.224, 0.225], [0.485, 0.456, 0.406]))
    scaled = flat(next(iter(reader)))["image"][2:] * std
    rgb = flat(next(iter(make_reader(folder, strong_aug=[NormalizeImage()]))))["image"][2:] * std
    inside = np.abs(rgb) > 0
    assert np.allclose((scaled + mean)[inside[:, ::-1]], (rgb + mean)[:, ::-1][inside[:, ::-1]], atol=1e-5)


def test_normalizing_on_the_device_or_before_is_the_same(folder):
    """A Permute among the sample transforms of one view keeps normalization in the workers."""
    early = {
        "strong_aug": [RandomDistort(prob=1.0), NormalizeImage(), Permute()],
        "weak_aug": [NormalizeImage(), Permute()],
    }
    batches = {
        "sup_batch_transforms": [PadBatch(pad_to_stride=32)],
        "unsup_batch_transforms": [PadBatch(pad_to_stride=32)],
    }
    late = {f"{kind}sup_batch_transforms": [Permute(), PadBatch(pad_to_stride=32)] for kind in ("", "un")}
    reader, other = make_reader(folder, **early, **batches), make_reader(folder, **late)
    assert other.labeled._to_device.normalizer is not None
    for one, two in zip(reader, other):
        assert np.abs(flat(one)["image"] - flat(two)["image"]).max() < 1e-5


def test_an_unreadable_image_is_replaced(folder, log):
    (folder / "other" / "images" / "003.png").write_bytes(b"no image")
    reader = make_reader(folder)
    for epoch in range(3):
        reader.set_epoch(epoch)
        assert all(len(batch["unlabeled"]["im_id"]) == 6 for batch in reader)
    assert [path.rpartition("/")[2] for path in reader.skipped] == ["003.png"]


def test_labeled_images_are_joined_with_labeled_ones_and_unlabeled_with_unlabeled(folder):
    """Labeled images are white and unlabeled ones black: gray in between comes from the fill of mosaics, 114, alone."""
    for name, value in (("labeled", 255), ("other", 0)):
        for path in (folder / name / "images").iterdir():
            cv2.imwrite(str(path), np.full_like(cv2.imread(str(path)), value))
    view = [NormalizeImage(mean=[0, 0, 0], std=[1, 1, 1])]
    for run_length, is_joined in ((4, True), (1, False)):  # 50 % of it end after the second epoch, or within the first
        reader = make_reader(
            folder,
            sample_transforms=[Decode(), Mosaic(input_dim=[64, 96], scale=[0.5, 0.5])],
            weak_aug=view,
            strong_aug=view,
            mosaic_epoch="50%",
        )
        reader.set_run_length(run_length)
        reader.set_epoch(1)
        for batch in reader:
            white, black = (np.round(part["image"].numpy() * 255) for part in (batch, batch["unlabeled"]))
            assert white.max() == 255 and black.min() == 0
            assert white.min() == (114 if is_joined else 255) and black.max() == (114 if is_joined else 0)
            assert (white.shape[2:] == (64, 96)) == is_joined


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"weak_aug": [RandomFlip()]}, ValueError, r"SemiTrainReader\.weak_aug: RandomFlip may move pixels.*sample_tr"),
        ({"strong_aug": [RandomResize(target_size=[64, 64])]}, ValueError, r"SemiTrainReader\.strong_aug: RandomRes"),
        (
            {"strong_aug": [NormalizeImage(), RandomDistort()]},
            ValueError,
            r"strong_aug: RandomDistort .* list it first",
        ),
        ({"strong_aug": [Mixup()]}, ValueError, r"SemiTrainReader\.strong_aug has Mixup, which takes several images"),
        ({"sup_batch_transforms": [Mixup()]}, ValueError, r"SemiTrainReader\.sup_batch_transforms has Mixup, which"),
        ({"unsup_batch_transforms": [Mixup()]}, ValueError, r"SemiTrainReader\.unsup_batch_transforms has Mixup"),
        (
            {"sample_transforms": [PadBatch()]},
            ValueError,
            r"SemiTrainReader\.sample_transforms has PadBatch, which takes",
        ),
        ({"mosaic_epoch": "2"}, ValueError, r"SemiTrainReader\.mosaic_epoch is '2'"),
        ({"weak_aug": []}, ValueError, "must both end with the same NormalizeImage"),
        ({"weak_aug": [NormalizeImage(channel_order="bgr")]}, ValueError, "must both end with the same NormalizeImage"),
        ({"strong_aug": [NormalizeImage(mean=[0.5] * 3)]}, ValueError, "must both end with the same NormalizeImage"),
        ({"unsup_batch_transforms": [Permute(), Gt2FCOSTarget()]}, ValueError, "no targets: remove Gt2FCOSTarget"),
        ({"sup_batch_size": 7}, DataError, "6 labeled images do not fill one batch: SemiTrainReader.sup_batch_size"),
        ({"unsup_batch_size": 0}, ValueError, "unsup_batch_size is 0"),
        ({"num_classes": 1}, DataError, "2 classes, the model 1"),
    ],
)
def test_wrong_settings(folder, options, error, message):
    with pytest.raises(error, match=message):
        make_reader(folder, **options)


def test_labels_are_needed_and_only_for_labeled_images(folder):
    _, unlabeled = data_sets(folder)
    assert all("gt_bbox" not in record for record in unlabeled.records)
    assert (unlabeled.class_names, len(unlabeled.records)) == (["red", "blue"], 7)
    with pytest.raises(DataError, match=r"TrainDataset\.data_fields has no boxes"):
        SemiTrainReader(dataset=unlabeled, unlabeled=unlabeled)
    with pytest.raises(ValueError, match="with supervised: false, only"):
        SemiCOCODataSet(anno_path="x.json", data_fields=FIELDS, supervised=False)


def test_unlabeled_images_may_have_any_annotations_or_none(folder):
    path = folder / "other" / "train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "annotations": [{"nonsense": True}]}))
    assert len(data_sets(folder)[1]) == 7
    for key in ("annotations", "categories"):
        del content[key]
        path.write_text(json.dumps(content))
        assert len(data_sets(folder)[1]) == 7
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(DataError, match=r"no image is left to use .*it lists none"):
        data_sets(folder)


def test_a_folder_is_enough(folder):
    images = folder / "other" / "images"
    (images / "more").mkdir()
    shutil.copy(images / "001.png", images / "more" / "x.PNG")
    cv2.imwrite(str(images / "gray.jpg"), np.zeros((40, 50), np.uint8))
    (images / "notes.txt").write_text("no image")
    found = SemiCOCODataSet(image_dir=str(images), supervised=False)
    assert (len(found), found.class_names, found.anno_path) == (9, [], None)
    assert sorted(int(r["im_id"][0]) for r in found.records) == list(range(9))
    assert len(SemiCOCODataSet(image_dir=str(images), supervised=False, sample_num=4, repeat=2)) == 8
    with pytest.raises(DataError, match="no image in"):
        SemiCOCODataSet(image_dir=str(images), supervised=False, sample_num=0)
    with pytest.raises(DataError, match="does not exist"):
        SemiCOCODataSet(image_dir=str(folder / "none"), supervised=False)


@pytest.mark.parametrize(("batch_size", "world_size"), [(6, 1), (3, 2), (2, 3)])
def test_labeled_images_that_just_fill_one_batch(folder, batch_size, world_size):
    readers = [make_reader(folder, sup_batch_size=batch_size, world_size=world_size, rank=i) for i in range(world_size)]
    seen = [int(number) for reader in readers for number in next(iter(reader))["im_id"].numpy().ravel()]
    assert sorted(seen) == sorted(2 * [1, 2, 3, 4, 5, 6]), "each image in two views"
    with pytest.raises(DataError, match="6 labeled images do not fill one batch"):
        make_reader(folder, sup_batch_size=batch_size + 1, world_size=world_size)
