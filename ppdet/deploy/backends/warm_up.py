"""Sample inputs for a graph, from the smallest to the largest, which TensorRT needs to compile it."""

from pathlib import Path

import numpy as np

from ppdet.deploy.compare import SelfCheck
from ppdet.deploy.preprocess import Preprocess, Size, read_infer_cfg


def warm_up(folder: Path, max_batch: int) -> list[dict[str, np.ndarray]]:
    """Batches of noise, as `Preprocess.join` makes batches: the smallest image, an image of the usual size twice, and
    `max_batch` images of the largest size.

    Paddle optimizes for the size that comes most often, hence twice.

    Raises:
        DeployError: infer_cfg.yml does not say which image sizes may come.
    """
    smallest, usual, largest = Preprocess(read_infer_cfg(folder)).sizes()
    check = SelfCheck.read(folder)
    if check is not None:  # backend "auto" runs its images, whose size is their own
        h, w = check.arrays["image"].shape[2:]
        smallest = min(smallest[0], h), min(smallest[1], w)
        largest = max(largest[0], h), max(largest[1], w)
    noise = np.random.default_rng(0)

    def batch(count: int, size: Size) -> dict[str, np.ndarray]:
        return {
            "image": noise.standard_normal((count, 3, *size), dtype=np.float32),
            "scale_factor": np.ones((count, 2), np.float32),
            "im_shape": np.full((count, 2), size, np.float32),
        }

    return [batch(1, smallest), batch(1, usual), batch(1, usual), batch(max_batch, largest)]
