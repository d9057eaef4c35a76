"""infer_cfg.yml says what training's transforms do."""

import numpy as np
import yaml

from ppdet.data.transform import Compose, Decode, NormalizeImage, PadBatch, Permute, Resize
from ppdet.deploy.preprocess import Preprocess
from ppdet.engine.export import describe_transforms


def test_deployment_makes_the_batch_that_evaluation_makes():
    """With every option that the file may have, also after it was written and read."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, size, dtype=np.uint8) for size in ((30, 50, 3), (48, 20, 3))]
    samples = [
        Decode(),
        Resize(target_size=65, interp=2),
        NormalizeImage(mean=[1, 2, 3], std=[4, 5, 6], is_scale=False, channel_order="bgr"),
        Permute(),
    ]
    batches = [PadBatch(pad_to_stride=32, pad_to_size=[65, 100])]
    described = describe_transforms([*samples, *batches], "file")
    deployed = Preprocess(yaml.safe_load(yaml.safe_dump({"Preprocess": described})))
    arrays = deployed.join([deployed.prepare(image) for image in images])
    expected = Compose(batches)([Compose(samples)({"image": image}) for image in images])
    assert arrays["image"].shape == (2, 3, 96, 128)
    for key, array in arrays.items():
        assert np.array_equal(array, np.stack([sample[key] for sample in expected])), key
