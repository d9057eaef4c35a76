"""A small detector in ONNX, made by hand, for the examples that run model.onnx."""

from pathlib import Path

import numpy as np
import pytest
import yaml

OPERATIONS = [
    {"type": "Resize", "target_size": [64, 80], "keep_ratio": True, "interp": 1},
    {"type": "NormalizeImage", "mean": [0.2, 0.1, 0.3], "std": [0.9, 1.1, 1.2], "is_scale": True},
    {"type": "Permute"},
    {"type": "PadStride", "stride": 32},
]


def write_model(
    folder: Path, size: tuple[int | str, int | str] = ("h", "w"), operations: list | None = None, **settings: object
) -> Path:
    """One detection: its score is the mean of the upper left 32 x 32 pixels of the input, its box begins at (8, 4) and
    ends where the image does, before padding."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "starts": np.zeros(2, np.int64), "ends": np.full(2, 32, np.int64), "axes": np.array([2, 3]),
        "label": np.ones((1, 1), np.float32), "corner_box": np.array([[8, 4]], np.float32),
        "swap": np.array([1, 0, 1, 0]), "turn": np.array([1, 0]), "one": np.ones(1, np.int32), "pair": np.array([1, 1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["image", "starts", "ends", "axes"], ["corner"]),
        helper.make_node("ReduceMean", ["corner"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "pair"], ["score"]),
        helper.make_node("Gather", ["scale_factor", "swap"], ["scale"], axis=1),
        helper.make_node("Gather", ["im_shape", "turn"], ["end"], axis=1),
        helper.make_node("Concat", ["corner_box", "end"], ["corners"], axis=1),
        helper.make_node("Div", ["corners", "scale"], ["box"]),
        helper.make_node("Concat", ["label", "score", "box"], ["bbox"], axis=1),
        helper.make_node("Identity", ["one"], ["bbox_num"]),
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [
            helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, *size]),
            helper.make_tensor_value_info("scale_factor", TensorProto.FLOAT, ["n", 2]),
            helper.make_tensor_value_info("im_shape", TensorProto.FLOAT, ["n", 2]),
        ],
        [
            helper.make_tensor_value_info("bbox", TensorProto.FLOAT, ["m", 6]),
            helper.make_tensor_value_info("bbox_num", TensorProto.INT32, ["n"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "model.onnx"))
    names = ["<b>a", "<b>b"]
    settings = {"arch": "FCOS", "Preprocess": operations or OPERATIONS, "label_list": names, **settings}
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(settings))
    return folder
