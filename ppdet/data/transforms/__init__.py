"""Operations on samples with NumPy and OpenCV only, so that training and deployed models share them.

`Transform` in `base.py` says what a transform is. A sample is a dict with these fields:

- `image`: (H, W, 3) RGB uint8 after Decode; float32 after NormalizeImage; (3, H, W) after Permute.
- `im_id`: (1,) int64, the id of the image.
- `im_file`: path of the image.
- `im_shape`: (2,) float32 height and width of `image`, without padding.
- `scale_factor`: (2,) float32 scales in y and x: size of `image` / size of the file's image.
- `gt_bbox`: (M, 4) float32 x1, y1, x2, y2 in pixels of `image`.
- `gt_class`: (M, 1) int32 classes, from 0.
- `is_crowd`: (M, 1) int32.
- `curr_iter`: the training step that the sample belongs to.
"""

from ppdet.data.transforms.albu import Albu
from ppdet.data.transforms.auto_augment import AutoAugment
from ppdet.data.transforms.base import Transform
from ppdet.data.transforms.batches.pad_batch import PadBatch
from ppdet.data.transforms.batches.resize_batch import BatchRandomResize
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.data.transforms.composing.compose import Compose
from ppdet.data.transforms.composing.random_select import RandomSelect
from ppdet.data.transforms.decode import Decode, decode_image, read_image
from ppdet.data.transforms.geometry.crop import RandomCrop, RandomExpand
from ppdet.data.transforms.geometry.flips import RandomFlip, RandomRotate90, RandomVerticalFlip
from ppdet.data.transforms.geometry.perspective import RandomAffine, RandomPerspective
from ppdet.data.transforms.geometry.random_sizes import RandomResize, RandomShortSideResize
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.data.transforms.geometry.resize_crop import RandomResizeCrop, RandomSizeCrop
from ppdet.data.transforms.mixing.mixup_cutmix import Cutmix, Mixup
from ppdet.data.transforms.mixing.mosaic import Mosaic
from ppdet.data.transforms.normalize import NormalizeImage, Permute
from ppdet.data.transforms.pixels.color import RandomDistort
from ppdet.data.transforms.pixels.grid_mask import GridMask
from ppdet.data.transforms.pixels.strong import (
    RandomColorJitter,
    RandomErasingCrop,
    RandomGaussianBlur,
    RandomGrayscale,
    StrongAugImage,
)

__all__ = [
    "Albu",
    "AutoAugment",
    "BatchRandomResize",
    "Compose",
    "Cutmix",
    "Decode",
    "GridMask",
    "Gt2FCOSTarget",
    "Mixup",
    "Mosaic",
    "NormalizeImage",
    "PadBatch",
    "Permute",
    "RandomAffine",
    "RandomColorJitter",
    "RandomCrop",
    "RandomDistort",
    "RandomErasingCrop",
    "RandomExpand",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomPerspective",
    "RandomResize",
    "RandomResizeCrop",
    "RandomRotate90",
    "RandomSelect",
    "RandomShortSideResize",
    "RandomSizeCrop",
    "RandomVerticalFlip",
    "Resize",
    "StrongAugImage",
    "Transform",
    "decode_image",
    "read_image",
]
