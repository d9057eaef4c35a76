"""tools/convert_weights.py: from a file of another code base to one that loads here, or one line."""

import subprocess
import sys
from pathlib import Path

import foreign
import numpy as np
import paddle
import pytest
import safetensors.numpy
from attacks import attacks
from commands import execute
from torch_files import FORMS, legacy_file, tensor, zip_file

from ppdet.convert import CODE_BASES, Checkpoint, ConversionError, convert
from ppdet.core.workspace import load_config
from ppdet.engine.checkpoints.weights import load_weights, read_arrays
from ppdet.engine.weight_conversion import contradictions, convert_file

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/fcos/fcos_r50_fpn_1x_coco.yml"
# A network small enough for a test, and the files' one.
SMALL = ["ResNet.depth=18", "FPN.out_channel=32", "FCOSHead.fcos_feat.feat_in=32", "FCOSHead.fcos_feat.feat_out=32"]
THIN = {"depth": 18, "channels": 32}


def write(path, shapes, form, seed=0, **wrapped):
    values = foreign.arrays(shapes, seed)
    path.write_bytes(FORMS[form]({"state_dict": {name: tensor(value) for name, value in values.items()}, **wrapped}))
    return values


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("code_base", "shapes"),
    [("mmdet", foreign.mmdet(**THIN)), ("fcos_plus", foreign.fcos_plus(**THIN)), ("auto", foreign.torchvision(**THIN))],
    ids=["mmdet", "fcos_plus", "torchvision"],
)
def test_a_detector_loads_and_runs(tmp_path, capsys, code_base, shapes, form):
    write(tmp_path / "theirs.pth", shapes, form, meta={"epoch": 12})
    target = tmp_path / "new" / "ours.pdparams"
    convert_file(tmp_path / "theirs.pth", target, code_base=code_base, config=CONFIG, overrides=SMALL)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [f"names and shapes fit {CONFIG}", f"wrote {target}: 164 arrays"]
    assert "missing nothing" in lines
    model = load_config(CONFIG, SMALL).create("FCOS")
    report = load_weights(model, target, strict=True)
    assert len(report.loaded) == 164 and not report.unexpected
    model.eval()
    maps = model.predict_maps(paddle.zeros([1, 3, 64, 64]))
    assert all(np.isfinite(level.numpy()).all() for field in maps for level in field)


def test_a_backbone_loads(tmp_path, capsys):
    values = foreign.arrays(foreign.classifier(18), seed=1)
    (tmp_path / "r18.safetensors").write_bytes(safetensors.numpy.save(values))
    target = tmp_path / "r18_ours.safetensors"
    convert_file(tmp_path / "r18.safetensors", target, config=CONFIG, overrides=SMALL)
    assert "left 2 (the classifier of another data set): fc.bias, fc.weight" in capsys.readouterr().out
    model = load_config(CONFIG, SMALL).create("FCOS")
    report = load_weights(model, target, strict=False)
    assert all(not name.startswith("backbone.") for name in report.missing) and not report.mismatched
    loaded = model.state_dict()["backbone.res5.res5b.branch2b.conv.weight"].numpy()
    assert np.array_equal(loaded, values["layer4.1.conv2.weight"])
    paddle_reads = tmp_path / "p.pdparams"
    convert_file(tmp_path / "r18.safetensors", paddle_reads)
    assert np.array_equal(paddle.load(str(paddle_reads))["conv1.conv1.conv.weight"].numpy(), values["conv1.weight"])


def test_another_configuration(tmp_path, capsys):
    """What does not fit is shown, five names of it, and nothing is written."""
    write(tmp_path / "theirs.pth", foreign.mmdet(**THIN, classes=20), "zip")
    target = tmp_path / "ours.pdparams"
    with pytest.raises(ConversionError, match=r"theirs\.pth: does not fit .*: 2 names"):
        convert_file(tmp_path / "theirs.pth", target, config=CONFIG, overrides=SMALL)
    shown = capsys.readouterr().out.splitlines()[-2:]
    sizes = "is [20, 32, 3, 3] in the file, [80, 32, 3, 3] in the configuration's model"
    assert shown[0] == f"fcos_head.fcos_head_cls.weight {sizes}: -o num_classes=20"
    with pytest.raises(ConversionError):
        convert_file(tmp_path / "theirs.pth", target, config=CONFIG, overrides=[*SMALL, "ResNet.depth=34"])
    assert len([line for line in capsys.readouterr().out.splitlines() if ".depth=18" in line]) == 3
    assert not target.exists()
    convert_file(tmp_path / "theirs.pth", target, config=CONFIG, overrides=[*SMALL, "num_classes=20"])
    assert read_arrays(target)["fcos_head.fcos_head_cls.bias"].shape == (20,)


def test_incomplete_weights(tmp_path, capsys):
    """Without a configuration they are written, and what is missing is said; with one they are refused."""
    shapes = foreign.mmdet(**THIN)
    del shapes["bbox_head.conv_reg.weight"]
    write(tmp_path / "theirs.pth", shapes, "zip")
    convert_file(tmp_path / "theirs.pth", tmp_path / "ours.pdparams")
    assert "missing 1 (fcos_head 1): fcos_head.fcos_head_reg.weight" in capsys.readouterr().out
    with pytest.raises(ConversionError, match="1 names"):
        convert_file(tmp_path / "theirs.pth", tmp_path / "more.pdparams", config=CONFIG, overrides=SMALL)


