"""Export: from a trained model to a folder with files that inference engines run, each compared with the model.

graph         export_model: the order of all steps, and replacing an earlier export
static_graph  the network and what follows it, recorded as Paddle's static graph
infer_cfg     infer_cfg.yml: how an engine's user has to prepare images, and what the graph puts out
metadata      what ONNX and OpenVINO files say about themselves
refusals      what an export refuses before weights are loaded
onnx          from Paddle's graph to ONNX and OpenVINO
int8          files in int8, each made and measured in a module of its own: int8_onnx, int8_openvino, int8_tensorrt
tensorrt_onnx a graph of fixed sizes for TensorRT
triton        a model repository for Triton, made of the ONNX file
check         runs every written file in its engine and compares it with the trained model
"""
