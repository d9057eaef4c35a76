"""Operators that stay in float32 when a graph computes in 16 bits: Paddle chooses them by name."""

import paddle
import pytest
from noise import noisy, write_padded
from paddle import inference
from paddle.static import InputSpec

from ppdet.deploy.backends import tensorrt
from ppdet.deploy.backends.operator_names import FLOAT32_OPERATORS, LEFT_IN_FLOAT32, NOT_FOR_TENSORRT, OF_NETWORKS
from ppdet.engine.build import build_trained_model
from ppdet.engine.export.static_graph import ExportedDetector, save_graph

PADDLE_2 = not hasattr(inference.Config, "new_ir_enabled")
HALF, BFLOAT16 = inference.PrecisionType.Half, inference.PrecisionType.Bfloat16
OPTIONS = "level_top_k=20", "level_top_k_of=classes", "clip_boxes=true", "last_pixel=true"
BEST = tuple(f"FCOSHead.{option}" for option in OPTIONS)
SOFT = "FCOSHead.last_pixel=true", "FCOSHead.nms={name: SoftNMS, nms_top_k: 20, keep_top_k: 5}"


@pytest.fixture(scope="module", params=[(), BEST, SOFT], ids=["all", "best", "soft"])
def graph(request, tmp_path_factory):
    """The graph of a detector with random weights; all boxes, the best of each level, clipped, or
    Soft-NMS."""
    folder = tmp_path_factory.mktemp("graph")
    model = build_trained_model(noisy(write_padded(folder, images=1), request.param))
    detector = ExportedDetector(model, normalizer=None, output="detections")
    detector.eval()
    shapes = {"image": [None, 3, None, None], "scale_factor": [None, 2], "im_shape": [None, 2]}
    inputs = {name: InputSpec(shape, "float32", name) for name, shape in shapes.items()}
    save_graph(detector, inputs, folder)
    return folder


def operators(folder):
    """For each operator of the graph, in order: its type, the indices of its inputs' operators, and its result
    types."""
    paddle.enable_static()
    try:
        executor = paddle.static.Executor(paddle.CPUPlace())
        program = paddle.static.load_inference_model(str(folder / "model"), executor)[0]
        block = program.global_block()
        if not PADDLE_2:
            places = {one.id: place for place, op in enumerate(block.ops) for one in op.results()}
            for op in block.ops:
                taken = [one.source() for one in op.operands() if one.source().initialized()]
                before = [places[one.id] for one in taken]
                dtypes = [str(one.dtype) for one in op.results() if one.is_dense_tensor_type()]
                yield op.name().split(".")[1], before, [dtype.split(".")[-1] for dtype in dtypes]
            return
        made = {}
        for place, op in enumerate(block.ops):
            before = [made[name] for name in op.input_arg_names if name in made]
            made.update(dict.fromkeys(op.output_arg_names, place))
            results = [block.var(name) for name in op.output_arg_names if op.type != "fetch" and block.has_var(name)]
            yield op.type, before, [str(one.dtype).split(".")[-1].lower().replace("fp", "float") for one in results]
    finally:
        paddle.disable_static()


def decoding(folder):
    """Types, and types of results, of the operators between the convolutions and suppression."""
    found = list(operators(folder))
    (suppression,) = (place for place, (kind, _, _) in enumerate(found) if kind == "multiclass_nms3")
    waiting, seen = list(found[suppression][1]), set()
    while waiting:
        place = waiting.pop()
        kind, before, _ = found[place]
        of_convolution = any(found[other][0] == "conv2d" for other in before)  # its bias
        if place in seen or kind == "conv2d" or of_convolution:
            continue
        seen.add(place)
        waiting.extend(before)
    return [(found[place][0], found[place][2]) for place in seen]


# They have no weights, or only the weights of a convolution.
OTHERS = {"data", "feed", "full", "fill_constant", "full_int_array", "combine", "relu", "parameter"}


def test_boxes_are_decoded_by_operators_that_stay_in_float32(graph):
    """Whatever is added to decoding has to be: what Paddle computes in 16 bits it chooses by these names alone."""
    kinds = {kind for kind, dtypes in decoding(graph) if "float32" in dtypes}
    assert len(kinds) > 10 and kinds - OTHERS <= FLOAT32_OPERATORS


def test_tensorrt_gets_a_network_whole(graph):
    """All that lies between convolutions may be in one engine; beside it there is decoding, which TensorRT leaves."""
    found = list(operators(graph))
    last = max(place for place, (kind, _, _) in enumerate(found) if kind == "conv2d")
    network = {kind for kind, _, dtypes in found[:last] if "float32" in dtypes}
    # A scale for each level's distances comes after its last convolution; biases are reshaped when a graph is loaded.
    assert network & NOT_FOR_TENSORRT <= {"multiply", "elementwise_mul", "reshape", "reshape2"}
    assert network & OF_NETWORKS


def test_tensorrt_gets_nothing_of_decoding(graph):
    """What hangs together of the operators behind the network that it may take is too little for an engine."""
    found = list(operators(graph))
    last = max(place for place, (kind, _, _) in enumerate(found) if kind == "conv2d")
    groups = []
    for place, (kind, before, _) in enumerate(found):
        # A convolution's bias, and the maps that are flattened for decoding, belong to the network's engine.
        if place <= last or kind in NOT_FOR_TENSORRT or kind == "multiclass_nms3":
            continue
        joined = [group for group in groups if group & set(before)]
        groups = [group for group in groups if group not in joined] + [{place}.union(*joined)]
    of_network = [group for group in groups if any(set(found[place][1]) & {last} for place in group)]
    sizes = [len(group) for group in groups if group not in of_network]
    assert max(sizes) > 2  # such as the levels' boxes, concatenated
    assert max(sizes) + 2 * 2 < tensorrt.LEAST_OPERATORS  # FCOS has two more levels than this one


@pytest.mark.skipif(not (PADDLE_2 and paddle.is_compiled_with_cuda()), reason="needs the build for GPUs, 2.6")
@pytest.mark.parametrize("precision", [HALF, BFLOAT16])
def test_paddle_leaves_decoding_in_float32(graph, tmp_path, precision):
    """Paddle's own conversion, which needs no GPU: it is what a predictor does with a graph that it loads."""
    small = "float16" if precision == HALF else "bfloat16"
    for chosen in (LEFT_IN_FLOAT32, ()):
        source, target = ([str(folder / f"model{end}") for end in (".pdmodel", ".pdiparams")] for folder in
                          (graph, tmp_path))  # fmt: skip
        inference.convert_to_mixed_precision(*source, *target, precision, inference.PlaceType.GPU, True, set(chosen))
        in_16_bits = [kind for kind, dtypes in decoding(tmp_path) if small in dtypes]
        convolutions = [dtypes for kind, _, dtypes in operators(tmp_path) if kind == "conv2d"]
        assert len(convolutions) > 10 and all(dtypes == [small] for dtypes in convolutions)
        if chosen:
            assert set(in_16_bits) <= {"relu", "cast"}
        else:
            assert {"elementwise_sub", "elementwise_div", "concat"} <= set(in_16_bits)
