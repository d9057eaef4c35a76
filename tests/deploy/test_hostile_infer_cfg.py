"""Files infer_cfg.yml of exported models from strangers: each is read in limits and refused in one line."""

from pathlib import Path

import pytest
import yaml

from ppdet.deploy.preprocess import Preprocess, read_infer_cfg
from ppdet.utils.errors import DeployError

SETTINGS = {"label_list": ["a"], "Preprocess": [{"type": "Resize", "target_size": 64}, {"type": "Permute"}]}


def refusal(folder: Path) -> str:
    with pytest.raises(DeployError) as caught:
        Preprocess(read_infer_cfg(folder))
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1500
    return line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: "\\U00110000"', "YAML syntax: before the end of line 1 is an escape of no character"),
        ("[" * 5000, "nested too deeply"),
        (
            "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40)),
            "more than 100,000 values",
        ),
        ("a: " + "1" * 100_000, "a number has at most 100"),
        ("a: !!timestamp 2024-99-99", "the YAML tag !!timestamp is refused"),
        ("a: !!python/object/apply:os.system [ls]", "is refused"),
        (yaml.safe_dump(SETTINGS) + '\nb: "\\0"', "it has a NUL character"),
    ],
)
def test_yaml_is_read_as_that_of_a_configuration(tmp_path, text, message):
    (tmp_path / "infer_cfg.yml").write_text(text)
    line = refusal(tmp_path)
    assert line.startswith(f"{tmp_path}/infer_cfg.yml:")
    assert message in line


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"type": "Resize", "target_size": [10**9, 10**9]}, "target_size is 1e+09 x 1e+09; it must be at most"),
        ({"type": "Resize", "target_size": 64, "interp": True}, "interp is True, expected 0 nearest"),
        ({"type": "Resize", "target_size": "x" * 10_000}, "expected one or two positive integers"),
        ({"type": "PadStride", "stride": 1.5}, "pad_to_stride is 1.5, expected 0 or a positive stride"),
        ({"type": "PadStride", "stride": 10**9}, "expected 0 or a positive stride of at most 1024"),
        ({"type": "Pad", "size": 64, "fill_value": [1e300] * 3}, "expected three numbers of at most 1e+06"),
        ({"type": "NormalizeImage", "mean": [float("inf")] * 3}, "NormalizeImage.mean is inf; it must be"),
        ({"type": "NormalizeImage", "std": [1e-300] * 3}, "NormalizeImage.std is 1e-300; it must be"),
        ({"type": "x" * 10_000}, "expected one of Resize"),
    ],
)
def test_numbers_of_operations_have_bounds(tmp_path, operation, message):
    content = {**SETTINGS, "Preprocess": [operation, *SETTINGS["Preprocess"]]}
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump(content))
    assert message in refusal(tmp_path)


@pytest.mark.parametrize("shape", [[3, 10**9, 10**9], [3, 2**40, 64], "x" * 10_000, list(range(5000))])
def test_shapes_have_bounds(tmp_path, shape):
    content = {**SETTINGS, "use_dynamic_shape": False, "image_shape": shape}
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump(content))
    assert refusal(tmp_path).startswith("infer_cfg.yml: image_shape is ")


def test_modules_that_it_requires_are_not_imported_by_reading(tmp_path):
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump({**SETTINGS, "requires": ["nowhere"]}))
    assert read_infer_cfg(tmp_path)["requires"] == ["nowhere"]