def test_the_source_stays(tmp_path):
    source = tmp_path / "w.pdparams"
    write(source, foreign.mmdet(**THIN), "zip")
    content = source.read_bytes()
    (tmp_path / "link.pdparams").symlink_to(source)
    for target in (source, tmp_path / "." / "w.pdparams", tmp_path / "link.pdparams"):
        with pytest.raises(ConversionError, match="this is the file to convert"):
            convert_file(source, target)
    with pytest.raises(ConversionError, match=r"out\.pth: its name must end in \.pdparams or \.safetensors"):
        convert_file(source, tmp_path / "out.pth")
    assert source.read_bytes() == content and not (tmp_path / "out.pth").exists()


def run(*arguments):
    return execute("tools/convert_weights.py", *arguments)


def test_the_command(tmp_path):
    write(tmp_path / "theirs.pth", foreign.mmdet(18, channels=32), "legacy")
    command = [sys.executable, "tools/convert_weights.py", str(tmp_path / "theirs.pth"), "--from", "mmdet"]
    command += ["--to", str(tmp_path / "ours.pdparams")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("mmdet: 151 arrays mapped (backbone 100, neck 16, fcos_head 35)\n")
    assert result.stdout.endswith(f"wrote {tmp_path}/ours.pdparams: 164 arrays\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ours.pdparams", "theirs.pth"]


@pytest.mark.parametrize("content", [zip_file, legacy_file])
def test_malicious_files_run_nothing(tmp_path, content):
    path = tmp_path / "evil.pth"
    path.write_bytes(content(None, pickled=attacks(tmp_path / "ran")["os.system"]))
    result = run(path, "--to", tmp_path / "w.pdparams")
    assert result.returncode == 2 and result.stdout == "" and result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {path}: refused: it refers to posix.system")
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pth"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.pth", "--to", "w.pdparams"], "error: nothing.pth: no such file\n"),
        (["nothing.pth", "--to", "w.pdparams", "-c", "nothing.yml"], "error: nothing.yml: "),
        (["README.md", "--to", "w.pdparams"], "error: README.md: not a complete PyTorch, pickle or safetensors file"),
        (["tests", "--to", "w.pdparams"], "error: tests: Is a directory\n"),
        (["README.md", "--to", "w.pdparams", "-o", "num_classes=3"], "usage: "),
        (["README.md", "--to", "w.pdparams", "--from", "keras"], "usage: "),
    ],
)
def test_mistakes_are_one_line(arguments, message):
    result = run(*arguments)
    assert result.returncode == 2 and result.stderr.startswith(message) and "Traceback" not in result.stderr


def test_help_names_the_code_bases():
    result = run("--help")
    assert result.returncode == 0 and "examples:" in result.stdout
    assert "{auto,mmdet,fcos_plus,torchvision,detectron2}" in result.stdout
    assert set(CODE_BASES) == {"mmdet", "fcos_plus", "torchvision", "detectron2"}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("fcos_r50_caffe_fpn_gn_1x_coco", "", None),
        ("fcos_r50_caffe_fpn_gn_ms_2x_coco", "style='caffe'", None),
        ("fcos_r50_fpn_1x_coco", "", "ResNet.variant is b, there a"),
        ("fcos_r50_caffe_fpn_gn_tricks_1x_coco", "", "FCOSHead.norm_reg_targets is True, there False"),
        ("fcosplus_r50_fpn_1x_coco", "", "FCOSHead.last_pixel is True, there False"),
        ("fcos_r50_fpn_1x_coco", "style='pytorch'", None),  # no published detector, nothing to compare with
    ],
)
def test_settings_that_no_array_tells_are_compared(name, text, told):
    checkpoint = Checkpoint(foreign.arrays(foreign.mmdet(50, width=16, channels=32)), [], "", text)
    found = contradictions(load_config(f"configs/fcos/{name}.yml"), convert(checkpoint), checkpoint)
    assert (told is None) == (found == [])
    assert told is None or all(told in line and "look made for fcos_r50_caffe_fpn_gn_" in line for line in found)


def test_foreign_weights_are_converted_as_they_are_loaded(tmp_path, log):
    """By suffix, or by names; what was made and the model has no place for stays out."""
    shapes = foreign.mmdet(**THIN)
    write(tmp_path / "theirs.pth", shapes, "zip")
    model = load_config(CONFIG, [*SMALL, "FCOSHead.fcos_feat.conv_bias=false"]).create("FCOS")
    report = load_weights(model, tmp_path / "theirs.pth", strict=True)
    assert not report.missing and not report.unexpected and "mmdet: " in log.text
    (tmp_path / "other.pth").write_bytes(b"no weights")
    with pytest.raises(ConversionError, match="if it was downloaded, delete it"):
        load_weights(model, tmp_path / "other.pth", strict=True)
