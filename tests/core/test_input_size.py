"""The setting input_size for all transforms that resize, and which settings override it."""

from pathlib import Path

import numpy as np
import pytest

from ppdet.core.show import show
from ppdet.core.workspace import load_config, merge_config
from ppdet.data.transforms import RandomResize
from ppdet.engine.export.infer_cfg import describe_transforms
from ppdet.engine.runs.setting_differences import differences

ROOT = Path(__file__).resolve().parents[2]
BCCD = ROOT / "configs/fcos/fcos_r18vd_fpn_bccd.yml"
COCO = ROOT / "configs/fcos/fcos_r50_fpn_1x_coco.yml"
SHAPES = ROOT / "configs/fcos/fcos_r18_fpn_shapes.yml"
SEMI = ROOT / "configs/semi_det/denseteacher/denseteacher_fcos_r18vd_bccd_semi010.yml"
PLACES = ("TrainReader", "EvalReader", "TestReader")
OWN = [f"{reader}.sample_transforms.1.target_size" for reader in PLACES]


def sizes(config, *readers):
    """The size of each reader's resizing; for a random one, the sizes to choose from."""
    made = [config.component(reader).create("sample_transforms")[1] for reader in readers or PLACES]
    return [one.sizes if isinstance(one, RandomResize) else one.target_size for one in made]


def test_shipped_files_have_the_sizes_that_they_had():
    assert sizes(load_config(BCCD)) == [(320, 427)] * 3
    drawn = [(192, 256), (208, 277), (224, 299), (240, 320)]
    assert sizes(load_config(SEMI), "SemiTrainReader", *PLACES) == [drawn, drawn, (240, 320), (240, 320)]


@pytest.mark.parametrize(("text", "expected"), [("[480,640]", (480, 640)), ("512", (512, 512)), ("[7, 3]", (7, 3))])
def test_one_setting_sizes_training_evaluation_and_export(tmp_path, log, text, expected):
    config = load_config(BCCD, [f"input_size={text}"])
    assert sizes(config) == [expected] * 3
    described = describe_transforms(config.component("TestReader").create("sample_transforms"))
    assert described[0] == {"type": "Resize", "target_size": list(expected), "keep_ratio": True, "interp": 1}
    assert "input_size" not in log.text
    config.dump(tmp_path / "dump.yml")
    (tmp_path / "show.yml").write_text(show(config))
    assert sizes(load_config(tmp_path / "dump.yml")) == sizes(load_config(tmp_path / "show.yml")) == [expected] * 3
    assert sizes(merge_config(load_config(BCCD), {"input_size": list(expected)})) == [expected] * 3


def test_random_sizes_are_factors_of_it():
    train = load_config(SEMI, ["input_size=[480,640]"]).component("SemiTrainReader").create("sample_transforms")[1]
    assert train.sizes == [(384, 512), (416, 555), (448, 597), (480, 640)]
    image = {"image": np.zeros((480, 640, 3), np.uint8)}
    drawn = {train(dict(image), np.random.default_rng(seed))["image"].shape[:2] for seed in range(40)}
    assert drawn == {(384, 512), (416, 555), (448, 597), (480, 640)}
    assert RandomResize(input_size=100).sizes == [(100, 100)]
    between = RandomResize(input_size=[100, 200], scales=[0.5, 1], random_range=True)
    assert (between.sizes[0], between.sizes[-1], len(between.sizes)) == ((50, 200), (100, 200), 51)


@pytest.mark.parametrize("value", ["[480]", "[480, 640, 3]", "[0, 640]", "-5", "[]", "big", "[480, 6.5]", "true"])
def test_what_is_no_size_is_refused(value):
    with pytest.raises(ValueError, match=r"^-o: input_size(\.\d)?: expected "):
        load_config(BCCD, [f"input_size={value}"])


def test_sizes_of_their_own_win_and_are_named():
    with pytest.raises(ValueError) as error:
        load_config(COCO, ["input_size=[480,640]"])
    line = str(error.value)
    assert line.startswith("-o: input_size: changes nothing: TrainReader.sample_transforms.1.target_size=[800,1333] (")
    assert all(key in line for key in OWN) and "fcos_reader.yml:7)" in line and "or set null there" in line
    with pytest.raises(ValueError, match=r"^merge_config: input_size: changes nothing: "):
        merge_config(load_config(COCO), {"input_size": 480})
    # As it says: null follows.
    assert sizes(load_config(COCO, ["input_size=480", *(f"{key}=null" for key in OWN)])) == [(480, 480)] * 3
    with pytest.raises(ValueError, match=r"no transform resizes: add `Resize: \{\}` after Decode"):
        load_config(SHAPES, ["input_size=480"])


