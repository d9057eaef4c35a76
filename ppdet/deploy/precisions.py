"""The precisions in which exported models compute."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
OWN_FILES = ("fp16", "int8")  # for these, ONNX Runtime and OpenVINO have files of their own: model_fp16.*, model_int8.*
