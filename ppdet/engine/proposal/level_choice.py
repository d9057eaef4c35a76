"""The feature levels that fit a data set at an input size: whether P2 is needed, and the bounds between the levels."""

from collections.abc import Sequence

import numpy as np

from ppdet.data.checking.level_fit import LevelFit, fit_levels, scale_of
from ppdet.data.transforms.batches.targets import Gt2FCOSTarget
from ppdet.engine.proposal.found_data import FoundData

P2_BASE = "_base_/p2.yml"
TINY = 16  # pixels: below, a box is less than two strides of 8 wide, and has only a location or two of its own
# Share of the positive locations on one level above which the bounds may change. BCCD's measured recipe has 92 % on one
# level, and lower bounds changed AP by less than chance (docs/SMALL_DATA.md).
MOST_ON_ONE = 0.95
LEAST_GAIN = 0.1  # by which they have to lower this share
LEAST_BOXES = 50  # for a share that means something (a rule of thumb)
OCTAVE = 2.0  # the sizes that one level is meant for differ by this factor


def smallest_side(data: FoundData, input_size: Sequence[float]) -> float:
    """Square root of the area that the smallest twentieth of the boxes stays below, in pixels of the input."""
    return float(np.quantile(data.sides, 0.05)) * scale_of(data.short, data.long, *input_size)


def choose_bounds(data: FoundData, input_size: tuple[int, int], *, has_p2: bool) -> tuple[list[int] | None, str]:
    """Choose `object_sizes_boundary`, and say why; None: the published bounds stay.

    Published bounds are eight strides of the finer level, and suit images of 800 x 1333 pixels. They stay unless one
    level has more than MOST_ON_ONE of the positive locations. Then they are halved, so that each level still covers an
    octave, unless that lowers this share by less than LEAST_GAIN, or leaves more boxes without a location. They also
    stay where bounds say little: with fewer than LEAST_BOXES boxes, or boxes of nearly one size, which belong on one
    level. Halved twice, they would reject most locations beside the center of a box, whose side is 4 strides at least:
    the largest distance grows by up to `center_sampling_radius` strides, and would be above the level's bound.

    No level is left out: those above P5 take less than 2 % of the head's time, and larger objects may still come.

    Args:
        input_size: short and long side in pixels.
        has_p2: whether there is a level of stride 4.
    """
    strides = [4, 8, 16, 32, 64, 128] if has_p2 else [8, 16, 32, 64, 128]
    longer = [(b[:, 2:] - b[:, :2]).max(axis=1) * scale_of(*size, *input_size) for b, _, size in data.sample]
    sides = np.concatenate([np.zeros(0), *longer])
    if len(sides) < LEAST_BOXES or np.quantile(sides, 0.95) < OCTAVE * np.quantile(sides, 0.05):
        return None, ""

    def fitted(bounds: list[int]) -> LevelFit:
        target = Gt2FCOSTarget(object_sizes_boundary=bounds, downsample_ratios=strides)
        return fit_levels(data.sample, target, *input_size)

    published = [8 * stride for stride in strides[:-1]]
    first = fitted(published)
    if largest_share(first) <= MOST_ON_ONE:
        return None, ""
    halved = fitted([bound // 2 for bound in published])
    before, after = largest_share(first), largest_share(halved)
    if after > before - LEAST_GAIN or halved.is_missed.sum() > first.is_missed.sum():
        return None, ""
    return [bound // 2 for bound in published], (
        f"pixels of the input: with the base's {', '.join(map(str, published))}, one level would have {before:.0%} of "
        f"the positive locations, here {after:.0%}"
    )


def largest_share(fit: LevelFit) -> float:
    """The share of the positive locations that the level with most of them has, in 0..1; 1 if there are none."""
    return float(fit.positives.max() / fit.positives.sum()) if fit.positives.any() else 1.0
