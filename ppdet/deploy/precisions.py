"""The precisions in which exported models compute."""

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
CALIBRATION, MAX_DROP = 300, 0.5  # int8: images with which it is quantized, and the percent of AP that it may lose
OWN_FILES = ("fp16", "int8")  # for these, ONNX Runtime and OpenVINO have files of their own: model_fp16.*, model_int8.*
TENSORRT, TENSORRT_INT8 = "model_tensorrt.onnx", "model_tensorrt_int8.onnx"
OF_TENSORRT = {TENSORRT: "fp32", TENSORRT_INT8: "int8"}  # files for its own ONNX parser, and their precisions


def graph_name(precision: str) -> str:
    """The name, without its ending, of the files that ONNX Runtime and OpenVINO load for a precision."""
    return f"model_{precision}" if precision in OWN_FILES else "model"
