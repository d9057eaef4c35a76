"""Paddle Inference."""

from pathlib import Path
from typing import Optional

import numpy as np

from ppdet.deploy.backends.base import Backend, Options, reason
from ppdet.deploy.errors import DeployError
from ppdet.utils.logger import get_logger
from ppdet.utils.paddle_setup import load_paddle

logger = get_logger(__name__)
GRAPHS = ("model.json", "model.pdmodel")
# What TensorRT is told of the sizes to expect: the smallest side of an input, and the largest batch.
LEAST_SIDE, LARGEST_BATCH = 32, 32


class PaddleInference(Backend):
    """model.json or model.pdmodel, and model.pdiparams.

    On a CPU in float32 or, with oneDNN, bfloat16; on a GPU in float32, float16 or bfloat16, and with TensorRT in
    float32, float16 or int8 (calibrated with the first images, into the folder).

    Raises:
        DeployError: Paddle cannot load the files.
    """

    name = package = format = "paddle"
    distribution = "paddlepaddle"

    def __init__(self, folder: Path, options: Options) -> None:
        super().__init__(folder, options)
        load_paddle(announce=False, threads=options.threads)
        self.onednn = options.onednn and options.device == "cpu"
        self.load()

    @classmethod
    def find(cls, folder: Path, precision: str) -> Optional[Path]:
        graph = next((folder / name for name in GRAPHS if (folder / name).is_file()), None)
        return graph if (folder / "model.pdiparams").is_file() else None

    @classmethod
    def refusal(cls, options: Options) -> Optional[str]:
        if options.device == "gpu":
            load_paddle(announce=False)
            import paddle

            if not paddle.is_compiled_with_cuda():
                return "this Paddle has no GPU support: install paddlepaddle-gpu, or use device cpu"
            if options.precision == "int8" and not options.tensorrt:
                return "on a GPU it has int8 with TensorRT only"
            if options.precision == "bf16" and options.tensorrt:
                return "TensorRT has fp32, fp16 and int8"
        elif options.precision not in ("fp32", "bf16"):
            return f"it has no {options.precision} on a CPU; fp32 and bf16 it has"
        elif options.precision == "bf16" and not options.onednn:
            return "bf16 needs oneDNN"
        return None

    def load(self) -> None:
        from paddle import inference

        graph = self.find(self.folder, self.options.precision)
        config = inference.Config(str(graph), str(graph.with_name("model.pdiparams")))
        config.disable_glog_info()
        if self.options.device == "gpu":
            self.use_gpu(config)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(self.options.cpu_threads)
            if self.onednn:
                config.enable_mkldnn()
                if self.options.precision == "bf16":
                    config.enable_mkldnn_bfloat16()
            elif hasattr(config, "disable_mkldnn"):
                config.disable_mkldnn()
        try:
            self.predictor = inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError) as error:
            advice = "export it again"
            if self.options.precision == "bf16":
                advice = "take precision fp32 where the processor has no bfloat16 (AVX-512), otherwise export it again"
            raise DeployError(
                f"{self.folder}: Paddle cannot load it in {self.options.precision}: {advice} ({reason(error)})"
            ) from None
        self.inputs = self.predictor.get_input_names()
        self.outputs = self.predictor.get_output_names()

    def use_gpu(self, config: object) -> None:
        from paddle.inference import PrecisionType

        types = {"fp16": PrecisionType.Half, "bf16": PrecisionType.Bfloat16, "int8": PrecisionType.Int8}
        precision = types.get(self.options.precision, PrecisionType.Float32)
        if not self.options.tensorrt:
            config.enable_use_gpu(200, 0, precision)
            return
        config.enable_use_gpu(200, 0)
        config.enable_tensorrt_engine(
            workspace_size=1 << 30,
            max_batch_size=LARGEST_BATCH,
            min_subgraph_size=3,
            precision_mode=precision,
            use_static=False,
            use_calib_mode=self.options.precision == "int8",
        )
        side = self.options.max_size
        shapes = {
            "image": ([1, 3, LEAST_SIDE, LEAST_SIDE], [LARGEST_BATCH, 3, side, side], [1, 3, side, side]),
            "scale_factor": ([1, 2], [LARGEST_BATCH, 2], [1, 2]),
            "im_shape": ([1, 2], [LARGEST_BATCH, 2], [1, 2]),
        }
        config.set_trt_dynamic_shape_info(*({name: shapes[name][i] for name in shapes} for i in range(3)))

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return self.run_once(arrays)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            # Graphs of other exporters can hold operators that oneDNN's executor does not take.
            if not self.onednn or self.options.precision != "fp32":
                raise
            logger.warning("oneDNN cannot run this graph, going on without: %s", reason(error))
            self.onednn = False
            self.load()
            return self.run_once(arrays)

    def run_once(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        for name, array in arrays.items():
            self.predictor.get_input_handle(name).copy_from_cpu(array)
        self.predictor.run()
        return [self.predictor.get_output_handle(name).copy_to_cpu() for name in self.outputs]
