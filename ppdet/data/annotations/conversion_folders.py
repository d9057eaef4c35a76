"""Checking, before anything is written, that a conversion changes neither what it reads nor files of others."""

import os

from ppdet.utils.disk.images import is_within
from ppdet.utils.errors import DataError


def check_folders(source: str, target: str, image_dir: str | None, *, replaces: bool, keeps_images: bool) -> str:
    """Return the folder of the source.

    Args:
        source: the folder or file that is converted.
        target: the folder to write to. It may be in the folder of a source that is a file, as where that was downloaded
            to, but not in a folder all of whose files are read: a source that is one, or that of YOLO's data.yaml.
        image_dir: another folder in which images are looked for.
        replaces: whether files of the target may be replaced.
        keeps_images: whether no images are written to the target.

    Raises:
        DataError: one of the three does not exist or is of another kind, or what is written would be in the source or
            over files that are read.
    """
    if not os.path.exists(source):
        raise DataError(f"{source} does not exist: name the folder, or the file, that the labelling tool exported")
    if image_dir is not None and not os.path.isdir(image_dir):
        raise DataError(f"--image_dir {image_dir} is no folder: name the one that has the images")
    real_source, real_target = os.path.realpath(source), os.path.realpath(target)
    root = source if os.path.isdir(source) else os.path.dirname(source)
    if (os.path.isdir(source) or is_yaml(source)) and is_within(real_target, os.path.realpath(root)):
        raise DataError(
            f"{target} is in {root}, all of which is read, and nothing in it changed: name a folder outside of it, "
            "such as ../my_data, or convert the annotation file alone"
        )
    if os.path.exists(target) and not os.path.isdir(target):
        raise DataError(f"{target} is a file: name a folder to write to")
    if is_within(real_source, real_target):
        raise DataError(f"{source} is in {target}, which is written to: name another folder to write to")
    if image_dir is not None and not keeps_images and is_within(os.path.realpath(image_dir), real_target):
        raise DataError(
            f"--image_dir {image_dir} is in {target}, to which images are written: add --images keep, or name another "
            "folder to write to"
        )
    if not replaces and os.path.isdir(target) and os.listdir(target):
        raise DataError(f"{target} is not empty: name another folder, or add --overwrite to replace what is in it")
    return root


def is_yaml(path: str) -> bool:
    """Whether a name is that of a YAML file, such as YOLO's data.yaml, which stands for the data set in its folder."""
    return path.lower().endswith((".yaml", ".yml"))
