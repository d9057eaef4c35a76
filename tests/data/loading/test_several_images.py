"""Transforms of several images in readers: reproducible, used up to an epoch, refused elsewhere. Needs paddle."""

import json

import numpy as np
import pytest
from tiny import write_tiny_coco

from ppdet.data.loading import reader as readers
from ppdet.data.loading.collate import SampleSource, Task
from ppdet.data.loading.several_images import Closing, SeveralImages, check_until
from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import (
    Compose,
    Cutmix,
    Decode,
    Gt2FCOSTarget,
    Mixup,
    Mosaic,
    NormalizeImage,
    PadBatch,
    Permute,
    RandomFlip,
    RandomResize,
    Resize,
    StrongAugImage,
    Transform,
)
from ppdet.data.transforms.decode import DecodeAndResize
from ppdet.utils.errors import DataError

FIELDS = ["image", "gt_bbox", "gt_class", "is_crowd"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_coco(tmp_path_factory.mktemp("several"), images=12, size=(64, 96))


@pytest.fixture
def data(folder):
    return COCODataSet(dataset_dir=str(folder), image_dir="images", anno_path="train.json", data_fields=FIELDS)


def joined():
    """Transforms in which further images have further images of their own."""
    return [
        Decode(),
        Resize(target_size=[40, 60]),
        Mosaic(input_dim=[48, 64], scale=[0.5, 1.5], prob=0.8),
        RandomFlip(),
        RandomResize(target_size=[[32, 64], [48, 64]]),
        Mixup(),
        Cutmix(),
    ]


def reader(data, transforms=None, **options):
    samples = [*(joined() if transforms is None else transforms), NormalizeImage(), Permute()]
    defaults = {"batch_transforms": [PadBatch(pad_to_stride=32), Gt2FCOSTarget()], "batch_size": 2, "seed": 3}
    return readers.TrainReader(dataset=data, sample_transforms=samples, **{**defaults, **options})


def batches(reader, epoch=0, first=0):
    reader.set_epoch(epoch, first)
    return [{key: value.numpy() for key, value in batch.items()} for batch in reader]


def assert_same(one, two):
    assert len(one) == len(two) > 0
    for a, b in zip(one, two):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def images_of(found):
    """`im_id` -> image without padding, and boxes."""
    return {
        int(identity): (
            batch["image"][row][:, : int(h), : int(w)].tobytes(),
            batch["gt_bbox"][row][row_boxes].tobytes(),
        )
        for batch in found
        for row, (identity, (h, w)) in enumerate(zip(batch["im_id"], batch["im_shape"]))
        for row_boxes in [batch["gt_class"][row] >= 0]
    }


def test_batches_are_the_same_with_any_number_of_workers_and_after_a_resume(data):
    here = batches(reader(data), epoch=1)
    assert here[0]["image"].dtype == np.float32
    assert_same(here, batches(reader(data, worker_num=2), epoch=1))
    assert_same(here[4:], batches(reader(data, worker_num=1), epoch=1, first=4))
    for other in (batches(reader(data), epoch=2, first=4), batches(reader(data, seed=4), epoch=1, first=4)):
        assert not images_of(here).items() & images_of(other).items()


def test_an_image_is_the_same_in_any_batch_and_on_any_rank(data):
    alone = images_of(batches(reader(data, batch_size=1)))
    assert len(alone) == len(set(alone.values())) == 12
    assert images_of(batches(reader(data, batch_size=4))) == alone
    ranks = [images_of(batches(reader(data, batch_size=3, rank=rank, world_size=2))) for rank in (0, 1)]
    assert {**ranks[0], **ranks[1]} == alone


def test_copies_of_an_image_get_further_images_of_their_own(tmp_path):
    folder = write_tiny_coco(tmp_path, images=10, size=(64, 96))
    content = json.loads((folder / "train.json").read_text())
    for annotation in content["annotations"]:
        annotation["category_id"] = 3 if annotation["image_id"] == 1 else 7
    (folder / "train.json").write_text(json.dumps(content))
    rare = COCODataSet(dataset_dir=str(folder), image_dir="images", anno_path="train.json", data_fields=FIELDS)
    made = reader(rare, batch_size=1, repeat_threshold=1.0)
    found = [batch for batch in batches(made) if batch["im_id"][0] == 1]
    assert len(found) == 3  # sqrt(1 / 0.1) is 3.2
    assert len({batch["image"].tobytes() for batch in found}) == 3


class Recorder(Transform):
    """Adds the names of the samples that it gets to its own one."""

    further_images = 2

    def __init__(self, count=2, used=None):
        self.further_images = count
        self.used = used

    def __call__(self, samples, rng):
        assert len(samples) == 1 + self.further_images
        taken = list(samples) if self.used is None else [samples[0], *(samples[i] for i in self.used)]
        names = [one.get("names", one["im_file"]) for one in taken]
        return {**samples[0], "names": names, "draws": [one.get("draw") for one in taken]}


class Draw(Transform):
    def __call__(self, sample, rng):
        assert "curr_iter" in sample
        return {**sample, "draw": float(rng.random())}


def source(transforms, count=50, seed=0):
    return SampleSource([{"im_file": str(i)} for i in range(count)], transforms, seed, True, 2)


def test_further_images_pass_the_transforms_listed_before_and_have_random_numbers_of_their_own():
    found = source([Draw(), Recorder(), Draw()])[Task(0, 0, 7)].sample
    assert found["names"][0] == "7" and len(found["names"]) == 3
    assert len({*found["draws"], found["draw"]}) == 4
    # The stream of the sample itself is that of a list without the transform.
    plain = source([Draw(), Draw()])[Task(0, 0, 7)].sample
    first = source([Draw()])[Task(0, 0, 7)].sample
    assert found["draw"] == plain["draw"] and found["draws"][0] == first["draw"]


def test_further_images_are_drawn_from_all_records_anew_for_each_epoch_image_and_place():
    images = source([Recorder(2), Recorder(1)], count=1000)
    names = []
    for epoch in range(3):
        for record in range(3):
            task = Task(epoch, 0, record)
            own, further = images[task].sample["names"]
            assert images[task].sample["names"] == [own, further]  # the task alone decides
            assert own[0] == str(record)
            names += [*own[1:], further[0], *further[1:]]
    assert len(set(names)) > 0.9 * len(names) == 0.9 * 9 * 5


def test_every_record_is_drawn_equally_often():
    images = source([Recorder(1)], count=10)
    counts = np.bincount([int(images[Task(epoch, 0, 3)].sample["names"][1]) for epoch in range(500)], minlength=10)
    assert (abs(counts - 50) < 4.5 * np.sqrt(50)).all()


def test_a_further_image_that_is_not_used_is_not_made_and_changes_nothing():
    made = []

    class Made(Transform):
        def __call__(self, sample, rng):
            made.append(sample["im_file"])
            return {**sample, "draw": float(rng.random())}

    all_of_them = source([Made(), Recorder(3)])[Task(0, 0, 7)].sample
    assert len(made) == 4
    made.clear()
    some = source([Made(), Recorder(3, used=[3, 3])])[Task(0, 0, 7)].sample
    assert len(made) == 2
    assert some["names"] == [all_of_them["names"][i] for i in (0, 3, 3)]


def test_several_images_are_a_sequence():
    asked = []

    def make(number):
        asked.append(number)
        return {"number": number}

    samples = SeveralImages({"number": "own"}, 3, make)
    assert len(samples) == 4 and not asked
    assert samples[-1] == {"number": 2} and samples[3] is samples[-1]
    assert [one["number"] for one in samples[1:3]] == [0, 1]
    assert [one["number"] for one in samples] == ["own", 0, 1, 2]
    assert asked == [2, 0, 1]
    with pytest.raises(IndexError):
        samples[4]


def test_decoding_and_resizing_stay_one_step():
    parts = source([Decode(), Resize(target_size=[40, 60]), Mosaic(), RandomFlip()]).transforms[0]
    assert [type(part) for part in parts] == [Compose, Mosaic, Compose]
    assert [type(one) for one in parts[0].transforms] == [DecodeAndResize]


def broken(folder, tmp_path, names):
    """A copy of the data set in which some images are empty files."""
    for path in (folder / "images").iterdir():
        target = tmp_path / "images" / path.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"" if path.name in names else path.read_bytes())
    (tmp_path / "train.json").write_text((folder / "train.json").read_text())
    return COCODataSet(dataset_dir=str(tmp_path), image_dir="images", anno_path="train.json", data_fields=FIELDS)


