"""A model repository for NVIDIA's Triton Inference Server, made of the ONNX file of an export."""

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.utils.errors import ConfigError

if TYPE_CHECKING:
    import onnx

FOLDER = "triton"  # the repository, inside the folder of an export
TYPES = {"FLOAT": "TYPE_FP32", "FLOAT16": "TYPE_FP16", "INT32": "TYPE_INT32", "INT64": "TYPE_INT64"}


def with_onnx(formats: Sequence[str]) -> list[str]:
    """Return the formats other than "triton", and with it "onnx", which it needs."""
    others = [name for name in formats if name != "triton"]
    return ["onnx", *others] if "triton" in formats and "onnx" not in others else others


def write_repository(file: Path, folder: Path, name: str, labels: Iterable[str]) -> Path:
    """Write folder/triton/NAME with config.pbtxt, labels.txt and 1/model.onnx.

    Args:
        file: the ONNX file, which is copied.
        folder: folder of the export.
        name: the configuration's name, see `model_name`.
        labels: names of the classes: line n of labels.txt has the name of class n, counted from 0. No output of the
            configuration refers to the file, because Triton would take the place of a number for its class.

    Returns:
        The path of the model's folder.

    Raises:
        ConfigError: an input or output has no known rank, or a type that Triton's configuration is not written for.
    """
    import onnx

    graph = onnx.load(str(file)).graph
    target = folder / FOLDER / model_name(name)
    (target / "1").mkdir(parents=True)
    (target / "config.pbtxt").write_text(configuration(graph, target.name), encoding="utf-8")
    lines = [" ".join(label.split()) for label in labels]
    (target / "labels.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    shutil.copy(file, target / "1" / "model.onnx")
    return target


def model_name(name: str) -> str:
    """Return a name for a folder and an address: letters, digits, `_`, `-` and `.` of ASCII, not first a `.` or `-`."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".-")
    return plain if re.search(r"[A-Za-z0-9]", plain) else "model"


def configuration(graph: "onnx.GraphProto", name: str) -> str:
    """Return the text of config.pbtxt.

    The batch is an ordinary dimension (`max_batch_size: 0`): Triton can only form batches itself if each output has a
    row per image, and the detections of all images are joined.
    """
    lines = [f"name: {json.dumps(name)}", 'backend: "onnxruntime"', "max_batch_size: 0"]
    for kind, values in (("input", graph.input), ("output", graph.output)):
        lines += [f"{kind} [", ",\n".join(tensor(value) for value in values), "]"]
    return "\n".join(lines) + "\n"


def tensor(value: "onnx.ValueInfoProto") -> str:
    """Return the entry of an input or output; a dimension of any size is -1."""
    import onnx

    kind = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type)
    dims = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in value.type.tensor_type.shape.dim]
    if kind not in TYPES or not dims:
        raise ConfigError(f"--format triton: {value.name} has type {kind} and shape {dims}, which Triton does not take")
    return f"  {{ name: {json.dumps(value.name)}, data_type: {TYPES[kind]}, dims: {dims} }}"
