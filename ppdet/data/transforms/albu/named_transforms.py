"""Building Albumentations transforms from plain values, such as those of a YAML file.

A configuration may come from a stranger, and must not run code, read files, or ask for all of the memory. For this
reason only the transforms below can be named: none of them takes a function or a path, or makes the image larger.
Parameters are plain values, and numbers are bounded, more narrowly where time or memory grow with a power of them.
"""

import inspect
import os
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from ppdet.data.transforms.base import check_some
from ppdet.utils.errors import ConfigError, nearest
from ppdet.utils.extras import require_package

# Transforms that change pixel values only.
PIXELS = frozenset([
    "AdditiveNoise", "AdvancedBlur", "AutoContrast", "Blur", "CLAHE", "ChannelDropout", "ChannelShuffle",
    "ChromaticAberration", "ColorJitter", "Defocus", "Downscale", "Emboss", "Equalize", "FancyPCA", "GaussNoise",
    "GaussianBlur", "HEStain", "HueSaturationValue", "ISONoise", "Illumination", "ImageCompression", "InvertImg",
    "MedianBlur", "MotionBlur", "MultiplicativeNoise", "PixelDropout", "PlanckianJitter", "PlasmaBrightnessContrast",
    "PlasmaShadow", "Posterize", "RGBShift", "RandomBrightnessContrast", "RandomFog", "RandomGamma", "RandomRain",
    "RandomShadow", "RandomSnow", "RandomSunFlare", "RandomToneCurve", "RingingOvershoot", "SaltAndPepper",
    "Sharpen", "ShotNoise", "Solarize", "Spatter", "ToGray", "ToSepia", "UnsharpMask",
])  # fmt: skip
# Transforms that move pixels or remove some, and move or drop boxes.
MOVES = frozenset([
    "Affine", "BBoxSafeRandomCrop", "CoarseDropout", "D4", "ElasticTransform", "Erasing", "GridDistortion",
    "GridDropout", "HorizontalFlip", "OpticalDistortion", "Perspective", "RandomCropFromBorders", "RandomRotate90",
    "Rotate", "SafeRotate", "ShiftScaleRotate", "ThinPlateSpline", "Transpose", "VerticalFlip", "XYMasking",
])  # fmt: skip
# Compositions: each has a list `transforms` of its own.
GROUPS = frozenset(("OneOf", "SomeOf", "Sequential"))
# Parameters that let the image grow without a limit, or give it another number of channels than three.
REFUSED = ("fit_output", "num_output_channels")
MAX_NUMBER = 1000
# Parameters with which an image takes seconds, or gigabytes, long before they are 1000.
LARGEST = {
    "num_control_points": 5,  # memory is proportional to its square times the image's area
    "holes_number_xy": 100,  # in each direction
    "num_shadows_limit": 20,
    "num_flare_circles_range": 50,
}
MAX_TRANSFORMS = 100
MAX_DEPTH = 4  # of lists within lists


def load_albumentations() -> ModuleType:
    """Import albumentations without letting it ask the network for a newer version; ConfigError if it is absent."""
    require_package(ConfigError, "albumentations")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def read_entry(entry: Any, where: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of a transform: `{Blur: {p: 0.1}}`, or `{type: Blur, p: 0.1}` of MMDetection.

    Raises:
        ValueError: it is neither of the two, or the transform is none that a configuration may name.
    """
    if isinstance(entry, Mapping) and "type" in entry:
        name, parameters = entry["type"], {key: value for key, value in entry.items() if key != "type"}
    elif isinstance(entry, Mapping) and len(entry) == 1:
        [(name, parameters)] = entry.items()
    else:
        raise ValueError(f"{where} is {entry!r:.80}, expected a transform such as {{Blur: {{p: 0.1}}}}")
    if not isinstance(name, str) or name not in PIXELS | MOVES | GROUPS:
        known = nearest(str(name), sorted(PIXELS | MOVES | GROUPS))
        expected = "one of the Albumentations transforms in docs/AUGMENTATION.md"
        raise ValueError(f"{where} is {name!r:.60}, expected {expected}{known}")
    if not isinstance(parameters or {}, Mapping):
        raise ValueError(f"{where}.{name} is {parameters!r:.60}, expected its parameters as a mapping")
    return name, dict(parameters or {})


def names_in(entries: Sequence[Any], where: str, depth: int = 1) -> list[str]:
    """Return the names of all transforms in a list, and in the lists of the groups in it.

    Raises:
        ValueError: a list is none or empty, or there are too many of them within each other, or too many transforms.
    """
    if depth > MAX_DEPTH or not isinstance(entries, Sequence) or isinstance(entries, str):
        raise ValueError(f"{where}: expected a list of transforms, with at most {MAX_DEPTH} lists within each other")
    check_some(entries, where, "at least one transform")
    names: list[str] = []
    for i, entry in enumerate(entries):
        name, parameters = read_entry(entry, f"{where}.{i}")
        names.append(name)
        if name in GROUPS:
            names += names_in(parameters.get("transforms", ()), f"{where}.{i}.{name}.transforms", depth + 1)
        if len(names) > MAX_TRANSFORMS:
            raise ValueError(f"{where} has more than {MAX_TRANSFORMS} transforms")
    return names


def build(entries: Sequence[Any], where: str) -> list[Any]:
    """Return the Albumentations transforms of a list that `names_in` has accepted.

    Raises:
        ValueError: a transform has no such parameter, or does not accept its value.
    """
    albumentations = load_albumentations()
    transforms = []
    for i, entry in enumerate(entries):
        name, parameters = read_entry(entry, f"{where}.{i}")
        place = f"{where}.{i}.{name}"
        if name in GROUPS:
            members = parameters["transforms"] = build(parameters.get("transforms", ()), f"{place}.transforms")
            if isinstance(parameters.get("n"), int) and parameters["n"] > len(members):
                # With `replace`, groups within each other would apply transforms a number of times to the power of 4.
                raise ValueError(f"{place}.n is {parameters['n']}, but its list has {len(members)} transforms")
        transforms.append(_build_one(getattr(albumentations, name, None), parameters, place))
    return transforms


def _build_one(cls: type | None, parameters: dict[str, Any], place: str) -> Any:
    if cls is None:
        raise ValueError(f"{place}: the installed version of albumentations has no such transform")
    # Albumentations itself ignores unknown parameters, with a warning.
    known = [name for name in inspect.signature(cls).parameters if name not in REFUSED]
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"{place} has no parameter {name!r:.60}{nearest(str(name), known)}")
        if name != "transforms":
            check_plain(value, f"{place}.{name}", LARGEST.get(name, MAX_NUMBER))
    try:
        return cls(**parameters)
    except Exception as error:  # its own checks raise errors of many kinds, with several lines
        lines = [line.strip() for line in str(error).splitlines() if "For further information" not in line]
        raise ValueError(f"{place}: {' '.join(lines):.300}") from None


def check_plain(value: Any, name: str, most: int = MAX_NUMBER) -> None:
    """Raise ValueError unless a parameter is a plain value, or a list or mapping of such, with numbers up to `most`."""
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for one in value:
            check_plain(one, name, most)
    elif isinstance(value, (int, float)):
        if not -most <= value <= most:
            raise ValueError(f"{name} is {value}, expected numbers from {-most} to {most}")
    elif value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.60}, expected plain values: numbers, words, lists and mappings of them")