@pytest.mark.parametrize("worker_num", [0, 1])
def test_unreadable_further_images_are_counted_and_replaced(folder, tmp_path, log, worker_num):
    some = broken(folder, tmp_path, ["005.png"])
    made = reader(some, worker_num=worker_num)
    found = batches(made)
    assert sum(len(batch["im_id"]) for batch in found) == 12
    assert list(made.skipped) == [str(tmp_path / "images" / "005.png")]
    assert len([line for line in log.messages if line.startswith("image skipped")]) == 1
    with pytest.raises(DataError, match="2 of 12 images cannot be read, more than 1 %"):
        batches(reader(broken(folder, tmp_path, ["005.png", "006.png"]), worker_num=worker_num))


def test_a_replaced_further_image_is_the_next_one_of_the_data_set():
    class Unreadable(Transform):
        def __call__(self, sample, rng):
            if sample["im_file"] in missing:
                from ppdet.utils.errors import ImageError

                raise ImageError(sample["im_file"], "empty")
            return sample

    missing = []
    images = source([Unreadable(), Recorder(1)], count=50)
    own, further = images[Task(0, 0, 7)].sample["names"]
    missing.append(further)
    result = images[Task(0, 0, 7)]
    assert result.sample["names"] == [own, str((int(further) + 1) % 50)] and result.skipped == {further: "empty"}
    # Three in a row are more than are skipped for one image.
    missing += [str((int(further) + step) % 50) for step in (1, 2)]
    result = images[Task(0, 0, 7)]
    assert result.sample is None and len(result.skipped) == 3 and not result.error


