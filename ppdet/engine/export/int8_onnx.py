"""ONNX graphs in int8, by ONNX Runtime's static quantizer."""

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ppdet.deploy.backends.onnx_runtime import ONNXRuntime
from ppdet.engine.export.accuracy import Calibration
from ppdet.engine.export.check import Arrays, ExportError
from ppdet.engine.export.onnx_graph import CONVOLUTIONS, network_of, save_valid
from ppdet.engine.export.prepared_images import FixedBatches
from ppdet.utils.logger import get_logger, is_watched

if TYPE_CHECKING:
    import onnx

logger = get_logger(__name__)
COMPARED = 8  # images of the calibration in which the nodes' errors are measured


class Scheme(NamedTuple):
    """How an engine takes quantized convolutions. Their weights always have a scale for each output channel.

    Attributes:
        activations: "QUInt8", from 0 to 255 with a zero point, or "QInt8", from -128 to 127.
        reduce_range: weights have 7 bits instead of 8.
        options: `extra_options` of ONNX Runtime's quantizer.
    """

    activations: str
    reduce_range: bool
    options: Mapping[str, Any]


# Processors without VNNI add two products of 8 bits in 16 bits, which would overflow.
FOR_ONNX_RUNTIME = Scheme("QUInt8", reduce_range=True, options={})


def write_onnx(folder: Path, calibration: Calibration) -> None:
    """Write model_int8.onnx beside model.onnx. Parameters and errors are those of `int8.write_int8`."""
    source, target = folder / "model.onnx", folder / "model_int8.onnx"
    batches, validation = calibration.batches, calibration.validation

    def write(kept: Sequence[str] = ()) -> None:
        quantize(source, target, batches, kept)

    if validation is None:
        return write()
    keep_worst(
        write,
        loss=lambda note: validation.loss_in_int8(folder, ONNXRuntime, note),
        rank=lambda: nodes_by_error(source, target, batches[:COMPARED]),
        max_drop=calibration.max_drop,
        engine="ONNX Runtime",
    )


def keep_worst(
    write: Callable[[Sequence[str]], None],
    *,
    loss: Callable[[str], float],
    rank: Callable[[], list[str]],
    max_drop: float,
    engine: str,
) -> None:
    """Write a graph in int8. If it loses too much AP, write it again with the worst nodes in float32.

    First one node stays in float32, then two, four, and so on.

    Args:
        write: writes the graph; the nodes of these names stay in float32.
        loss: how much AP the written graph loses, in percent; it logs this with a note.
        rank: names of all nodes in int8, sorted by how much their outputs differ from float32, the worst first.
        engine: in which AP was computed, for the error.

    Raises:
        ExportError: more than `max_drop` is lost even with all nodes in float32.
    """
    write(())
    lost = loss("")
    worst = rank() if lost > max_drop else []
    kept = 0
    while lost > max_drop:
        if kept >= len(worst):
            raise ExportError(f"int8 costs {lost:.1f} AP in {engine}: allow more with --max_drop")
        kept = max(1, 2 * kept)
        write(worst[:kept])
        lost = loss(f"; {len(worst[:kept])} of {len(worst)} nodes stay in float32")
    if worst and kept >= len(worst):
        logger.warning("%s: no node is left in int8: allow more than %g AP with --max_drop", engine, max_drop)