def test_part_of_them_is_a_warning(tmp_path, log):
    path = tmp_path / "mine.yml"
    path.write_text(f"_BASE_: {BCCD}\nEvalReader:\n  sample_transforms: [Decode: {{}}, Resize: {{target_size: 99}}]\n")
    assert sizes(load_config(path)) == [(320, 427), (99, 99), (320, 427)]
    assert "input_size" not in log.text, "a file above it means what it says"
    assert sizes(load_config(path, ["input_size=480"])) == [(480, 480), (99, 99), (480, 480)]
    (line,) = [r.getMessage() for r in log.records]
    where = f"EvalReader.sample_transforms.1.target_size=99 ({path}:3) wins"
    assert line.startswith(f"-o: input_size does not change everything: {where}")
    log.clear()
    load_config(path, ["input_size=480", "EvalReader.sample_transforms.1.target_size=99"])
    assert not log.records, "both on one command line are meant"
    assert sizes(load_config(BCCD, ["Resize.target_size=64"])) == [(64, 64)] * 3
    assert not log.records, "what stands above it is meant"
    path.write_text("input_size: 8\nEvalReader:\n  sample_transforms: [Decode: {}, Resize: {target_size: 99}]\n")
    load_config(path)
    assert "input_size does not change everything: EvalReader.sample_transforms.1.target_size=99" in log.text


def test_a_resize_without_any_size_is_refused_when_the_file_is_read(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("EvalReader:\n  sample_transforms: [Decode: {}, Resize: {}]\n")
    with pytest.raises(ValueError, match=r"mine\.yml:2: EvalReader\.sample_transforms\.1: Resize has no target_size"):
        load_config(path)
    assert sizes(load_config(path, ["input_size=8"]), "EvalReader") == [(8, 8)]
    with pytest.raises(ValueError, match="scales are factors of the global setting input_size: unset target_size"):
        RandomResize(target_size=[3], scales=[1], input_size=3)
    with pytest.raises(ValueError, match=r"scales is \[0\], expected factors above 0"):
        RandomResize(input_size=3, scales=[0])


def test_a_component_inside_itself_is_no_endless_loop(tmp_path):
    path = tmp_path / "mine.yml"
    path.write_text("StrongAugImage: {transforms: [StrongAugImage: {}, StrongAugImage: {}]}\n")
    assert load_config(path)["epoch"] == 12


def test_sizes_are_compared_however_they_are_said(tmp_path):
    """A run's weights detect the same whether its sizes were in one setting or in three."""
    ours, theirs = load_config(BCCD), load_config(BCCD, [f"{key}=[320,427]" for key in OWN])
    assert differences(ours, theirs, "EvalReader") == []
    other = load_config(BCCD, ["input_size=[480,640]"])
    assert differences(other, theirs, "EvalReader") == [
        ("EvalReader.sample_transforms.Resize.target_size", "[480, 640]", "[320, 427]")
    ]


def test_a_mosaic_follows_it_unless_it_has_a_size_of_its_own(tmp_path, log):
    def size(config):
        mosaic = config.component("TrainReader").create("sample_transforms")[1]
        return mosaic.height, mosaic.width

    path = tmp_path / "mine.yml"
    chain = "TrainReader:\n  sample_transforms: [Decode: {{}}, Mosaic: {}, NormalizeImage: {{}}]\n"
    path.write_text(f"_BASE_: {BCCD}\n" + chain.format("{}"))
    assert size(load_config(path)) == (320, 427)
    assert size(load_config(path, ["input_size=[96, 128]"])) == (96, 128)
    assert "input_size" not in log.text
    path.write_text(f"_BASE_: {BCCD}\n" + chain.format("{input_dim: 64}"))
    assert size(load_config(path, ["input_size=[96, 128]"])) == (64, 64)
    where = f"TrainReader.sample_transforms.1.input_dim=64 ({path}:3) wins"
    assert f"-o: input_size does not change everything: {where}" in log.text
    path.write_text(f"_BASE_: {SHAPES}\n" + chain.format("{}"))
    assert size(load_config(path)) == (640, 640)
