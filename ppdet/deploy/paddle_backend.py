"""Paddle Inference."""

from pathlib import Path

import numpy as np

from ppdet.deploy.preprocess import DeployError
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


class PaddleBackend:
    """An exported graph in Paddle Inference.

    Args:
        folder: holds model.json or model.pdmodel, and model.pdiparams.
        device: CPU or GPU. threads: of the CPU.
        onednn: use oneDNN on CPU. bfloat16: let it compute in bfloat16, on processors that have it.

    Raises:
        DeployError: files are missing, or GPU is asked of a Paddle without.
    """

    def __init__(self, folder: Path, *, device: str, threads: int, onednn: bool, bfloat16: bool) -> None:
        names = ("model.json", "model.pdmodel")
        self.graph = next((folder / name for name in names if (folder / name).is_file()), None)
        self.weights = folder / "model.pdiparams"
        if self.graph is None or not self.weights.is_file():
            raise DeployError(f"{folder}: expected model.json or model.pdmodel, and model.pdiparams, in it")
        self.device, self.threads, self.onednn, self.bfloat16 = device, threads, onednn, bfloat16
        self.load()

    def load(self) -> None:
        from paddle import inference, is_compiled_with_cuda

        config = inference.Config(str(self.graph), str(self.weights))
        config.disable_glog_info()
        if self.device == "GPU":
            if not is_compiled_with_cuda():
                raise DeployError("this Paddle has no GPU support: install paddlepaddle-gpu, or use --device CPU")
            config.enable_use_gpu(200, 0)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(self.threads)
            if self.onednn:
                config.enable_mkldnn()
                if self.bfloat16:
                    config.enable_mkldnn_bfloat16()
            elif hasattr(config, "disable_mkldnn"):
                config.disable_mkldnn()
        try:
            self.predictor = inference.create_predictor(config)
        except (RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[-1]
            raise DeployError(f"{self.graph.parent}: Paddle cannot load it, export it again ({reason})") from None
        self.inputs = self.predictor.get_input_names()
        self.outputs = self.predictor.get_output_names()

    def __call__(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Run the graph on the arrays that `Preprocess.join` makes; it takes those that it has inputs for."""
        try:
            return self.run(arrays)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            # Graphs of other exporters can hold operators that oneDNN's executor does not take.
            if self.device == "GPU" or not self.onednn:
                raise
            logger.warning("oneDNN cannot run this graph, going on without: %s", str(error).strip().splitlines()[-1])
            self.onednn = False
            self.load()
            return self.run(arrays)

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        for name in self.inputs:
            self.predictor.get_input_handle(name).copy_from_cpu(np.ascontiguousarray(arrays[name]))
        self.predictor.run()
        return [self.predictor.get_output_handle(name).copy_to_cpu() for name in self.outputs]
