"""Every shipped recipe trains on objects of about the size at which it detects them, also in very large images."""

import numpy as np
import pytest
from small_configs import CONFIGS

from ppdet.core.workspace import load_config
from ppdet.data.transforms import Compose, NormalizeImage

SEEDS = range(3)
SLACK = 1.6  # between the detector's size of objects and the nearest of those that training draws


def scales(cfg, reader, seeds):
    """The factors by which a reader's transforms resize an image of 1050 x 1400 pixels."""
    transforms = cfg.component(reader).create("sample_transforms")
    pixels_end = next((i for i, one in enumerate(transforms) if isinstance(one, NormalizeImage)), len(transforms))
    compose, found = Compose(transforms[:pixels_end]), []
    for seed in seeds:
        sample = {"image": np.zeros((1050, 1400, 3), np.uint8), "gt_bbox": np.array([[100, 100, 900, 900]], np.float32)}
        found.append(float(compose(sample, np.random.default_rng(seed))["scale_factor"].max()))
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_objects_are_as_large_in_training_as_in_detection(path):
    cfg = load_config(path)
    trained = scales(cfg, "SemiTrainReader" if cfg["ssod_method"] else "TrainReader", SEEDS)
    for reader in ("EvalReader", "TestReader"):
        (detected,) = scales(cfg, reader, [0])
        assert min(trained) / SLACK <= detected <= max(trained) * SLACK
