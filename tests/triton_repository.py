"""Comparing a model repository for Triton with its ONNX file."""

from pathlib import Path

import onnxruntime
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

# Fields of Triton's model_config.proto: name, number, type of descriptor.proto, whether repeated, type's name.
STRING, INT32, INT64, ENUM, MESSAGE = 9, 5, 3, 14, 11
NAME, DATA_TYPE = ("name", 1, STRING, False, ""), ("data_type", 2, ENUM, False, "DataType")
FIELDS = {
    "ModelInput": [NAME, DATA_TYPE, ("dims", 4, INT64, True, "")],
    "ModelOutput": [NAME, DATA_TYPE, ("dims", 3, INT64, True, ""), ("label_filename", 4, STRING, False, "")],
    "ModelConfig": [
        *(NAME, ("max_batch_size", 4, INT32, False, ""), ("input", 5, MESSAGE, True, "ModelInput")),
        *(("output", 6, MESSAGE, True, "ModelOutput"), ("backend", 17, STRING, False, "")),
    ],
}
TYPES = {"TYPE_INT32": 8, "TYPE_INT64": 9, "TYPE_FP16": 10, "TYPE_FP32": 11}
IN_ONNX_RUNTIME = {8: "tensor(int32)", 9: "tensor(int64)", 10: "tensor(float16)", 11: "tensor(float)"}


def read_config(path: Path):
    """A config.pbtxt as the message ModelConfig; an error for a field or a type that Triton does not have."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for name, number in {"TYPE_INVALID": 0, **TYPES}.items():
        kinds.value.add(name=name, number=number)
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, repeated, type_name in fields:
            more = {"type_name": f".inference.{type_name}"} if type_name else {}
            described.field.add(name=name, number=number, type=kind, label=3 if repeated else 1, **more)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
    return text_format.Parse(path.read_text(encoding="utf-8"), config)


def check_repository(exported: Path, name: str) -> dict[str, list[int]]:
    """Compare the repository of an export with its ONNX file; return the sizes of inputs and outputs by name."""
    [folder] = (exported / "triton").iterdir()
    assert folder.name == name
    assert {str(path.relative_to(folder)) for path in folder.rglob("*")} == {
        *("config.pbtxt", "labels.txt", "1", "1/model.onnx")
    }
    assert (folder / "1" / "model.onnx").read_bytes() == (exported / "model.onnx").read_bytes()
    config = read_config(folder / "config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == (name, "onnxruntime", 0)
    session = onnxruntime.InferenceSession(str(folder / "1" / "model.onnx"))
    for described, values in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        expected = {value.name: [s if isinstance(s, int) else -1 for s in value.shape] for value in values}
        assert {one.name: list(one.dims) for one in described} == expected
        assert [IN_ONNX_RUNTIME[one.data_type] for one in described] == [value.type for value in values]
    return {one.name: list(one.dims) for one in [*config.input, *config.output]}
