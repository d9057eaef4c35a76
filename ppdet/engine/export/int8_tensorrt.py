"""model_tensorrt_int8.onnx: the scales of int8 are nodes of the graph, which TensorRT calls explicit quantization.

Only the inputs of convolutions are quantized, and not their outputs, so that TensorRT can join a convolution with the
ReLU after it, as NVIDIA's documentation recommends. Zero points are 0, which is all that TensorRT imports. Integers are
added in 32 bits there, so that weights may have 8 bits. Biases are float32.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ppdet.deploy.precisions import TENSORRT, TENSORRT_INT8
from ppdet.engine.export.accuracy import Calibration
from ppdet.engine.export.int8_onnx import COMPARED, Scheme, keep_worst, nodes_by_error, quantize
from ppdet.engine.export.prepared_images import FixedBatches
from ppdet.engine.export.tensorrt_run import rows_from

if TYPE_CHECKING:
    import onnx

FOR_TENSORRT = Scheme(
    "QInt8",
    reduce_range=False,
    options={
        "ActivationSymmetric": True,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "DedicatedQDQPair": True,  # as NVIDIA's own quantizer does, two convolutions do not share a pair
    },
)


def write_tensorrt_int8(
    network: "onnx.ModelProto",
    append: "Callable[[onnx.ModelProto, Path], None]",
    folder: Path,
    calibration: Calibration,
    size: tuple[int, int],
    batch_size: int,
) -> None:
    """Write model_tensorrt_int8.onnx beside model_tensorrt.onnx, with which its AP is compared in ONNX Runtime.

    Args:
        network: a graph with fixed sizes, in float32, that ends with the candidates of NMS.
        append: appends NMS to such a graph and writes it.
        size: height and width of the images.

    Raises:
        ExportError: more AP is lost than allowed, whatever stays in float32.
    """
    import onnx

    batches, validation = FixedBatches(calibration.batches, size, batch_size), calibration.validation
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "network.onnx"), Path(temporary, "network_int8.onnx")
        onnx.save(network, str(source))

        def write(kept: Sequence[str] = ()) -> None:
            quantize(source, target, batches, kept, FOR_TENSORRT)
            append(onnx.load(str(target)), folder / TENSORRT_INT8)

        if validation is None:
            return write()
        images = FixedBatches(validation.images, size, batch_size)

        def percent(file: str, title: str) -> float:
            return 100 * validation.average_precision(rows_from(folder / file, batch_size), title, batches=images)

        before = percent(TENSORRT, "AP in float32")

        def loss(note: str) -> float:
            after = percent(TENSORRT_INT8, "AP in int8")
            return validation.logged_loss(f"{TENSORRT_INT8} in onnxruntime", before, after, note)

        keep_worst(
            write,
            loss=loss,
            rank=lambda: nodes_by_error(source, target, FixedBatches(calibration.batches[:COMPARED], size, batch_size)),
            max_drop=calibration.max_drop,
            engine=TENSORRT_INT8,
        )