def test_the_limit_of_unreadable_images_counts_further_images_as_read(folder, tmp_path, log):
    made = reader(broken(folder, tmp_path, []), batch_size=1)
    batches(made, first=11)
    assert made._images_read == 12  # one sample of at most 5 x 2 x 2 images, of which the data set has 12


class TestClosing:
    @pytest.mark.parametrize(
        ("value", "run", "used"),
        [
            ("50%", 4, 2),
            ("85%", 20, 17),
            ("12.5%", 4, 0.5),
            ("100%", 4, np.inf),
            ("0%", 4, 0),
            ("85%", np.inf, np.inf),
            (0, 4, np.inf),
            (-1, 4, 0),
            (3, 4, 3),
            (3, np.inf, 3),
        ],
    )
    def test_epochs(self, value, run, used):
        closing = Closing([Decode(), Mosaic()], check_until("TrainReader", (value, 0, 0)))
        closing.run_epochs = run
        assert closing.by_transform() == {"Mosaic": used}

    def test_the_own_image_passes_unchanged_after_closing(self, data):
        def made(**until):
            transforms = [Decode(), Mosaic(input_dim=[48, 64], enable_mixup=False), Mixup(), Cutmix()]
            made = reader(data, transforms, **{**off, **until})
            made.set_run_length(4)
            return made

        def samples(reader, epoch):
            found = [reader._make.source[task].sample for batch in reader._tasks(epoch) for task in batch]
            return {int(one["im_id"][0]): one["image"].tobytes() + one["gt_bbox"].tobytes() for one in found}

        off = {"mosaic_epoch": -1, "mixup_epoch": -1, "cutmix_epoch": -1}
        plain = samples(reader(data, [Decode()]), 0)
        assert [samples(made(), epoch) for epoch in range(4)] == [plain] * 4
        for name in off:
            integer, share = made(**{name: 2}), made(**{name: "50%"})
            assert [samples(integer, epoch) == plain for epoch in range(4)] == [False, False, True, True], name
            assert all(samples(share, epoch) == samples(integer, epoch) for epoch in (1, 2))
            assert samples(made(**{name: 0}), 3) != plain

    def test_it_closes_within_an_epoch_also_with_workers(self, data):
        made = reader(data, [Decode(), Mosaic(input_dim=[48, 64])], mosaic_epoch="37.5%", worker_num=1)
        made.set_run_length(4)  # closes after 1.5 epochs of 6 batches
        plain = images_of(batches(reader(data, [Decode()]), epoch=1))
        same = [images_of([batch]).items() <= plain.items() for batch in batches(made, epoch=1)]
        assert same == [False, False, False, True, True, True]
        # The run becomes longer, for example after a resume with another number of epochs.
        made.set_run_length(8)
        assert not any(images_of([batch]).items() <= plain.items() for batch in batches(made, epoch=1))

    @pytest.mark.parametrize("value", [-2, "85", "120%", "half"])
    def test_wrong_values(self, data, value):
        for name in ("mosaic_epoch", "mixup_epoch", "cutmix_epoch"):
            with pytest.raises(ValueError, match=f"TrainReader.{name} is {value!r}"):
                reader(data, **{name: value})

    def test_a_transform_of_ones_own_may_go_by_a_setting(self):
        class Own(Recorder):
            used_until = "mixup_epoch"

        own, always = Own(1), Recorder(1)
        assert Closing([own, always], check_until("", (1, 2, 3))).by_transform() == {"Own": 2, "Recorder": np.inf}
        assert "names" not in source([own])[Task(0, 0, 7, closed=("mixup_epoch",))].sample
        assert "names" in source([own])[Task(0, 0, 7, closed=("mosaic_epoch",))].sample
        assert "names" in source([always])[Task(0, 0, 7, closed=("mosaic_epoch", "mixup_epoch", "cutmix_epoch"))].sample


