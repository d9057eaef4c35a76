"""`ppdet data show`: the pictures show the batches of training, and the lines count what is in them."""

import itertools
import re

import cv2
import pytest

from ppdet.cli import data
from ppdet.core.workspace import load_config
from ppdet.engine.build import build_train_reader


def show(*arguments):
    data.main(["show", *map(str, arguments)], "ppdet data")


def expected(path, epoch, batches, *overrides):
    """The lines for the batches of an epoch, counted in the batches of a reader."""
    reader = build_train_reader(load_config(str(path), list(overrides)))
    reader.set_epoch(epoch)
    lines = []
    for number, batch in zip(range(1, batches + 1), reader):
        n, _, h, w = batch["image"].shape
        sizes = [-(-h // stride) * -(-w // stride) for stride in (8, 16, 32)]
        labels = batch["target_labels"].numpy() > 0
        ends = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]
        counts = [labels[:, low:high].sum() for low, high in itertools.pairwise(ends)]
        lines.append(f"batch {number}: {n} images of {h} x {w} pixels, {(batch['gt_class'] >= 0).sum().item()} boxes")
        lines.append(
            f"  positive locations: stride 8: {counts[0]}, stride 16: {counts[1]}, stride 32: {counts[2]}",
        )
    return lines


def test_batches_of_the_chosen_epoch(tiny, tmp_path, capsys):
    show("-c", tiny, "--epoch", 2, "--batches", 9, "--output", tmp_path / "shown")
    lines = capsys.readouterr().out.splitlines()
    assert lines.pop() == f"next: ppdet train -c {tiny} --eval"
    assert [line for line in lines[:-2] if "picture" not in line] == expected(tiny, 1, 9)
    assert lines[-2] == f"page: {tmp_path / 'shown' / 'show.html'}" and lines[-1].startswith("look at it: ")
    assert expected(tiny, 1, 1) != expected(tiny, 0, 1)  # or the epoch would not matter
    names = [f"batch_{number}.jpg" for number in range(1, 5)]  # an epoch has four batches
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == [*names, "show.html"]
    first = cv2.imread(str(tmp_path / "shown" / "batch_1.jpg"))
    assert first.shape[1] > 2 * 300 and first.std() > 10
    page = (tmp_path / "shown" / "show.html").read_text()
    assert page.count("<img ") == 8 and {f"{number:03d}.png" for number in range(1, 9)} <= set(
        re.findall(r"<strong>(.*?)</strong>", page)
    )
    counts = [sum(map(int, re.findall(rf"stride {stride}: (\d+)", page))) for stride in (8, 16, 32)]
    shown_counts = re.findall(r"stride 8: (\d+), stride 16: (\d+), stride 32: (\d+)", "\n".join(lines))
    assert counts == [sum(map(int, column)) for column in zip(*shown_counts)]


def test_semi_supervised_batches_and_the_default_folder(tiny_semi, tmp_path, capsys):
    show("-c", tiny_semi, "--batches", 1)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == expected(tiny_semi, 0, 1)
    assert lines[0].startswith("batch 1: 4 images")  # two images, in two views each
    [picture] = [re.fullmatch(r"  picture: (.*)", line)[1] for line in lines[2:-3]]
    assert picture == str(tmp_path / "output" / "tiny_semi_shown" / "batch_1.jpg")


def test_a_mosaic_is_shown_until_it_closes(tiny, tmp_path, capsys):
    """An epoch has four batches, and the run two epochs: 85 % of it end before the last batch."""
    more = ["worker_num=0", "epoch=2", "TrainReader.batch_size=2"]
    transforms = (
        "TrainReader.sample_transforms=[Decode: {}, Mosaic: {input_dim: [64, 96]}, NormalizeImage: {}, Permute: {}]"
    )
    shown = {}
    for name, options in (
        ("mosaic", [transforms]),
        ("plain", [transforms.replace("Mosaic: {input_dim: [64, 96]}, ", "")]),
    ):
        arguments = itertools.chain.from_iterable(("-o", option) for option in [*more, *options])
        show("-c", tiny, "--epoch", 2, "--batches", 4, "--output", tmp_path / name, *arguments)
        shown[name] = [(tmp_path / name / f"batch_{number}.jpg").read_bytes() for number in range(1, 5)]
    capsys.readouterr()
    # 0.85 of 8 batches are 6.8: the last batch of the run has no mosaic.
    assert [one == other for one, other in zip(shown["mosaic"], shown["plain"])] == [False, False, False, True]


def test_a_reader_without_targets_is_refused(tiny, capsys):
    with pytest.raises(SystemExit):
        show("-c", tiny, "-o", "TrainReader.batch_transforms=[PadBatch: {pad_to_stride: 32}]")
    assert "makes no training targets: add Gt2FCOSTarget" in capsys.readouterr().err
