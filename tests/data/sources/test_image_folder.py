import pytest

from ppdet.data.sources import ImageFolder
from ppdet.data.sources.coco_names import COCO_CATEGORIES
from ppdet.utils.errors import DataError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_folder_is_scanned_in_sorted_order_with_subfolders(tmp_path):
    touch(tmp_path, "b.JPG", "a.png", "sub/c.tiff", "notes.txt", "d.WebP", "e.jpeg", "f.bmp", "g.tif", "h.gif")
    images = ImageFolder(dataset_dir=str(tmp_path))
    names = [record["im_file"][len(str(tmp_path)) + 1 :] for record in images.records]
    assert names == ["a.png", "b.JPG", "d.WebP", "e.jpeg", "f.bmp", "g.tif", "sub/c.tiff"]
    assert [int(record["im_id"][0]) for record in images.records] == list(range(7))
    assert len(ImageFolder(dataset_dir=str(tmp_path), sample_num=2)) == 2


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no image in"):
        len(ImageFolder(dataset_dir=str(tmp_path)))
    with pytest.raises(DataError, match="does not exist"):
        len(ImageFolder(dataset_dir=str(tmp_path / "none")))
    with pytest.raises(DataError, match="dataset_dir"):
        len(ImageFolder())
    with pytest.raises(DataError, match="at least one"):
        ImageFolder().set_images([])


def test_sample_num_counts_images_of_the_folder_not_those_that_a_command_names(tmp_path):
    """Else `ppdet infer` would report all images beyond that number as unreadable."""
    images = ImageFolder(sample_num=1)
    images.set_images([str(tmp_path / "x.jpg"), str(tmp_path / "y.jpg")])
    assert len(images) == 2


def test_set_images_needs_no_folder(tmp_path):
    images = ImageFolder(dataset_dir=str(tmp_path / "none"))
    images.set_images([str(tmp_path / "x.jpg"), "y.png"])
    assert images.records[0]["im_file"] == str(tmp_path / "x.jpg")
    assert images.records[1]["im_file"].startswith("/")


def test_class_names(coco):
    coco.image([[1, 1, 5, 5]])
    coco.arguments()
    images = ImageFolder(dataset_dir=str(coco.folder), anno_path="train.json")
    assert (images.category_ids, images.class_names) == ([7, 90], ["disc", "square"])
    (coco.folder / "labels.txt").write_text("cat\nbig dog\n\n")
    images = ImageFolder(anno_path=str(coco.folder / "labels.txt"))
    assert (images.category_ids, images.class_names) == ([0, 1], ["cat", "big dog"])
    assert ImageFolder().class_names == []
    with pytest.raises(DataError, match=r"missing\.txt does not exist"):
        ImageFolder(dataset_dir=str(coco.folder), anno_path="missing.txt")


def test_published_models_know_cocos_names_without_coco(tmp_path):
    images = ImageFolder(dataset_dir=str(tmp_path / "coco"), anno_path="annotations/instances_val2017.json")
    assert len(images.class_names) == 80
    assert dict(zip(images.category_ids, images.class_names))[90] == "toothbrush"
    assert [i for i, _ in COCO_CATEGORIES] == sorted(i for i, _ in COCO_CATEGORIES)
    # The gaps of COCO's numbering, as its paper's appendix lists the 11 categories without boxes.
    assert set(range(1, 91)) - {i for i, _ in COCO_CATEGORIES} == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