WHERE = "takes several images: list it in the sample_transforms of TrainReader or SemiTrainReader, by itself"


@pytest.mark.parametrize("transform", [Mosaic(), Mixup(), Cutmix()], ids=lambda one: type(one).__name__)
def test_where_such_a_transform_cannot_be_is_one_line(data, transform):
    name = type(transform).__name__
    for kind in (readers.EvalReader, readers.TestReader):
        with pytest.raises(ValueError, match=f"^{kind.__name__}.sample_transforms has {name}, which {WHERE}$"):
            kind(dataset=data, sample_transforms=[Decode(), transform])
    with pytest.raises(ValueError, match=f"^TrainReader.batch_transforms has {name}, which {WHERE}$"):
        reader(data, [Decode()], batch_transforms=[transform, PadBatch()])
    with pytest.raises(ValueError, match=f"^StrongAugImage.transforms has {name}, which {WHERE}$"):
        StrongAugImage(transforms=[transform])
    with pytest.raises(ValueError, match=f"^Compose has {name}, which {WHERE}$"):
        Compose([Decode(), transform])


def test_too_many_further_images_are_refused():
    with pytest.raises(ValueError, match=r"Recorder\.further_images is 1000; it must be at most 100"):
        source([Recorder(1000)])


def test_a_failing_transform_is_named_with_its_image():
    class Failing(Recorder):
        def __call__(self, samples, rng):
            raise KeyError("gt_mask")

    error = source([Failing()])[Task(0, 0, 7)].error
    assert "Failing failed on 7 and further images: KeyError('gt_mask')" in error
