"""Operations on samples, numpy and OpenCV only: training and deployed models share them.

A sample transform is called `transform(sample, rng) -> sample`, a batch transform
`transform(samples, rng) -> samples`; all randomness comes from the numpy Generator `rng`.
Transforms replace a sample's arrays and never write into them: records share theirs between epochs.

A sample: `image` (H, W, 3) RGB uint8 after Decode; `im_id` (1,); `im_shape` (h, w) float32 of the resized
image; `scale_factor` (scale_y, scale_x) float32, resized / original; `gt_bbox` (M, 4) float32 x1, y1, x2, y2
in pixels of the current image; `gt_class` (M, 1) int32 from 0; `is_crowd` (M, 1) int32; `curr_iter` int, the
training step the sample belongs to.

What a transform is to normalisation, which readers leave to the device where they can: `keeps_uint8` says that it
gives uint8 images for uint8 images, `im_shape` being their size; `moves_pixels` that it moves pixels without a look at
their values, or leaves them alone, so that it may as well come before NormalizeImage as after. Without these
attributes, or with images that are not uint8, everything is done in the order of the list. `pixels_only` says that a
transform changes the values of `image` alone, neither its size nor any other field: views of an image are made by no
other.
"""

from ppdet.data.transforms.batch import PadBatch
from ppdet.data.transforms.color import NormalizeImage, Permute, RandomDistort
from ppdet.data.transforms.compose import Compose
from ppdet.data.transforms.crop import RandomCrop, RandomExpand
from ppdet.data.transforms.decode import Decode, decode_image, read_image
from ppdet.data.transforms.geometry import RandomFlip, RandomResize, Resize
from ppdet.data.transforms.strong import (
    RandomColorJitter,
    RandomErasingCrop,
    RandomGaussianBlur,
    RandomGrayscale,
    StrongAugImage,
)
from ppdet.data.transforms.targets import Gt2FCOSTarget

__all__ = [
    "Compose",
    "Decode",
    "Gt2FCOSTarget",
    "NormalizeImage",
    "PadBatch",
    "Permute",
    "RandomColorJitter",
    "RandomCrop",
    "RandomDistort",
    "RandomErasingCrop",
    "RandomExpand",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomResize",
    "Resize",
    "StrongAugImage",
    "decode_image",
    "read_image",
]
