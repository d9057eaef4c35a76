"""An exported detector that takes no time: it finds one box in every image."""

from pathlib import Path

import numpy as np
import yaml


def write_model(folder: Path) -> Path:
    """Write infer_cfg.yml and model.onnx into a folder; return the folder.

    Raises:
        ImportError: onnx is not installed.
    """
    from onnx import TensorProto, checker, helper, numpy_helper, save

    from fuzz.configurations import INFER

    floats = [("image", [None, 3, None, None]), ("im_shape", [None, 2]), ("scale_factor", [None, 2])]
    row = np.array([[0, 0.9, 1, 1, 9, 7]], np.float32)
    constants = {"row": row, "first": np.array([0]), "six": np.array([6]), "one": np.array([1], np.int32)}
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["count"]),
        helper.make_node("Concat", ["count", "six"], ["rows"], axis=0),
        helper.make_node("Expand", ["row", "rows"], ["bbox"]),
        helper.make_node("Expand", ["one", "count"], ["bbox_num"]),
    ]
    graph = helper.make_graph(
        nodes,
        "one box",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in floats],
        [
            helper.make_tensor_value_info("bbox", TensorProto.FLOAT, [None, 6]),
            helper.make_tensor_value_info("bbox_num", TensorProto.INT32, [None]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    save(model, str(folder / "model.onnx"))
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(INFER))
    return folder
