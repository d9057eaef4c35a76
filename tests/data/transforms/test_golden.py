"""The data path against numbers of a reference implementation on real images (../shared/goldens)."""

import numpy as np
import pytest
from reference import prepared_samples

from ppdet.data.transforms import Gt2FCOSTarget

SETTINGS = {
    "default": {},
    "nocenter": {"center_sampling_radius": 0},
    "nonorm": {"norm_reg_targets": False},
    "shift0": {"num_shift": 0.0},
    "mult": {"multiply_strides_reg_targets": True},
}


def test_preprocessed_images(shared):
    golden = np.load(shared / "goldens" / "forward_fcos_r50_fpn_1x_coco.npz")
    samples = prepared_samples(shared, golden["image_ids"])
    # JPEG decoders differ by a level of 255 between versions: 1/255/0.224.
    assert np.allclose(np.stack([sample["image"] for sample in samples]), golden["image"], atol=0.018)
    assert np.abs(np.stack([sample["image"] for sample in samples]) - golden["image"]).mean() < 1e-3
    assert np.allclose([sample["im_shape"] for sample in samples], golden["im_shape"])
    assert np.allclose([sample["scale_factor"] for sample in samples], golden["scale_factor"], atol=1e-7)


@pytest.mark.parametrize("name", SETTINGS)
def test_targets_from_the_annotation_file_on(shared, name):
    golden = np.load(shared / "goldens" / "targets.npz")
    samples = Gt2FCOSTarget(**SETTINGS[name])(prepared_samples(shared, golden["image_ids"]))
    for n, sample in enumerate(samples):
        assert np.allclose(sample["gt_bbox"], golden[f"{n}.gt_bbox"], atol=1e-4)
        assert np.array_equal(sample["gt_class"], golden[f"{n}.gt_class"])
        assert sample["image"].shape == tuple(golden[f"{n}.image_shape"])

        def levels(kind, *shape, n=n):
            return np.concatenate([golden[f"{name}.{n}.{kind}{k}"].reshape(-1, *shape) for k in range(5)])

        labels = levels("labels")
        assert np.array_equal(sample["target_labels"], labels)
        positive = labels > 0
        assert positive.sum() > 100
        distances = levels("reg_target", 4)[positive]
        assert np.allclose(sample["target_distances"][positive], distances, rtol=0, atol=1e-4)
        assert np.allclose(sample["target_centerness"], levels("centerness"), rtol=0, atol=1e-4)