def quantize(
    source: Path,
    target: Path,
    batches: Sequence[Arrays] | FixedBatches,
    kept: Collection[str] = (),
    scheme: Scheme = FOR_ONNX_RUNTIME,
) -> None:
    """Write the graph of an ONNX file with convolutions in int8 (QDQ).

    Sums and pooling are not quantized: on blood cells that lost more AP, and was not faster.

    Args:
        batches: a graph's inputs, which show the ranges of activations.
        kept: names of nodes that stay in float32, besides the head's last convolutions and all that follows.
        scheme: what the engine takes that will run the graph.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(str(source))
    nodes = [name for name in inner_convolutions(model.graph.node) if name not in kept]
    if not nodes:  # the quantizer would take an empty list for all nodes
        target.write_bytes(source.read_bytes())
        return
    with quiet_quantizer():
        quantize_static(
            str(source),
            str(target),
            _Batches(batches, [value.name for value in model.graph.input], "calibration"),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=scheme.reduce_range,
            activation_type=QuantType.from_string(scheme.activations),
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options=dict(scheme.options),
        )
    quantized = onnx.load(str(target))  # the quantizer writes that the file is its own
    quantized.producer_name, quantized.producer_version = model.producer_name, model.producer_version
    del quantized.metadata_props[:]
    quantized.metadata_props.extend(model.metadata_props)
    save_valid(quantized, target)


@contextlib.contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Hide what ONNX Runtime's quantizer logs of itself: advice to simplify the graph, which has been done."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def inner_convolutions(nodes: "Sequence[onnx.NodeProto]") -> list[str]:
    """Names of the convolutions on whose outputs others depend: all but the head's last ones."""
    needed: set[str] = set()  # values that a convolution depends on
    inner = []
    for node in network_of(nodes):
        is_convolution, is_needed = node.op_type in CONVOLUTIONS, not needed.isdisjoint(node.output)
        if is_convolution or is_needed:
            needed.update(node.input)
        if node.op_type == "Conv" and is_needed:  # the quantizer leaves deformable ones as they are
            inner.append(node.name)
    return inner[::-1]


def nodes_by_error(source: Path, target: Path, batches: Sequence[Arrays] | FixedBatches) -> list[str]:
    """Names of the quantized nodes, sorted by how much their outputs differ from those in float32, the worst first.

    What counts is the ratio of signal to noise over all batches, of which one is in memory at a time.

    Args:
        source, target: the graph in float32 and in int8.
    """
    import onnx

    whole, small = onnx.load(str(source)), onnx.load(str(target))
    names = set(inner_convolutions(whole.graph.node))
    # An output that is quantized passes through two nodes, of which the second gives floats again; others stay floats.
    rounded = {node.input[0]: node.output[0] for node in small.graph.node if node.op_type == "QuantizeLinear"}
    floats = {node.input[0]: node.output[0] for node in small.graph.node if node.op_type == "DequantizeLinear"}
    made = {node.name: node.output[0] for node in whole.graph.node if node.name in names}
    seen = {name: floats[rounded[output]] if output in rounded else output for name, output in made.items()}
    inputs = [value.name for value in whole.graph.input]
    run_float, run_int8 = _runner(whole, [made[name] for name in seen]), _runner(small, list(seen.values()))
    signal, noise = np.zeros(len(seen)), np.zeros(len(seen))
    reader = _Batches(batches, inputs, "errors of nodes")
    while (arrays := reader.get_next()) is not None:
        for place, (expected, found) in enumerate(zip(run_float(arrays), run_int8(arrays), strict=True)):
            signal[place] += np.square(expected, dtype=np.float64).sum()
            noise[place] += np.square(expected - found, dtype=np.float64).sum()
    ratios = signal / np.maximum(noise, np.finfo(float).tiny)
    return [list(seen)[place] for place in np.argsort(ratios, kind="stable")]


def _runner(model: "onnx.ModelProto", names: Sequence[str]) -> Callable[[Arrays], list[np.ndarray]]:
    """Return a function that computes values inside a graph from its inputs. `model` gets them as outputs."""
    import onnx
    import onnxruntime

    value = partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT, shape=None)
    model.graph.output.extend(value(name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return partial(session.run, list(names))


class _Batches:
    """Batches as ONNX Runtime's quantizer reads them: one after the other, with the inputs that a graph has.

    Args:
        title: of a progress bar.
    """

    def __init__(self, batches: Sequence[Arrays] | FixedBatches, names: Sequence[str], title: str) -> None:
        inputs = ({name: batch[name] for name in names} for batch in batches)
        bar = tqdm(inputs, desc=title, total=len(batches), unit="batch", leave=False, disable=not is_watched())
        self._batches = iter(bar)

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)
