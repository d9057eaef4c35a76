"""What the graph of an export may get, which TensorRT has to know before it compiles."""

from pathlib import Path

import numpy as np

from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.preprocess import Preprocess, Size, read_infer_cfg


def warm_up(folder: Path, max_batch: int) -> list[dict[str, np.ndarray]]:
    """What the graph of an export may get: the smallest image, one of the usual size twice, the largest batch.

    Noise, as large as normalised pixels are. What comes most often is what Paddle compiles for in the first place.

    Raises:
        DeployError: infer_cfg.yml does not say what sizes may come.
    """
    least, usual, largest = Preprocess(read_infer_cfg(folder)).sizes()
    check = SelfCheck.read(folder)
    if check is not None:  # "auto" runs it, whatever size images are resized to
        size = check.arrays["image"].shape[2:]
        least, largest = tuple(map(min, least, size)), tuple(map(max, largest, size))
    noise = np.random.default_rng(0)

    def batch(count: int, size: Size) -> dict[str, np.ndarray]:
        return {
            "image": noise.standard_normal((count, 3, *size), dtype=np.float32),
            "scale_factor": np.ones((count, 2), np.float32),
            "im_shape": np.full((count, 2), size, np.float32),
        }

    return [batch(1, least), batch(1, usual), batch(1, usual), batch(max_batch, largest)]
